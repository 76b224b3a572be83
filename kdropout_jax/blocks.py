"""Block geometry: masks over blocks of units, ragged edges, rows of groups.

A layer of `width` units is cut into ``ceil(width / block_size)`` blocks of
adjacent units; the last one may be shorter. A batch of `num_rows` rows is cut
into T contiguous groups, one a subnet. All sizes are static Python integers.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from kdropout_jax import _checks
from kdropout_jax import _designs
from kdropout_jax import _pytrees

__all__ = ("Masks",)


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
  """The masks of T subnets in one layer, one flag a block of units.

  Attributes:
    keep: bool [T, G], G = ``ceil(width / block_size)``; True keeps a block.
    width: units W of the layer.
    block_size: units a block; 1 means single units.
    num_kept: blocks that every mask keeps, or None where the count varies.
    design: how the masks of a whole group avoid each other, None where they do
      not. It says what may be, not what is: whether ids came in whole groups is
      seen in `keep` alone.

  >>> import jax.numpy as jnp
  >>> Masks(jnp.array([[True, False]]), width=3, block_size=2).dense()
  Array([[ True,  True, False]], dtype=bool)
  """

  keep: Bool[Array, "T G"]
  width: int
  block_size: int = 1
  num_kept: int | None = None
  design: _designs.Design | None = None

  def __post_init__(self):
    _checks.check_int32("width", self.width)
    _checks.check_positive("block_size", self.block_size)
    keep = self.keep
    _checks.check_array("masks' keep", keep)
    if keep.dtype != jnp.bool_:
      raise ValueError(f"masks must be bool, got {keep.dtype} keep")
    blocks = num_blocks(self.width, self.block_size)
    if keep.ndim != 2 or keep.shape[1] != blocks:
      raise ValueError(
        f"masks of width {self.width} with block_size {self.block_size}"
        f" must have shape [T, {blocks}], got {tuple(keep.shape)}"
      )
    if self.num_kept is None:
      return
    is_integer = type(self.num_kept) is int or isinstance(
      self.num_kept, np.integer
    )
    if not is_integer or not 0 <= self.num_kept <= blocks:
      raise ValueError(
        f"num_kept must be in [0, {blocks}], got {_checks.shown(self.num_kept)}"
      )
    if _checks.is_concrete(keep) and getattr(
      keep, "is_fully_addressable", True
    ):
      counts = np.asarray(keep).sum(axis=1)
      wrong = np.flatnonzero(counts != self.num_kept)
      if wrong.size:
        raise ValueError(
          f"num_kept must be what every mask keeps, got {self.num_kept}, and"
          f" mask {wrong[0]} keeps {counts[wrong[0]]}"
        )

  @property
  def num_subnets(self) -> int:
    """Number T of subnets that these masks describe."""
    return self.keep.shape[0]

  def dense(self) -> Bool[Array, "T W"]:
    """Returns the masks unit by unit, bool [T, W]."""
    return expand(self.keep, self.width, self.block_size)

  def take(self, slots: Int[Array, "B"]) -> "Masks":
    """Returns the masks at `slots`, int32 [B], in that order.

    Args:
      slots: numbers of masks, int32 [B].
    """
    keep = jnp.take(self.keep, slots, axis=0)
    return dataclasses.replace(self, keep=keep, design=None)


_pytrees.register(Masks, data_fields=("keep",))

MasksLike = Masks | Bool[Array, "T _"]


def num_blocks(width: int, block_size: int) -> int:
  """Returns the number of blocks, the ragged last one included.

  >>> num_blocks(100, 32)
  4
  """
  return -(-width // block_size)


def expand(
  keep: Bool[Array, "T G"], width: int, block_size: int
) -> Bool[Array, "T W"]:
  """Repeats each block's flag over its units and crops the ragged edge."""
  if block_size == 1:
    return keep
  groups, blocks = keep.shape
  units = jnp.broadcast_to(keep[:, :, None], (groups, blocks, block_size))
  return units.reshape(groups, blocks * block_size)[:, :width]


def check_masks(masks) -> None:
  """Raises a ValueError unless `masks` is `Masks`."""
  _checks.check_type("masks", masks, Masks, "kd.Masks")


def check_layers(masks, name: str = "masks") -> None:
  """Raises a ValueError unless `masks` is ``{layer: Masks}``."""
  _checks.check_type(name, masks, Mapping, "{layer: Masks}")
  for layer, mask in masks.items():
    if not isinstance(layer, str) or not isinstance(mask, Masks):
      raise ValueError(
        f"{name} must be {{layer: Masks}}, got {type(mask).__name__} for"
        f" {layer!r}"
      )


def as_masks(masks: MasksLike, width: int) -> Masks:
  """Returns `masks` as `Masks`, checked against the width that they mask.

  Args:
    masks: `Masks`, or a bool array [T, W].
    width: units W of the array to be masked.

  Raises:
    ValueError: the dtype is not bool or the width differs.
  """
  if not isinstance(masks, Masks):
    if getattr(masks, "ndim", None) != 2 or not hasattr(masks, "dtype"):
      raise ValueError(
        f"masks must be Masks or bool [T, {width}], got"
        f" {getattr(masks, 'shape', type(masks).__name__)}"
      )
    masks = Masks(jnp.asarray(masks), width=masks.shape[1])
  if masks.width != width:
    raise ValueError(f"masks have width {masks.width}, expected {width}")
  return masks


def row_slots(
  num_rows: int, num_groups: int, batch_size: int | None = None
) -> np.ndarray:
  """Returns the group of each row when groups are contiguous.

  Row r belongs to group ``r * num_groups // batch_size``: the row rule of the
  papers, extended to batches that the number of groups does not divide.

  Args:
    num_rows: rows B at hand.
    num_groups: groups T.
    batch_size: rows of a full batch; the default is `num_rows`.

  Returns:
    int32 [B] of group numbers, not decreasing.

  >>> row_slots(5, 2).tolist()
  [0, 0, 0, 1, 1]
  """
  rows = np.arange(num_rows, dtype=np.int64)
  return (rows * num_groups // max(batch_size or num_rows, 1)).astype(np.int32)


def row_starts(num_rows: int, num_groups: int) -> np.ndarray:
  """Returns the first row of each group and, last, the number of rows.

  The inverse of `row_slots`: group t holds rows ``starts[t]`` to
  ``starts[t + 1]``, which may be none where groups outnumber rows.

  Returns:
    int32 [T + 1].

  >>> row_starts(5, 2).tolist()
  [0, 3, 5]
  """
  groups = np.arange(num_groups + 1, dtype=np.int64)
  return (-(-groups * num_rows // num_groups)).astype(np.int32)


def index_table(
  keep: Bool[Array, "T G"], length: int | None = None
) -> tuple[Int[Array, "T N"], Int[Array, "T"]]:
  """Returns the kept blocks of each mask as a padded table, and their counts.

  Args:
    keep: bool [T, G].
    length: static length N of the table, at least the largest count; the
      default is G.

  Returns:
    int32 [T, N] of block numbers, the kept ones first and ascending, the rest
    dropped ones (valid to read, to be ignored); and int32 [T] of counts.

  >>> import jax.numpy as jnp
  >>> table, counts = index_table(jnp.array([[False, True, True]]))
  >>> table.tolist(), counts.tolist()
  ([[1, 2, 0]], [2])
  """
  length = keep.shape[1] if length is None else length
  order = jnp.argsort(~keep, axis=1, stable=True).astype(jnp.int32)
  return order[:, :length], jnp.sum(keep, axis=1, dtype=jnp.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
  """The kept units of T masks, which N units hold, and where they stand.

  Attributes:
    units: int32 [T, N]; the kept units, ascending, then any as padding.
    place: int32 [T, W]; where a unit stands in `units` if it is kept, else any
      place there.
    keep: bool [T, W].
    live: bool [T, N], False for padding; None where there is none.
  """

  units: Int[Array, "T N"]
  place: Int[Array, "T W"]
  keep: Bool[Array, "T W"]
  live: Bool[Array, "T N"] | None


def kept_first(
  keep: Bool[Array, "T G"], length: int
) -> tuple[Int[Array, "T N"], Int[Array, "T G"]]:
  """Returns a table of the kept blocks, and the place in it of each block.

  As in `index_table`, what pads it is to be ignored. The kept ones must fit;
  the place of a dropped block is any of the table.

  >>> import jax.numpy as jnp
  >>> table, place = kept_first(jnp.array([[False, True, True]]), 2)
  >>> table.tolist(), place[0, 1:].tolist()
  ([[1, 2]], [0, 1])
  """
  place = jnp.cumsum(keep, axis=1, dtype=jnp.int32) - 1
  return index_table(keep, length)[0], jnp.maximum(place, 0)


Table = tuple[Int[Array, "T _"], Int[Array, "T"]] | None
Tables = tuple[Table, Table]


def index_tables(
  in_keep: Bool[Array, "T _"] | None, out_keep: Bool[Array, "T _"] | None
) -> Tables:
  """Returns `index_table` of both sides of a product, None without a mask."""
  ins, outs = (k if k is None else index_table(k) for k in (in_keep, out_keep))
  return ins, outs
