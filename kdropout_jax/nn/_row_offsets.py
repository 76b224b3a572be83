"""Where the rows at hand stand in the full batch: micro-batches, devices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from kdropout_jax import _checks
from kdropout_jax._types import NumRows


@dataclasses.dataclass(frozen=True)
class Offset:
  """What a caller says about the rows at hand.

  Attributes:
    batch_size: rows of a full batch; None means the rows at hand, of all
      devices along `axis_name`.
    first_row: number of the first row at hand in the full batch, or None.
    axis_name: mapped axis, or axes, that the rows are split over, or None.
  """

  batch_size: int | None = None
  first_row: Any = None
  axis_name: Any = None

  def __post_init__(self):
    if self.batch_size is not None:
      _checks.check_rows("batch_size", self.batch_size)
    if self.first_row is not None:
      check_first_row(self.first_row)
    if self.axis_name is not None and self.first_row is not None:
      raise ValueError(
        "give first_row or axis_name, not both: each says which rows these are,"
        f" got first_row={self.first_row!r}, axis_name={self.axis_name!r}"
      )

  def resolve(self, num_rows: NumRows | None) -> tuple[NumRows, Any]:
    """Returns the rows of the full batch, and the first row or None.

    Args:
      num_rows: rows at hand; None where the inputs have no leading axis.

    Raises:
      ValueError: the rows are not known, or may be any device's.
    """
    if num_rows is None and (self.batch_size is None or self.axis_name):
      raise ValueError(
        "batch_size must be given: the first argument of the model has no"
        " leading axis to take it from"
      )
    if self.axis_name is not None:
      assert num_rows is not None
      rows = num_rows * jax.lax.axis_size(self.axis_name)
      full = self.batch_size or _at_least_one(rows)
      return full, jax.lax.axis_index(self.axis_name) * jnp.int32(num_rows)
    if self.first_row is None:
      check_one_device()
    return self.batch_size or _at_least_one(num_rows or 0), self.first_row


def _at_least_one(rows):
  return rows if _checks.is_symbolic(rows) else max(rows, 1)


def check_first_row(first_row) -> None:
  """Raises a ValueError unless `first_row` is an integer >= 0."""
  _checks.check_count_of("first_row", first_row)
  if _checks.is_concrete(first_row) and not 0 <= int(first_row) < 2**31:
    raise ValueError(f"first_row must be in [0, 2**31), got {first_row}")


def check_one_device() -> None:
  """Raises a ValueError inside `shard_map`, where rows may be any device's.

  Every device would take its own rows for the first ones of the batch.
  """
  manual = jax.sharding.get_abstract_mesh().manual_axes
  if manual:
    axis = "data" if manual[0].startswith("_") else manual[0]  # pmap's own.
    raise ValueError(
      "inside shard_map or pmap a device does not know which rows of the batch"
      f" it has: pass axis_name={axis!r} where the rows are split over it (pmap"
      " takes that name, too), or first_row=0 where every device trains the"
      " same subnets"
    )
