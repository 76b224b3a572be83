"""Tables: where the units of a layer go in the small network.

A small network needs static sizes. An exact pattern has one; masks that vary
in their count get room for the largest, filled up with units that the small
network masks.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from kdropout_jax import _checks
from kdropout_jax import _pytrees
from kdropout_jax import blocks
from kdropout_jax._types import UnsupportedError

__all__ = (
  "Table",
  "make_tables",
  "max_sizes",
)

Sizes = Mapping[str, int]
"""{layer: units N of the small network}, where masks vary in their count."""

_Order = tuple[Int[Array, "T N"], Int[Array, "T W"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Table(blocks.Kept):
  """Where the units of one layer go in the small networks of T subnets.

  Attributes:
    units: int32 [T, N]; the kept units, ascending, then any as padding.
    place: int32 [T, W]; a kept unit's place in the small network.
    keep: bool [T, W].
    live: bool [T, N], False for padding; None where there is no padding.
    fits: bool [T], whether N was enough for the kept units.
    masks: the layer's `Masks`, of the T subnets or of all that the scale of
      training counts.
  """

  fits: Bool[Array, "T"]
  masks: blocks.Masks

  @property
  def size(self) -> int:
    """Units N of a small network."""
    return self.units.shape[1]

  @property
  def num_subnets(self) -> int:
    """Number T of subnets."""
    return self.units.shape[0]

  def take(self, subnets: Int[Array | np.ndarray, "t"]) -> "Table":
    """Returns the table of some of the subnets; its masks are those of all.

    Args:
      subnets: numbers of subnets, int32 [t].
    """
    rest = dataclasses.replace(self, masks=None)  # pyright: ignore[reportArgumentType]
    own = jax.tree.map(lambda part: part[subnets], rest)
    return dataclasses.replace(own, masks=self.masks)


_pytrees.register(Table, tuple(f.name for f in dataclasses.fields(Table)))


def make_tables(
  masks: Mapping[str, blocks.Masks], sizes: Sizes | None = None
) -> dict[str, Table]:
  """Returns ``{layer: Table}`` for masks of T subnets.

  Args:
    masks: {layer: `Masks`}.
    sizes: {layer: units N of the small network} where masks vary in their
      count; see `max_sizes`.

  Returns:
    {layer: `Table`}.

  Raises:
    ValueError: masks or sizes that are none, or do not fit each other.
    UnsupportedError: the count of kept units varies and `sizes` is missing.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> masks = {"h": kd.Masks(jnp.array([[False, True, True]]), 3, num_kept=2)}
  >>> kd.subnets.make_tables(masks)["h"].units.tolist()
  [[1, 2]]
  """
  blocks.check_layers(masks)
  if sizes is not None:
    _checks.check_type("sizes", sizes, Mapping, "{layer: units} or None")
  for layer in sizes or {}:
    if layer not in masks:
      raise ValueError(
        f"sizes names the layer {layer!r}, but masks has {sorted(masks)}"
      )
  return {
    layer: _make_table(layer, mask, (sizes or {}).get(layer))
    for layer, mask in masks.items()
  }


def max_sizes(masks: Mapping[str, blocks.Masks]) -> dict[str, int]:
  """Returns the largest number of kept units among T subnets, for each layer.

  The static size that fits them all: give the masks of all windows of a run
  (one id each), and extraction is exact for every one of them.

  Args:
    masks: {layer: concrete `Masks` of any T}.

  Raises:
    ValueError: masks that are traced.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> keep = jnp.array([[True, False, False], [True, True, False]])
  >>> kd.subnets.max_sizes({"h": kd.Masks(keep, 3)})
  {'h': 2}
  """
  blocks.check_layers(masks)
  return {layer: _max_count(layer, mask) for layer, mask in masks.items()}


def _max_count(layer: str, mask: blocks.Masks) -> int:
  # In numpy: under `jit` an operation on a concrete mask would be traced.
  if _checks.is_tracer(mask.keep):
    raise ValueError(
      f"masks of {layer!r} must be concrete, to count their units; sample them"
      " outside the jitted function"
    )
  units = np.repeat(np.asarray(mask.keep), mask.block_size, axis=1)
  return max(1, int(units[:, : mask.width].sum(axis=1).max(initial=0)))


def check_tables(tables) -> None:
  """Raises a ValueError unless `tables` is ``{layer: Table}``."""
  _checks.check_type("tables", tables, Mapping, "{layer: Table}")
  for layer, table in tables.items():
    if not isinstance(table, Table):
      raise ValueError(
        f"tables must be {{layer: Table}}, got {type(table).__name__} for"
        f" {layer!r}"
      )


def check_single(tables: Mapping[str, Table]) -> None:
  """Raises a ValueError for tables of several subnets."""
  for layer, table in tables.items():
    if table.num_subnets != 1:
      raise ValueError(
        f"masks of {layer!r} must describe one subnet, T = 1, got T ="
        f" {table.num_subnets}; vmap over subnets"
      )


def widths(tables: Mapping[str, Table]) -> dict[str, int]:
  """Returns the units of each layer."""
  return {layer: table.masks.width for layer, table in tables.items()}


def all_of(order: Int[Array, "W"]) -> Table:
  """Returns the table of a small network that has all units, in an order."""
  keep = jnp.ones((1, order.shape[0]), jnp.bool_)
  return Table(
    order[None],
    jnp.argsort(order)[None].astype(jnp.int32),
    keep,
    None,
    jnp.ones((1,), jnp.bool_),
    blocks.Masks(keep, order.shape[0], num_kept=order.shape[0]),
  )


def _make_table(layer: str, mask: blocks.Masks, size: int | None) -> Table:
  size, is_padded = _static_size(layer, mask, size)
  keep = mask.dense()
  counts = jnp.sum(keep, axis=1, dtype=jnp.int32)
  if size == mask.width:  # all in their own order: nothing is moved
    units = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), keep.shape)
    place, live = units, keep if is_padded else None
  else:
    units, place = _order(keep, size)
    if mask.num_kept is None:  # a traced count may be too large
      place = jnp.minimum(place, size - 1)
    slots = jnp.arange(size, dtype=jnp.int32)[None]
    live = slots < counts[:, None] if is_padded else None
  if not _checks.is_tracer(counts) and int(jnp.max(counts)) > size:
    raise ValueError(
      f"sizes[{layer!r}] must be at least the {int(jnp.max(counts))} units that"
      f" the mask keeps, got {size}"
    )
  return Table(units, place, keep, live, counts <= size, mask)


@functools.partial(jax.jit, static_argnames="size", inline=True)
def _order(keep: Bool[Array, "T W"], size: int) -> _Order:
  """Returns units [T, size], the kept ones first, and places [T, W]."""
  return jax.lax.platform_dependent(
    keep,
    cuda=functools.partial(_by_counting, size=size),
    default=functools.partial(blocks.kept_first, length=size),
  )


def _by_counting(keep: Bool[Array, "T W"], size: int) -> _Order:
  """As `blocks.kept_first`, by comparing all pairs of units; unit 0 pads.

  That is two programs of a GPU, where a sum along an axis and a sort are many.
  """
  unit = jnp.arange(keep.shape[1], dtype=jnp.int32)
  both = keep[:, :, None] & keep[:, None, :]
  before = both & (unit[:, None] < unit[None, :])[None]
  place = jnp.sum(before, axis=1, dtype=jnp.int32)
  slot = jnp.arange(size, dtype=jnp.int32)[None, :, None]
  is_there = keep[:, None, :] & (place[:, None, :] == slot)
  units = jnp.where(is_there, unit[None, None, :], 0)
  return jnp.sum(units, axis=2, dtype=jnp.int32), place


def _static_size(layer, mask: blocks.Masks, size) -> tuple[int, bool]:
  """Returns the size of the small layer, and whether units may pad it."""
  if size is not None:
    _checks.check_positive(f"sizes[{layer!r}]", size)
    if size > mask.width:
      raise ValueError(
        f"sizes[{layer!r}] must be at most the width {mask.width}, got {size}"
      )
  if mask.num_kept is None:
    if size is None:
      raise UnsupportedError(
        f"masks of {layer!r} keep a number of units that varies, and a small"
        " network needs a static size: use an exact pattern, or give sizes="
        " (kd.subnets.max_sizes of the masks of all windows)"
      )
    return size, True
  if mask.num_kept == 0:
    raise UnsupportedError(
      f"masks of {layer!r} keep no unit, so that no network is left"
    )
  needed = min(mask.num_kept * mask.block_size, mask.width)
  if size is not None and size < needed:
    raise ValueError(
      f"sizes[{layer!r}] must be at least the {needed} units that the pattern"
      f" keeps, got {size}"
    )
  size = needed if size is None else size
  is_ragged = mask.width % mask.block_size > 0 and mask.block_size > 1
  return size, is_ragged or size > needed
