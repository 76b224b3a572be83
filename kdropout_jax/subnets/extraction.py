"""Extraction: the kept slices of every parameter as a small tree, and back.

Everything is gathered: a scatter is ten times slower. Insertion gathers by the
inverse index and selects.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdropout_jax import blocks
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts

Tables = Mapping[str, indexing.Table]
"""{layer: `Table`}."""


def extract(
  params: Any,
  layout: layouts.Layout,
  masks: Mapping[str, blocks.Masks],
  sizes: indexing.Sizes | None = None,
) -> Any:
  """Takes the subnet of `masks` out of `params`, as physically small arrays.

  Padding is exact: a padding unit is a dropped one, and the small network
  masks it. Works under `jit` and, over subnets, under `vmap`.

  Args:
    params: the parameters, or any tree whose leaves mirror them, such as an
      optimizer's state; leaves that follow no layer are returned as they are.
    layout: which axes follow which layer.
    masks: {layer: `Masks` with T = 1}.
    sizes: {layer: units N of the small network} for layers whose masks vary
      in their count (see `max_sizes`); not needed for exact patterns.

  Returns:
    A tree like `params` with every followed axis cut to the kept units.
    Where a traced mask keeps more than `sizes` allows, floating-point leaves
    are NaN: a wrong size never passes for a result.

  Raises:
    ValueError: layout, masks, sizes and params do not fit each other.
    UnsupportedError: the count of kept units varies and `sizes` is missing.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> layout = kd.subnets.Layout({"w": {1: "h"}})
  >>> masks = {"h": kd.Masks(jnp.array([[True, False]]), 2, num_kept=1)}
  >>> kd.subnets.extract({"w": jnp.ones((3, 2))}, layout, masks)["w"].shape
  (3, 1)
  """
  return take(params, layout, indexing.make_tables(masks, sizes))


def insert(
  params: Any,
  small: Any,
  layout: layouts.Layout,
  masks: Mapping[str, blocks.Masks],
  sizes: indexing.Sizes | None = None,
) -> Any:
  """Puts a small tree back: the inverse of `extract`.

  Args:
    params: the full tree; its dropped slices are kept as they are.
    small: what `extract` gave, trained since.
    layout: as for `extract`.
    masks: as for `extract`.
    sizes: as for `extract`.

  Raises:
    ValueError: as for `extract`, or `small` has another structure or shape.
  """
  return put(params, small, layout, indexing.make_tables(masks, sizes))


def take(tree: Any, layout: layouts.Layout, tables: Tables) -> Any:
  """`extract` with tables made before."""
  axes = layouts.leaf_axes(tree, layout, indexing.widths(tables))
  leaves, treedef = jax.tree.flatten(tree)
  small = [_take_leaf(leaf, a, tables) for leaf, a in zip(leaves, axes)]
  return treedef.unflatten(small)


def put(
  tree: Any,
  small: Any,
  layout: layouts.Layout,
  tables: Tables,
) -> Any:
  """`insert` with tables made before."""
  axes = layouts.leaf_axes(tree, layout, indexing.widths(tables))
  leaves, treedef = jax.tree.flatten(tree)
  if jax.tree.structure(small) != treedef:
    raise ValueError(
      f"small must have the structure of params, {treedef}, got"
      f" {jax.tree.structure(small)}"
    )
  full = [
    _put_leaf(leaf, part, a, tables)
    for leaf, part, a in zip(leaves, jax.tree.leaves(small), axes)
  ]
  return treedef.unflatten(full)


def _take_leaf(leaf, axes: layouts.Axes, tables: Tables):
  for axis, layer in axes.items():  # rows first: they are copied whole
    table = tables[layer]
    reps = leaf.shape[axis] // table.masks.width
    starts = jnp.arange(reps, dtype=jnp.int32) * table.masks.width
    index = (starts[:, None] + table.units[None]).reshape(-1)
    leaf = jnp.take(leaf, index, axis=axis, mode="clip")
  if axes and jnp.issubdtype(leaf.dtype, jnp.inexact):
    leaf = _poison(leaf, [tables[layer] for layer in axes.values()])
  return leaf


def _poison(leaf, tables: list[indexing.Table]):
  """NaN where a traced count did not fit; nothing where it must fit."""
  for table in tables:
    if table.masks.num_kept is None:
      leaf = jnp.where(table.fits, leaf, jnp.nan)
  return leaf


def _put_leaf(leaf, small, axes: layouts.Axes, tables: Tables):
  expected = _small_shape(leaf.shape, axes, tables)
  if jnp.shape(small) != expected:
    raise ValueError(
      f"a small leaf must have shape {expected}, got {jnp.shape(small)}"
    )
  if not axes:
    return small
  inside = None
  for axis, layer in reversed(axes.items()):
    table = tables[layer]
    reps = leaf.shape[axis] // table.masks.width
    starts = jnp.arange(reps, dtype=jnp.int32) * table.size
    place = jnp.minimum(table.place, table.size - 1)
    index = (starts[:, None] + place[None]).reshape(-1)
    small = jnp.take(small, index, axis=axis, mode="clip")
    shape = tuple(-1 if i == axis else 1 for i in range(leaf.ndim))
    side = jnp.tile(table.place < table.size, reps).reshape(shape)
    inside = side if inside is None else inside & side
  assert inside is not None
  return jnp.where(inside, small, leaf)


def _small_shape(shape, axes: layouts.Axes, tables) -> tuple[int, ...]:
  sizes = list(shape)
  for axis, layer in axes.items():
    sizes[axis] = sizes[axis] // tables[layer].masks.width * tables[layer].size
  return tuple(sizes)
