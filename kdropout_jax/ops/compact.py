"""The masked product as small dense products over the kept units.

For patterns that keep an exact count, so that the kept units of T subnets fit
one rectangular array. Nothing is scattered: small results return to full size
by an inverse gather and a select, which is tens of times faster on a CPU. All
index handling is in `Units`; the products only name axes. What is gathered is
pinned to row-major order: XLA may else give it transposed to a product, which
then runs two or three times slower.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdropout_jax import blocks
from kdropout_jax.ops import classes
from kdropout_jax.ops import dense
from kdropout_jax.ops import layouts
from kdropout_jax.ops import parts
from kdropout_jax.ops import problems

__all__ = ()

_MAX_UNROLLED = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Units(blocks.Kept):
  """The kept units of one side, for T groups.

  Attributes:
    class_size: P where each P consecutive groups may partition the units.
  """

  class_size: int | None = None

  def take_columns(self, x: Float[Array, "T R W"]) -> Float[Array, "T R N"]:
    """Gathers each group's kept columns."""
    small = self._zero_invalid(_each(_columns, x, self.units), axis=2)
    return layouts.row_major(small)

  def take_weights(self, w: Float[Array, "W O"]) -> Float[Array, "T N O"]:
    """Gathers, for each group, the kept rows of a matrix that all share."""
    return layouts.row_major(_for_each(_rows, w, self.units))

  def put_columns(self, small: Float[Array, "T R N"]) -> Float[Array, "T R W"]:
    """Spreads small columns to full width, zero where dropped."""
    full = _each(_columns, small, self.place)
    return jnp.where(self.keep[:, None, :], full, jnp.zeros((), small.dtype))

  def sum_rows(self, small: Float[Array, "T N O"]) -> Float[Array, "W O"]:
    """Spreads small rows to full height and sums over the groups."""
    arrays = (self.keep, self.place, small)
    if self.class_size is None:
      return _sum_rows(*arrays)
    return classes.sum_rows(*arrays, self.class_size, _sum_rows)

  def _zero_invalid(self, small, axis):
    if self.live is None:
      return small
    live = jnp.expand_dims(self.live, 3 - axis)
    return jnp.where(live, small, jnp.zeros((), small.dtype))


def _sum_rows(keep, place, small):
  zero = jnp.zeros((), small.dtype)
  if small.shape[0] > _MAX_UNROLLED:
    full = _each(_rows, small, place)
    return jnp.sum(jnp.where(keep[:, :, None], full, zero), axis=0)
  # A chain of selects fuses into one pass over the result.
  return functools.reduce(
    jnp.add,
    (
      jnp.where(keep[:, None], _rows(rows, place), zero)
      for keep, rows, place in zip(keep, small, place)
    ),
  )


def kept_units(side: problems.Side, keep: dense.Keep) -> Units | None:
  """Returns the index tables of one side, or None where it has no mask."""
  if keep is None:
    return None
  size, width = side.block_size, side.width
  within = jnp.arange(size, dtype=jnp.int32)
  units, place = (
    (table[:, :, None] * size + within[None, None, :]).reshape(
      table.shape[0], -1
    )
    for table in blocks.kept_first(keep, max(side.num_kept or 0, 1))
  )
  live = None
  if side.num_kept == 0:
    live = jnp.zeros(units.shape, jnp.bool_)
  elif width % size:
    live = units < width
  return Units(
    units=jnp.minimum(units, width - 1),
    place=place[:, :width],
    keep=blocks.expand(keep, width, size),
    live=live,
    class_size=_class_size(side, keep.shape[0]),
  )


def _class_size(side: problems.Side, groups: int) -> int | None:
  """Returns P where P consecutive groups may be a class, else None."""
  design, size = side.design, side.block_size
  if design is None or groups % design.parts or side.width % size:
    return None
  return design.parts


def forward(
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  w: Float[Array, "I O"],
  b: Float[Array, "O"] | None,
  in_keep: dense.Keep,
  out_keep: dense.Keep,
  *,
  activation: str | None = None,
) -> Float[Array, "B P O"]:
  """As `dense.forward`; multiplies kept inputs by kept outputs only."""
  y = _forward(problem, x, w, in_keep, out_keep)
  y = dense.epilogue(merge_rows(problem, y), b, activation)
  # Without a bias dropped columns are zero already.
  if b is not None or not problem.outputs.masked:
    y = dense.keep_units(problem, problem.outputs, y, out_keep)
  # Gathers of the next layer and of dw read y column by column: what it is made
  # from must not be fused into those loops and be computed there unit by unit.
  return jax.lax.optimization_barrier(y)


def _forward(problem, x, w, in_keep, out_keep):
  """Returns the product of each group's rows, [T, R, O]."""
  if parts.serves(problem):
    return parts.forward(problem, split_rows(problem, x), w)
  ins, outs = _tables(problem, in_keep, out_keep)
  x = _small_rows(problem, x, ins)
  y = layouts.row_major(
    _batched(problem, x, _small_weights(w, ins, outs), 2, 1, problem.out)
  )
  return y if outs is None else outs.put_columns(y)


def dx(
  problem: problems.Problem,
  dy: Float[Array, "B P O"],
  w: Float[Array, "I O"],
  in_keep: dense.Keep,
  out_keep: dense.Keep,
) -> Float[Array, "B P I"]:
  """As `dense.dx`."""
  if parts.serves(problem):
    small = parts.dx(problem, split_rows(problem, dy), w)
    return merge_rows(problem, small)
  ins, outs = _tables(problem, in_keep, out_keep)
  dy = _small_rows(problem, dy, outs)
  dx = _batched(problem, dy, _small_weights(w, ins, outs), 2, 2)
  return merge_rows(problem, dx if ins is None else ins.put_columns(dx))


def dw(
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  dy: Float[Array, "B P O"],
  in_keep: dense.Keep,
  out_keep: dense.Keep,
) -> Float[Array, "I O"]:
  """As `dense.dw`."""
  if parts.serves(problem):
    rows = (split_rows(problem, x), split_rows(problem, dy))
    return parts.dw(problem, *rows)
  ins, outs = _tables(problem, in_keep, out_keep)
  x, dy = _small_rows(problem, x, ins), _small_rows(problem, dy, outs)
  if ins is None and outs is not None and problem.groups > 1:
    # Rows of the transposed gradient are spread, not columns of each group.
    small = layouts.row_major(_batched(problem, dy, x, 1, 1))
    return layouts.row_major(layouts.row_major(outs.sum_rows(small)).T)
  small = layouts.row_major(_batched(problem, x, dy, 1, 1))
  small = small if outs is None else layouts.row_major(outs.put_columns(small))
  return jnp.sum(small, axis=0) if ins is None else ins.sum_rows(small)


def split_rows(
  problem: problems.Problem, x: Float[Array, "B P W"]
) -> Float[Array, "T R W"]:
  """Returns the rows of each group, filled up with zero rows where short."""
  rows, groups, width = problem.rows, problem.groups, x.shape[-1]
  if rows % groups == 0:
    return x.reshape(groups, rows // groups * problem.positions, width)
  starts = blocks.row_starts(rows, groups)
  each = -(-rows // groups)
  row = starts[:-1, None] + np.arange(each, dtype=np.int32)[None, :]
  real = jnp.asarray(row < starts[1:, None])[:, :, None, None]
  split = jnp.take(x, np.minimum(row, rows - 1), axis=0)
  split = jnp.where(real, split, jnp.zeros((), x.dtype))
  return split.reshape(groups, each * problem.positions, width)


def merge_rows(
  problem: problems.Problem, x: Float[Array, "T R W"]
) -> Float[Array, "B P W"]:
  """Undoes `split_rows`."""
  rows, groups, width = problem.rows, problem.groups, x.shape[-1]
  shape = (rows, problem.positions, width)
  if rows % groups == 0:
    return x.reshape(shape)
  slots = blocks.row_slots(rows, groups)
  place = (
    np.arange(rows, dtype=np.int32) - blocks.row_starts(rows, groups)[slots]
  )
  return x.reshape(groups, -1, problem.positions, width)[slots, place]


def _tables(problem: problems.Problem, in_keep, out_keep):
  """Returns the index tables of both sides, None where there is no mask."""
  ins = kept_units(problem.inputs, in_keep)
  return ins, kept_units(problem.outputs, out_keep)


def _small_rows(problem: problems.Problem, x, units: Units | None):
  """Returns the kept part of the rows of each group, [T, R, W']."""
  x = split_rows(problem, x)
  return x if units is None else units.take_columns(x)


def _small_weights(w, ins: Units | None, outs: Units | None):
  """Returns the kept part of `w` for every group, [T, I', O'] (T may be 1).

  Rows first, then columns: rows are copied whole, columns one by one.
  """
  if ins is None:
    if outs is None:
      return w[None]
    return layouts.row_major(_for_each(_columns, w, outs.units))
  small = ins.take_weights(w)
  return small if outs is None else outs.take_columns(small)


def _batched(problem, a, b, a_axis: int, b_axis: int, out: str | None = None):
  """Multiplies group by group; an operand with one group serves all."""
  dot = functools.partial(dense.dot, problem, out=out)
  if b.shape[0] == 1 and a.shape[0] > 1:
    return dot(a, b[0], ((a_axis,), (b_axis - 1,)))
  if a.shape[0] == 1:
    return dot(a[0], b[0], ((a_axis - 1,), (b_axis - 1,)))[None]
  return dot(a, b, ((a_axis,), (b_axis,)), ((0,), (0,)))


def _each(gather, a, index):
  """Gathers group by group; one group goes without a batch axis."""
  if a.shape[0] == 1:
    # XLA turns a batched gather into a slower one with two indices.
    return gather(a[0], index[0])[None]
  return jax.vmap(gather)(a, index)


def _for_each(gather, a, index):
  """Gathers for every group from one array."""
  if index.shape[0] == 1:
    return gather(a, index[0])[None]
  return jax.vmap(gather, (None, 0))(a, index)


def _rows(a, index):
  return a.at[index].get(mode="promise_in_bounds")


def _columns(a, index):
  return a.at[:, index].get(mode="promise_in_bounds")
