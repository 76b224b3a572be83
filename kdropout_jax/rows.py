"""Which subnet each row of a batch trains, and so which mask it meets."""

import functools
import os
import warnings
from typing import Any, Literal

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax._types import NumRows
from kdropout_jax._types import UnsupportedError

__all__ = ("assign_rows",)

RowLayout = Literal["contiguous", "tiled"]


def row_masks(
  keep: Shaped[Array, "T W"],
  num_rows: Any,
  row_layout: RowLayout = "contiguous",
  assignment: Int[Array, "B"] | None = None,
  batch_size: NumRows | None = None,
) -> Shaped[Array, "B W"]:
  """Gives each row the mask of the subnet that it trains.

  Args:
    keep: [T, W], of any dtype.
    num_rows: rows B at hand, an integer or a symbol of `jax.export`.
    row_layout: "contiguous" or "tiled".
    assignment: int32 [B] of slots, overriding `row_layout`.
    batch_size: rows of a full batch, where `num_rows` may be fewer: they take
      the first rows' subnets. The default is `num_rows`.

  Raises:
    ValueError: more rows than `batch_size`, or rows that look like one of
      many micro-batches; or a wrong assignment.
  """
  groups, width = keep.shape
  if batch_size is not None:
    _check_symbols(num_rows, batch_size, assignment)
  if batch_size is not None and num_rows > batch_size:
    raise ValueError(
      f"a batch may have at most batch_size={batch_size} rows, got {num_rows}"
    )
  if assignment is not None:
    slots = check_assignment(assignment, num_rows, groups)
    return jnp.take(keep, slots, axis=0, mode="clip")
  full = num_rows if batch_size is None else batch_size
  if batch_size is not None:
    _check_part(num_rows, groups, batch_size, row_layout)
  if not isinstance(full, int):  # A symbol of `jax.export`.
    rows = jnp.arange(full, dtype=jnp.int32)
    slots = rows % groups if row_layout == "tiled" else rows * groups // full
    return jnp.take(keep, slots, axis=0, mode="clip")
  if groups == 0 and num_rows == 0:
    return keep
  if full % groups == 0 and num_rows > 0:
    # A broadcast, which fuses, where the general rule needs a gather.
    each = full // groups
    if row_layout == "contiguous":
      rows = jnp.broadcast_to(keep[:, None], (groups, each, width))
    else:
      rows = jnp.broadcast_to(keep[None], (each, groups, width))
    return rows.reshape(full, width)[:num_rows]
  if row_layout == "tiled":
    slots = np.arange(num_rows, dtype=np.int32) % groups
  else:
    slots = blocks.row_slots(num_rows, groups, full)
  return keep[slots]


def _check_symbols(num_rows, batch_size, assignment) -> None:
  """Refuses rows of `jax.export` whose place in the batch cannot be known."""
  is_known = num_rows is batch_size or num_rows == batch_size
  if assignment is None and _checks.is_symbolic(num_rows) and not is_known:
    raise UnsupportedError(
      f"{num_rows} rows of a batch with batch_size={batch_size} cannot be"
      " exported: which subnets they train is not known; leave batch_size out,"
      " or give assignment"
    )


def _check_part(
  num_rows: NumRows,
  groups: NumRows,
  batch_size: NumRows,
  row_layout: RowLayout,
) -> None:
  """Looks at rows that are a part of a batch, and do not say which.

  Where a batch is an even number of such parts they are micro-batches, each of
  which would train the first subnets alone. Else they may be an epoch's last.
  """
  if not 0 < num_rows < batch_size:
    return
  is_tiled = row_layout == "tiled"
  reached = num_rows if is_tiled else (num_rows - 1) * groups // batch_size + 1
  if reached >= groups:
    return
  what = (
    f"{num_rows} rows of a batch with batch_size={batch_size} train the first"
    f" {reached} of its {groups} subnets"
  )
  if batch_size % num_rows == 0:
    raise ValueError(f"{what}, in every micro-batch alike. {_WHICH_ROWS}")
  _warn_part(what)


_WHICH_ROWS = (
  "Say which rows they are: first_row= in kd.linen.apply and"
  " kd.linen.intercept, in kd.nnx.retrofit and kd.nnx.set_step;"
  " assignment=kd.assign_rows(...) for modules and functions. For a last,"
  " shorter batch it is row 0"
)


@functools.cache
def _warn_part(what: str) -> None:
  warnings.warn(
    f"{what}, as is right for an epoch's last batch, not for micro-batches."
    f" {_WHICH_ROWS}",
    skip_file_prefixes=(os.path.dirname(__file__), *_OTHERS),
  )


_OTHERS = (*flax.__path__, *jax.__path__)


def assign_rows(
  num_rows: int,
  num_subnets: int,
  *,
  batch_size: int,
  first_row: int | Int[Array, ""] = 0,
  row_layout: RowLayout = "contiguous",
) -> Int[Array, "B"]:
  """Returns the slots of rows that are a part of a larger batch.

  Give them as ``assignment=`` to whatever takes one: a micro-batch, or the
  rows of one device, then trains the subnets that it has in the full batch.

  Args:
    num_rows: rows B at hand.
    num_subnets: subnets T of a step.
    batch_size: rows of the full batch.
    first_row: number of the first row at hand in the full batch; may be
      traced, as the number of a micro-step or of a device is.
    row_layout: as for `dropout`.

  Returns:
    int32 [B] of slots in [0, T), the last subnet's where a traced `first_row`
    leads past the batch.

  Raises:
    ValueError: a wrong number, or rows that lie outside the batch.

  >>> import kdropout_jax as kd
  >>> kd.assign_rows(4, 4, batch_size=8, first_row=4).tolist()
  [2, 2, 3, 3]
  """
  for name, value in (("num_subnets", num_subnets), ("batch_size", batch_size)):
    _checks.check_int32(name, value)
  _checks.check_option("row_layout", row_layout, RowLayout)
  if type(num_rows) is not int or num_rows != 0:  # a part may be empty
    _checks.check_int32("num_rows", num_rows)
  if num_rows > batch_size:
    raise ValueError(
      f"num_rows must be <= batch_size = {batch_size}, got {num_rows}"
    )
  first = _check_first_row(first_row, num_rows, batch_size)
  rows = first + jnp.arange(num_rows, dtype=jnp.int32)
  if row_layout == "tiled":
    return rows % np.int32(num_subnets)
  if batch_size % num_subnets == 0:
    slots = rows // np.int32(batch_size // num_subnets)
  else:
    # The rule r * T // B by its borders: the product could overflow.
    starts = blocks.row_starts(batch_size, num_subnets)
    slots = jnp.searchsorted(starts, rows, side="right").astype(jnp.int32) - 1
  return jnp.minimum(slots, np.int32(num_subnets - 1))


def _check_first_row(first_row, num_rows: int, batch_size: int):
  """Returns `first_row` as int32; concrete rows must lie in the batch."""
  _checks.check_count_of("first_row", first_row)
  if _checks.is_concrete(first_row):
    first = int(first_row)
    if first < 0 or first + num_rows > batch_size:
      raise ValueError(
        f"first_row must be in [0, {batch_size - num_rows}] for {num_rows} rows"
        f" of a batch with batch_size={batch_size}, got {first}"
      )
    return np.int32(first)
  return jnp.asarray(first_row).astype(jnp.int32)


def check_assignment(assignment, num_rows: int, num_subnets: int) -> Array:
  """Returns `assignment` as int32 [B]; concrete values are checked."""
  _checks.check_array("assignment", assignment, kind="integer")
  if jnp.shape(assignment) != (num_rows,):
    raise ValueError(
      f"assignment must have shape [{num_rows}], one slot a row, got"
      f" {jnp.shape(assignment)}"
    )
  if not _checks.is_tracer(assignment):
    values = np.asarray(assignment)
    if values.size and (values.min() < 0 or values.max() >= num_subnets):
      raise ValueError(
        f"assignment must hold slots in [0, {num_subnets}), got values from"
        f" {values.min()} to {values.max()}"
      )
  return jnp.asarray(assignment, jnp.int32)
