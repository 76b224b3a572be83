"""The masked product where the kept units lie in order: slices, no index.

For masks of one whole group whose units lie in the order of their parts
(`_designs.Design.in_order`), as `kd.subnets.PermutedTrainer` keeps them. What
a subnet keeps is then a few runs of adjacent units, known before the program
runs. With a mask on one side each part is one product of all rows that keep
it, which reads every weight once and adds no gradient to another. With a mask
on both, each group copies the blocks of weights that it keeps, where its rows
repay them; else one of the masks is left to the other operand, as zeros.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdropout_jax import _designs
from kdropout_jax.ops import dense
from kdropout_jax.ops import layouts
from kdropout_jax.ops import measured
from kdropout_jax.ops import problems

__all__ = ()


def serves(problem: problems.Problem) -> bool:
  """Returns whether the masks of a problem are known to lie in order."""
  sides = [s for s in (problem.inputs, problem.outputs) if s.masked]
  return (
    bool(sides)
    and all(map(_is_in_order, sides))
    and all(s.design.size == problem.groups for s in sides)  # pyright: ignore[reportOptionalMemberAccess]
    and problem.rows % problem.groups == 0
  )


def _is_in_order(side: problems.Side) -> bool:
  return side.design is not None and side.design.in_order


@dataclasses.dataclass(frozen=True)
class Parts:
  """Which parts of one axis each group keeps.

  Attributes:
    design: of the masks.
  """

  design: _designs.Design

  @functools.cached_property
  def of_group(self) -> np.ndarray:
    """The parts of each group, int [T, S]."""
    return np.stack([np.flatnonzero(row) for row in self.design.table])

  @functools.cached_property
  def place(self) -> np.ndarray:
    """Where a part stands among those of a group that keeps it, int [T, Q]."""
    return np.cumsum(self.design.table, axis=1) - 1

  @functools.cached_property
  def runs(self) -> list[list[tuple[int, int]]]:
    """The adjacent parts of each group: (first, one past the last)."""
    runs = []
    for parts in self.of_group:
      cuts = np.flatnonzero(np.diff(parts) > 1) + 1
      own = np.split(parts, cuts)
      runs.append([(int(run[0]), int(run[-1]) + 1) for run in own])
    return runs

  @functools.cached_property
  def groups(self) -> np.ndarray:
    """The groups that keep each part, int [Q, U]."""
    return np.stack([np.flatnonzero(column) for column in self.design.table.T])

  def split(self, x: Float[Array, "T R W"]) -> Float[Array, "Q UR V"]:
    """Returns each part's columns, of the rows of all groups that keep it."""
    x = self._columns(x)
    return jnp.stack(
      [
        jnp.concatenate([x[t, :, part] for t in groups])
        for part, groups in enumerate(self.groups)
      ]
    )

  def merge(self, x: Float[Array, "Q UR V"]) -> Float[Array, "T R W"]:
    """Undoes `split`; zero where a group drops a part."""
    x = self._by_group(x)
    return _side_by_side(
      [
        [x[p, self._place(t, p)] if has else None for p, has in enumerate(row)]
        for t, row in enumerate(self.design.table)
      ]
    )

  def repeat(self, x: Float[Array, "T R W"]) -> Float[Array, "Q UR W"]:
    """Returns for each part the rows of all groups that keep it."""
    return jnp.stack(
      [jnp.concatenate([x[t] for t in groups]) for groups in self.groups]
    )

  def sum(self, x: Float[Array, "Q UR W"]) -> Float[Array, "T R W"]:
    """Sums over the parts of each group what was computed part by part."""
    x = self._by_group(x)
    return jnp.stack(
      [
        functools.reduce(jnp.add, [x[p, self._place(t, p)] for p in parts])
        for t, parts in enumerate(self.of_group)
      ]
    )

  def take(self, x: Float[Array, "T R W"]) -> Float[Array, "T R N"]:
    """Returns the kept columns of each group."""
    x = self._columns(x)
    return _side_by_side(
      [[x[t, :, p] for p in parts] for t, parts in enumerate(self.of_group)]
    )

  def put(self, small: Float[Array, "T R N"]) -> Float[Array, "T R W"]:
    """Undoes `take`; zero where a group drops a part."""
    small = small.reshape(*small.shape[:2], self.of_group.shape[1], -1)
    return _side_by_side(
      [
        [
          small[t, :, self.place[t, p]] if has else None
          for p, has in enumerate(row)
        ]
        for t, row in enumerate(self.design.table)
      ]
    )

  def masked(self, x: Float[Array, "T R W"]) -> Float[Array, "T R W"]:
    """Returns `x` with zeros where a group drops a part."""
    keep = jnp.asarray(self.design.table)[:, None, :, None]
    columns = self._columns(x)
    return jnp.where(keep, columns, jnp.zeros((), x.dtype)).reshape(x.shape)

  def _columns(self, x):
    """Returns the columns of each part apart, [T, R, Q, V]."""
    return x.reshape(*x.shape[:2], self.design.num_parts, -1)

  def _by_group(self, x):
    """Returns what was computed for each part, group by group, [Q, U, R, V]."""
    return x.reshape(*self.groups.shape, -1, x.shape[-1])

  def _place(self, group: int, part: int) -> int:
    """Returns where a group stands among those of a part."""
    return int(np.searchsorted(self.groups[part], group))


def _side_by_side(rows):
  """Returns blocks [R, V] side by side, [T, R, W]; None stands for zeros."""
  some = next(block for row in rows for block in row if block is not None)
  zero = jnp.zeros_like(some)
  return jnp.stack(
    [
      jnp.concatenate([zero if b is None else b for b in row], axis=1)
      for row in rows
    ]
  )


def forward(
  problem: problems.Problem, x: Float[Array, "T R I"], w: Float[Array, "I O"]
) -> Float[Array, "T R O"]:
  """Returns the product of each group's rows, zero where outputs drop."""
  ins, outs = _parts(problem.inputs), _parts(problem.outputs)
  dot = functools.partial(_dot, problem)
  if ins is not None and _repeats_rows(problem):
    x, ins = ins.masked(x), None
  if ins is None:
    assert outs is not None  # `serves` sees to it.
    y = dot(outs.repeat(x), _columns(w, outs), 2, 1, out=problem.out)
    return outs.merge(y)
  if outs is None:
    y = dot(ins.split(x), _rows(w, ins), 2, 1, out=_wide(x))
    return ins.sum(y).astype(problem.out)
  small = _small_weights(w, ins, outs)
  return outs.put(dot(ins.take(x), small, 2, 1, out=problem.out))


def dx(
  problem: problems.Problem, dy: Float[Array, "T R O"], w: Float[Array, "I O"]
) -> Float[Array, "T R I"]:
  """Returns the inputs' gradient, zero where inputs drop."""
  ins, outs = _parts(problem.inputs), _parts(problem.outputs)
  dot = functools.partial(_dot, problem)
  if outs is not None and _repeats_rows(problem):
    dy, outs = outs.masked(dy), None
  if ins is None:
    assert outs is not None
    found = dot(outs.split(dy), _columns(w, outs), 2, 2, out=_wide(dy))
    return outs.sum(found).astype(dy.dtype)
  if outs is None:
    return ins.merge(dot(ins.repeat(dy), _rows(w, ins), 2, 2))
  return ins.put(dot(outs.take(dy), _small_weights(w, ins, outs), 2, 2))


def dw(
  problem: problems.Problem,
  x: Float[Array, "T R I"],
  dy: Float[Array, "T R O"],
) -> Float[Array, "I O"]:
  """Returns the weights' gradient, summed over the groups."""
  ins, outs = _parts(problem.inputs), _parts(problem.outputs)
  shape = x.shape[-1], dy.shape[-1]
  dot = functools.partial(_dot, problem)
  if ins is None:
    assert outs is not None
    parts = dot(outs.repeat(x), outs.split(dy), 1, 1)
    return jnp.swapaxes(parts, 0, 1).reshape(shape)
  if outs is None:
    return dot(ins.split(x), ins.repeat(dy), 1, 1).reshape(shape)
  small = dot(ins.take(x), outs.take(dy), 1, 1, out=_wide(x))
  full = _full_weights(layouts.row_major(small), ins, outs)
  return full.astype(x.dtype)


def _repeats_rows(problem: problems.Problem) -> bool:
  """Returns whether, with both masks, one is left to the other operand."""
  is_both = problem.masked_sides == "both"
  return is_both and not measured.CPU_IN_ORDER.copies_pay(problem)


def _parts(side: problems.Side) -> Parts | None:
  """Returns the parts of a side, None where it has no mask."""
  return None if side.design is None else Parts(side.design)


def _dot(problem, a, b, a_axis: int, b_axis: int, out: str | None = None):
  axes = ((a_axis,), (b_axis,)), ((0,), (0,))
  return dense.dot(problem, a, b, *axes, out=out)


def _wide(x) -> str:
  """Returns the dtype of products that are still to be summed."""
  return dense.wide_dtype(x.dtype).name


def _rows(w, parts: Parts):
  """Returns the rows of each part, [Q, V, O]; nothing is moved."""
  return w.reshape(parts.design.num_parts, -1, w.shape[1])


def _columns(w, parts: Parts):
  """Returns the columns of each part, [Q, I, V]."""
  columns = w.reshape(w.shape[0], parts.design.num_parts, -1)
  return layouts.row_major(jnp.swapaxes(columns, 0, 1))


def _small_weights(w, ins: Parts, outs: Parts):
  """Returns the weights that each group keeps, [T, N, N']."""
  sizes = (
    w.shape[0] // ins.design.num_parts,
    w.shape[1] // outs.design.num_parts,
  )

  def runs(t):
    for i, rows in ins.runs[t]:
      own = w[i * sizes[0] : rows * sizes[0]]
      yield jnp.concatenate(
        [own[:, o * sizes[1] : end * sizes[1]] for o, end in outs.runs[t]],
        axis=1,
      )

  groups = range(ins.design.size)
  return layouts.row_major(
    jnp.stack([jnp.concatenate(list(runs(t))) for t in groups])
  )


def _full_weights(small, ins: Parts, outs: Parts):
  """Returns the sum over the groups in full size; zeros where nobody keeps."""
  groups, size = small.shape[0], (ins.of_group.shape[1], outs.of_group.shape[1])
  blocks = small.reshape(
    groups, size[0], -1, size[1], small.shape[2] // size[1]
  )
  zero = jnp.zeros((blocks.shape[2], blocks.shape[4]), small.dtype)

  def block(i, o):
    both = np.flatnonzero(ins.design.table[:, i] & outs.design.table[:, o])
    own = [blocks[t, ins.place[t, i], :, outs.place[t, o]] for t in both]
    return functools.reduce(jnp.add, own) if own else zero

  return jnp.concatenate(
    [
      jnp.concatenate(
        [block(i, o) for o in range(outs.design.num_parts)], axis=1
      )
      for i in range(ins.design.num_parts)
    ]
  )
