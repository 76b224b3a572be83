"""Extraction: the kept slices of every parameter as a small tree, and back.

Everything is gathered: a scatter is ten times slower. Insertion gathers by the
inverse index and selects. On a GPU all axes of a parameter are gathered at
once, where columns alone take seven times as long; elsewhere rows come first,
which are copied whole.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax.ops import layouts as memory
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts

__all__ = (
  "extract",
  "insert",
)

Tables = Mapping[str, indexing.Table]
"""{layer: `Table`}."""

Index = dict[int, Int[Array, "n"]]
"""{axis: the indices taken from it}."""
Places = dict[int, tuple[Int[Array, "..."], Bool[Array, "..."]]]
"""{axis: where each of its elements stands in a small leaf, and if it does}."""

_MAX_UNROLLED = 8


def extract(
  params: Any,
  layout: layouts.Layout,
  masks: Mapping[str, blocks.Masks],
  sizes: indexing.Sizes | None = None,
) -> Any:
  """Takes the subnet of `masks` out of `params`, as physically small arrays.

  Padding is exact: whichever unit it is, the small network masks it there.
  Works under `jit` and, over subnets, under `vmap`.

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

  Returns:
    A tree like `params`: what the subnet keeps from `small`, the rest its own.

  Raises:
    ValueError: as for `extract`, or `small` has another structure or shape.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> layout = kd.subnets.Layout({"w": {0: "h"}})
  >>> masks = {"h": kd.Masks(jnp.array([[False, True]]), 2, num_kept=1)}
  >>> full, small = {"w": jnp.zeros(2)}, {"w": jnp.ones(1)}
  >>> kd.subnets.insert(full, small, layout, masks)["w"].tolist()
  [0.0, 1.0]
  """
  return put(params, small, layout, indexing.make_tables(masks, sizes))


def take(tree: Any, layout: layouts.Layout, tables: Tables) -> Any:
  """`extract` with tables made before."""
  indexing.check_single(tables)
  axes = layouts.leaf_axes(tree, layout, indexing.widths(tables))
  leaves, treedef = jax.tree.flatten(tree)
  small = [_take_leaf(leaf, a, tables) for leaf, a in zip(leaves, axes)]
  return treedef.unflatten(small)


def put(tree: Any, small: Any, layout: layouts.Layout, tables: Tables) -> Any:
  """`insert` with tables made before."""
  indexing.check_single(tables)
  axes = layouts.leaf_axes(tree, layout, indexing.widths(tables))
  leaves, treedef = jax.tree.flatten(tree)
  _checks.check_tree("small", small)
  if jax.tree.structure(small) != treedef:
    raise ValueError(
      f"small must have the structure of params, {treedef}, got"
      f" {jax.tree.structure(small)}"
    )
  full = []
  for leaf, part, a in zip(leaves, jax.tree.leaves(small), axes):
    _check_small(leaf.shape, part, a, tables)
    if a:
      places = _places(leaf.shape, a, tables)
      part = _spread(part, jax.tree.map(lambda x: x[0], places), leaf)
    full.append(part)
  return treedef.unflatten(full)


def take_groups(
  params: Any, layout: layouts.Layout, tables: Tables
) -> tuple[Any, Any]:
  """Takes T subnets out of parameters, each parameter by one gather.

  Returns:
    A tree like `params` whose followed leaves have a leading axis over the T
    subnets, and a tree of 0 for those leaves and None for the others, as
    `jax.vmap` takes it.
  """
  axes = layouts.leaf_axes(params, layout, indexing.widths(tables))
  leaves, treedef = jax.tree.flatten(params)
  small = [_take_leaf(leaf, a, tables, True) for leaf, a in zip(leaves, axes)]
  mapped = [0 if a else None for a in axes]
  return treedef.unflatten(small), treedef.unflatten(mapped)


def followed(tree: Any, layout: layouts.Layout, tables: Tables) -> Any:
  """Returns a tree of whether a leaf has an axis that follows a layer."""
  axes = layouts.leaf_axes(tree, layout, indexing.widths(tables))
  return jax.tree.structure(tree).unflatten([bool(a) for a in axes])


def sum_groups(
  params: Any, grads: Any, layout: layouts.Layout, tables: Tables
) -> Any:
  """Puts gradients of T subnets back to full size, summed over the subnets.

  Args:
    params: the full parameters; their shapes count.
    grads: gradients of what `take_groups` gave.
    layout: as for `take_groups`.
    tables: as for `take_groups`.
  """
  axes = layouts.leaf_axes(params, layout, indexing.widths(tables))
  leaves, treedef = jax.tree.flatten(params)
  full = [
    _sum_leaf(leaf.shape, grad, a, tables) if a else grad
    for leaf, grad, a in zip(leaves, jax.tree.leaves(grads), axes)
  ]
  return treedef.unflatten(full)


def put_groups(
  tree: Any, small: Any, layout: layouts.Layout, tables: Tables
) -> Any:
  """Puts T subnets back that share no unit, each parameter by one gather.

  Args:
    tree: the full tree; what no subnet has is kept as it is.
    small: what `take_groups` gave, trained since.
    layout: as for `take_groups`.
    tables: of all T subnets, whose masks keep a unit at most once.
  """
  axes = layouts.leaf_axes(tree, layout, indexing.widths(tables))
  leaves, treedef = jax.tree.flatten(tree)
  full = [
    _put_disjoint(leaf, part, a, tables) if a else part
    for leaf, part, a in zip(leaves, jax.tree.leaves(small), axes)
  ]
  return treedef.unflatten(full)


def _put_disjoint(leaf, small, axes: layouts.Axes, tables: Tables):
  """Returns `leaf` with the elements all of whose units one subnet has.

  A unit stands where its own subnet has it, so that an axis needs one index.
  """
  own, owners = {}, []
  for axis, layer in axes.items():
    table = tables[layer]
    reps = leaf.shape[axis] // table.masks.width
    place = jnp.sum(jnp.where(table.keep, table.place, 0), axis=0)
    starts = jnp.arange(reps, dtype=jnp.int32) * table.size
    own[axis] = (starts[:, None] + place[None]).reshape(-1)
    owner = jnp.argmax(table.keep, axis=0)
    owner = jnp.where(table.keep.any(axis=0), owner, -1)
    shape = tuple(-1 if i == axis else 1 for i in range(leaf.ndim))
    owners.append(jnp.tile(owner, reps).reshape(shape))
  # Along the first axis the subnets lie one after the other.
  first = next(iter(own))
  shape, size = list(small.shape[1:]), small.shape[first + 1]
  shape[first] *= small.shape[0]
  flat = jnp.moveaxis(small, 0, first).reshape(shape)
  own[first] = own[first] + jnp.maximum(owners[0].reshape(-1), 0) * size
  full = _gather(flat, dict(reversed(own.items())), pinned=False)
  is_own = owners[0] >= 0
  for owner in owners[1:]:
    is_own = is_own & (owner == owners[0])
  return jnp.where(is_own, full, leaf)


def _take_leaf(leaf, axes: layouts.Axes, tables: Tables, batched: bool = False):
  """Returns the slices of the subnets; with `batched` along a leading axis."""
  if not axes:
    return leaf
  index = {}
  for axis, layer in axes.items():
    table = tables[layer]
    reps = leaf.shape[axis] // table.masks.width
    starts = jnp.arange(reps, dtype=jnp.int32) * table.masks.width
    units = starts[None, :, None] + table.units[:, None]
    index[axis] = units.reshape(table.num_subnets, -1)
  fits = [
    tables[layer].fits
    for layer in axes.values()
    if tables[layer].masks.num_kept is None
  ]

  def take_one(index, fits):
    small = _gather(leaf, index, pinned=True)
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
      for fit in fits:  # NaN where a traced count did not fit
        small = jnp.where(fit, small, jnp.nan)
    return small

  if batched and next(iter(index.values())).shape[0] > 1:
    return jax.vmap(take_one)(index, fits)
  small = take_one(*jax.tree.map(lambda x: x[0], (index, fits)))
  return small[None] if batched else small


def _places(shape, axes: layouts.Axes, tables: Tables) -> Places:
  """Returns {axis: (places, kept)}, each [T, size of the axis]."""
  places = {}
  for axis, layer in axes.items():
    table = tables[layer]
    reps = shape[axis] // table.masks.width
    starts = jnp.arange(reps, dtype=jnp.int32) * table.size
    place = starts[None, :, None] + table.place[:, None]
    place = place.reshape(table.num_subnets, -1)
    places[axis] = place, jnp.tile(table.keep, (1, reps))
  return places


def _spread(small, places: Places, leaf):
  """Returns `leaf` with what its places say taken from `small`."""
  index = {axis: place for axis, (place, _) in places.items()}
  backwards = dict(reversed(index.items()))  # rows last: less to copy
  full = _gather(small, backwards, pinned=False)
  kept = []
  for axis, (_, flags) in places.items():
    shape = tuple(-1 if i == axis else 1 for i in range(full.ndim))
    kept.append(flags.reshape(shape))
  return jnp.where(functools.reduce(jnp.logical_and, kept), full, leaf)


def _sum_leaf(shape, grads, axes: layouts.Axes, tables: Tables):
  """Returns the sum over T subnets of small gradients, in full size."""
  places, zero = _places(shape, axes, tables), jnp.zeros((), grads.dtype)

  def spread(grad, places):
    return _spread(grad, places, zero)

  count = grads.shape[0]
  if count > _MAX_UNROLLED:
    return jnp.sum(jax.vmap(spread)(grads, places), axis=0)
  # A chain of selects fuses into one pass over the result.
  parts = [
    spread(grads[t], jax.tree.map(lambda x, t=t: x[t], places))
    for t in range(count)
  ]
  return functools.reduce(jnp.add, parts)


def _gather(leaf, index: Index, pinned: bool):
  """Takes `index` from the axes of an array, in the order of the dict.

  With `pinned` the result is written down by itself, on a CPU: a product that
  reads it would else look up every element, or get it transposed.
  """
  return _gather_axes(leaf, list(index.values()), tuple(index), pinned)


@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
def _gather_axes(leaf, index, axes: tuple[int, ...], pinned: bool):
  return jax.lax.platform_dependent(
    leaf,
    index,
    cuda=functools.partial(_gather_at_once, axes=axes),
    default=functools.partial(_gather_in_turn, axes=axes, pinned=pinned),
  )


def _gather_in_turn(leaf, index, axes: tuple[int, ...], pinned: bool):
  # Else each element of a loop that reads them computes its own index anew.
  index = jax.lax.optimization_barrier(index)
  for i, (axis, places) in enumerate(zip(axes, index)):
    if i > 0:  # Columns of rows are moved, not looked up twice.
      leaf = memory.row_major(leaf)
    leaf = jnp.take(leaf, places, axis=axis, mode="clip")
  return memory.row_major(leaf) if pinned else leaf


def _gather_at_once(leaf, index, axes: tuple[int, ...]):
  given = dict(zip(axes, index))
  if tuple(given) == (0,):  # whole rows
    return leaf.at[given[0]].get(
      mode="promise_in_bounds", wrap_negative_indices=False
    )
  grid = []
  for axis, size in enumerate(leaf.shape):
    places = given.get(axis, jnp.arange(size, dtype=jnp.int32))
    shape = tuple(-1 if i == axis else 1 for i in range(leaf.ndim))
    grid.append(places.reshape(shape))
  return leaf.at[tuple(grid)].get(
    mode="promise_in_bounds", wrap_negative_indices=False
  )


def _check_small(shape, small, axes: layouts.Axes, tables) -> None:
  sizes = list(shape)
  for axis, layer in axes.items():
    sizes[axis] = sizes[axis] // tables[layer].masks.width * tables[layer].size
  if axes and jnp.shape(small) != tuple(sizes):
    raise ValueError(
      f"a small leaf must have shape {tuple(sizes)}, got {jnp.shape(small)}"
    )
