"""Layouts: which parameter axes follow which dropout layer.

A unit that a layer drops takes with it one slice of every parameter that
makes it, and of every parameter that reads it. A layout names those slices:
`{parameter: {axis: layer}}`. An axis may hold the layer's units several times
over, as the rows of a kernel do behind a flattened image (channels last: unit
``i % width``).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from kdropout_jax import _checks
from kdropout_jax import blocks

__all__ = ("Layout",)

Axes = dict[int, str]
"""{axis: layer} of one parameter."""


@dataclasses.dataclass(frozen=True)
class Layout:
  """Says which axes of which parameters follow which dropout layer.

  Args:
    axes: {parameter path: {axis: layer name}}. Paths are joined by slashes
      ("Dense_0/kernel"), as are the names of layers; parameters that follow
      no layer may be left out.

  Raises:
    ValueError: an axis is negative, or followed by no layer's name.

  >>> layout = Layout({"Dense_0/kernel": {1: "Dropout_0"}})
  >>> layout.layers
  ('Dropout_0',)
  """

  axes: Any

  def __post_init__(self):
    items = _pairs("axes", self.axes)
    entries = [(_path_name(path), _check_axes(path, a)) for path, a in items]
    object.__setattr__(self, "axes", tuple(sorted(e for e in entries if e[1])))

  @property
  def layers(self) -> tuple[str, ...]:
    """Names of the dropout layers, sorted."""
    return tuple(sorted({layer for _, axes in self.axes for _, layer in axes}))

  def as_dict(self) -> dict[str, Axes]:
    """Returns ``{parameter path: {axis: layer name}}``."""
    return {path: dict(axes) for path, axes in self.axes}


def names(path: Sequence[Any]) -> tuple[str, ...]:
  """Returns the names along a key path of `jax.tree_util`.

  Keys that only say "the value inside" (those of nnx) are left out.
  """
  parts = []
  for key in path:
    for field in ("key", "idx", "name"):
      if hasattr(key, field):
        parts.append(str(getattr(key, field)))
        break
    else:
      parts.append(str(key))
  return tuple(p for p in parts if p != "value")


def flatten(tree: Any) -> tuple[list[tuple[str, ...]], list[Any], Any]:
  """Returns the named paths, the leaves and the structure of a tree."""
  pairs, treedef = jax.tree_util.tree_flatten_with_path(tree)
  return (
    [names(path) for path, _ in pairs],
    [leaf for _, leaf in pairs],
    treedef,
  )


def mirrored(
  paths: Sequence[tuple[str, ...]], owners: Sequence[tuple[str, ...]]
) -> list[int | None]:
  """Finds for each path the owner that it ends in, the longest one.

  The leaves of an optimizer's state that mirror parameters end in their
  paths: (0, mu, Dense_0, kernel). Those that end in none are shared by all.
  """
  place = {owner: i for i, owner in enumerate(owners)}
  found = []
  for path in paths:
    suffixes = (path[start:] for start in range(len(path) + 1))
    found.append(next((place[s] for s in suffixes if s in place), None))
  return found


def leaf_axes(tree: Any, layout: Layout, widths: Mapping[str, int]):
  """Returns for each leaf of `tree` the axes that are cut, in leaf order.

  A leaf at a parameter's own path must have the axes; one that only ends in
  that path (an optimizer's) is cut where it has the shape for it. A tree of
  scalars mirrors nothing (the state of plain SGD).

  Args:
    tree: parameters, or a state that mirrors them.
    layout: which axes follow which layer.
    widths: {layer: units}.

  Raises:
    ValueError: the layout names a parameter, an axis or a layer that is not
      there, or an axis does not hold the layer's units.
  """
  check_layout(layout)
  _checks.check_tree("params", tree)
  _check_layers(layout, widths)
  paths, leaves, _ = flatten(tree)
  owners = [tuple(path.split("/")) for path, _ in layout.axes]
  found = mirrored(paths, owners)
  missing = sorted(set(range(len(owners))) - set(found), key=str)
  is_params = any(path in owners for path in paths)
  has_arrays = any(jnp.ndim(leaf) for leaf in leaves)
  is_foreign = has_arrays and all(owner is None for owner in found)
  if missing and (is_params or is_foreign):
    raise ValueError(
      f"layout names the parameter {layout.axes[missing[0]][0]!r}, which is"
      f" not among {['/'.join(p) for p in paths][:20]}"
    )
  result: list[Axes] = []
  for path, leaf, owner in zip(paths, leaves, found):
    axes = {} if owner is None else dict(layout.axes[owner][1])
    wrong = _misfit(jnp.shape(leaf), axes, widths)
    if wrong and path == owners[owner]:  # pyright: ignore[reportArgumentType, reportCallIssue]
      raise ValueError(f"layout of {'/'.join(path)!r}: {wrong}")
    result.append({} if wrong else axes)
  return result


def selection(
  shape: tuple[int, ...], axes: Axes, keep: Mapping[str, Bool[Array, "T W"]]
) -> Bool[Array, "..."]:
  """Returns which elements of a parameter some subnet of T keeps.

  Args:
    shape: the parameter's.
    axes: {axis: layer} of the parameter; at least one.
    keep: {layer: bool [T, W]}.

  Returns:
    bool, of the parameter's rank, with axes of size 1 where none is cut.
  """
  flags = None
  for axis, layer in axes.items():
    mask = keep[layer]
    reps = shape[axis] // mask.shape[1]
    side = jnp.tile(mask, (1, reps))
    side = side.reshape(
      mask.shape[0], *(-1 if i == axis else 1 for i in range(len(shape)))
    )
    flags = side if flags is None else flags & side
  assert flags is not None
  return jnp.any(flags, axis=0)


def check_optimizer(optimizer: Any) -> None:
  """Raises a ValueError unless `optimizer` has what optax asks of one."""
  methods = (getattr(optimizer, name, None) for name in ("init", "update"))
  if not all(map(callable, methods)):
    raise ValueError(
      "optimizer must be an optax transformation with init and update, got"
      f" {_checks.shown(optimizer)}"
    )


def check_layout(layout: Any) -> None:
  """Raises a ValueError unless `layout` is a `Layout`."""
  _checks.check_type("layout", layout, Layout, "a kd.subnets.Layout")


def check_types(optimizer: Any, layout: Any) -> None:
  """Raises a ValueError for a wrong optimizer or layout."""
  check_optimizer(optimizer)
  check_layout(layout)


def check_params(params: Any, layout: Layout) -> None:
  """Raises a ValueError unless `params` has all that the layout names.

  A path that only ends in a parameter's is not it: variables would pass for
  parameters whose units are never cut.
  """
  check_layout(layout)
  _checks.check_tree("params", params)
  paths, leaves, _ = flatten(params)
  shapes = {"/".join(p): jnp.shape(leaf) for p, leaf in zip(paths, leaves)}
  for path, axes in layout.axes:
    if path not in shapes:
      hint = ""
      if f"params/{path}" in shapes:
        hint = ": give variables['params'], not variables"
      raise ValueError(
        f"layout names the parameter {path!r}, which is not among those of"
        f" params, {sorted(shapes)[:20]}{hint}"
      )
    for axis, layer in axes:
      if axis >= len(shapes[path]):
        raise ValueError(
          f"layout of {path!r}: axis {axis} follows {layer!r}, but its shape"
          f" in params is {shapes[path]}"
        )


def widths_of(masks: Mapping[str, blocks.Masks]) -> dict[str, int]:
  """Returns ``{layer: units}``; a ValueError where a value is no `Masks`."""
  blocks.check_layers(masks)
  return {layer: mask.width for layer, mask in masks.items()}


def num_subnets(masks: Mapping[str, blocks.Masks]) -> int:
  """Returns T; a ValueError unless it is the same, 1 at least, everywhere."""
  blocks.check_layers(masks)
  counts = {layer: mask.num_subnets for layer, mask in masks.items()}
  if len(set(counts.values())) != 1 or 0 in counts.values():
    raise ValueError(
      f"masks must describe the same T >= 1 subnets in each layer, got {counts}"
    )
  return next(iter(counts.values()))


def _check_layers(layout: Layout, widths: Mapping[str, int]) -> None:
  for layer in layout.layers:
    if layer not in widths:
      raise ValueError(
        f"layout names the layer {layer!r}, but masks has {sorted(widths)}"
      )


def _misfit(shape, axes: Axes, widths: Mapping[str, int]) -> str:
  for axis, layer in axes.items():
    if axis >= len(shape):
      return f"axis {axis} follows {layer!r}, but its shape is {shape}"
    if shape[axis] % widths[layer] or not shape[axis]:
      return (
        f"axis {axis} has size {shape[axis]}, which must be a multiple of the"
        f" {widths[layer]} units of {layer!r}"
      )
  return ""


def _pairs(name: str, items) -> list[tuple[Any, Any]]:
  """Returns the items of a mapping, or pairs as they are."""
  if isinstance(items, Mapping):
    return list(items.items())
  is_list = isinstance(items, (tuple, list))
  if not is_list or any(
    not isinstance(item, (tuple, list)) or len(item) != 2 for item in items
  ):
    raise ValueError(
      f"{name} must be {{parameter: {{axis: layer}}}}, got"
      f" {_checks.shown(items)}"
    )
  return [(first, second) for first, second in items]


def _path_name(path) -> str:
  if not isinstance(path, (str, tuple, list)) or not path:
    raise ValueError(
      "axes must name parameters by paths, such as 'Dense_0/kernel', got"
      f" {_checks.shown(path)}"
    )
  return path if isinstance(path, str) else "/".join(map(str, path))


def _check_axes(path, axes) -> tuple[tuple[int, str], ...]:
  items = _pairs(f"axes of {path!r}", axes)
  for axis, layer in items:
    if isinstance(axis, bool) or not isinstance(axis, int) or axis < 0:
      raise ValueError(
        f"layout of {path!r}: an axis must be an integer >= 0, got {axis!r}"
      )
    if not isinstance(layer, str) or not layer:
      raise ValueError(
        f"layout of {path!r}: axis {axis} must name a layer, got {layer!r}"
      )
  return tuple(sorted(items))
