"""A layout from a model's program, where the program leaves no doubt.

The program of the whole model says which axes hold which units. Then the small
network is traced as well: it must be the same program, operation by operation,
every axis cut where the layout says so and nothing else changed. So a width
that a model's code has written into a number is seen, too.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdropout_jax.subnets import layouts
from kdropout_jax.subnets.structure import groups as groups_lib
from kdropout_jax.subnets.structure import programs
from kdropout_jax.subnets.structure import zeros as zeros_lib

__all__ = ()

Labels = dict[tuple[int, int], str]
"""{(place, axis): layer}."""


class Doubt(Exception):
  """The program does not say what follows which layer."""


def read(
  run: Callable[[Any], Any], params: Any
) -> tuple[layouts.Layout | None, dict[str, int]]:
  """Returns the layout that the model's program shows, and its widths.

  Args:
    run: ``run(params)`` applies the model.
    params: its parameters; shapes and dtypes count.

  Returns:
    The layout, None in doubt, and {layer: units}.

  Raises:
    UnsupportedError: a site drops no whole units, or is met twice.
  """
  program, widths = programs.trace(run, params, lambda layer, width: width)
  try:
    labels = _labels(program, widths)
    layout = _layout(program, params, labels)
    _check_small(run, params, program, labels, widths)
  except Doubt:
    return None, widths
  return layout, widths


def _labels(program: programs.Program, widths: dict[str, int]) -> Labels:
  """Returns the layer of every axis that holds a layer's units."""
  groups = groups_lib.Groups(program)
  axes = [
    (place, axis)
    for place, shape in enumerate(program.shapes)
    for axis in range(len(shape))
  ]
  made, read = _sites(program, groups)
  for root, layers in made.items():
    if len(layers) > 1 or read.get(root, layers) != layers:
      raise Doubt(f"units of {layers} meet those of other layers")
    if groups.pinned(root) is not None:
      raise Doubt(f"an operation mixes the units of {layers}")
  layer_of = {root: next(iter(layers)) for root, layers in made.items()}
  for root, layers in read.items():
    if groups.pinned(root) == groups_lib.UNKNOWN:
      raise Doubt(f"nothing is known of what makes the units of {layers}")
    if groups.pinned(root) is None and len(layers) == 1:
      layer_of.setdefault(root, next(iter(layers)))
  layer_of = {r: layer for r, layer in layer_of.items() if widths[layer] > 1}
  roots = {axis: groups.find(axis) for axis in axes}
  while True:
    labels = {a: layer_of[r] for a, r in roots.items() if r in layer_of}
    wrong = _first_wrong(program, groups, labels, widths)
    if wrong is None:
      return labels
    if roots[wrong] in made:
      raise Doubt(f"units of {labels[wrong]!r} are mixed behind their dropout")
    del layer_of[roots[wrong]]  # mixed before they drop: made as a whole


def _sites(program, groups):
  """Returns {group: layers} of axes behind sites, and of those before."""
  made: dict[Any, set[str]] = {}
  read: dict[Any, set[str]] = {}
  for op in program.operations:
    if op.name != programs.SITE.name:
      continue
    for place, found in ((op.results[0], made), (op.operands[0], read)):
      root = groups.find((place, len(program.shapes[place]) - 1))
      found.setdefault(root, set()).add(op.params["layer"])
  return made, read


def _first_wrong(program, groups, labels: Labels, widths):
  """Returns an axis that cannot be cut: part of its units, or a sum of all."""
  for (place, axis), layer in labels.items():
    if program.shapes[place][axis] % widths[layer]:
      return place, axis
  zeros = zeros_lib.zeros(program, labels)
  for axis, values in groups.sums:
    if axis not in labels:
      continue
    known = [zeros.get(place, frozenset()) for place in values]
    if not any(z is None or labels[axis] in z for z in known):
      return axis
  return None


def _layout(program, params, labels: Labels) -> layouts.Layout:
  paths, leaves, _ = layouts.flatten(params)
  axes = {}
  for path, leaf, place in zip(paths, leaves, program.params):
    found = {
      axis: labels[place, axis]
      for axis in range(np.ndim(leaf))
      if (place, axis) in labels
    }
    if len(set(found.values())) < len(found):
      raise Doubt(f"two axes of {path} hold the units of one layer")
    axes["/".join(path)] = found
  return layouts.Layout(axes)


def _check_small(run, params, program, labels: Labels, widths) -> None:
  """Raises a Doubt unless the small network is the same program, cut."""
  sizes = {layer: width - width // 2 for layer, width in widths.items()}

  def cut(place):
    shape = list(program.shapes[place])
    for axis in range(len(shape)):
      layer = labels.get((place, axis))
      if layer is not None:
        shape[axis] = shape[axis] // widths[layer] * sizes[layer]
    return tuple(shape)

  leaves, treedef = jax.tree.flatten(params)
  small = [
    jax.ShapeDtypeStruct(cut(place), leaf.dtype)
    for leaf, place in zip(leaves, program.params)
  ]
  try:
    other, _ = programs.trace(
      run, treedef.unflatten(small), lambda layer, width: sizes[layer], True
    )
  except Exception as error:  # whatever a module says to small parameters
    raise Doubt(
      f"the model does not run on small parameters: {error}"
    ) from error
  if other.shapes != [cut(place) for place in range(len(program.shapes))]:
    raise Doubt("the small network has other shapes")
  for place, value in program.constants.items():
    if not _equal(value, other.constants.get(place)):
      raise Doubt("the small network has other constants")
  if len(program.operations) != len(other.operations):
    raise Doubt("the small network has other operations")
  for a, b in zip(program.operations, other.operations):
    _check_operation(a, b)


_SKIPPED = {  # what says sizes, which are compared as shapes
  programs.SITE.name: ("size", "width"),
  "broadcast_in_dim": ("shape",),
  "reshape": ("new_sizes",),
  "slice": ("start_indices", "limit_indices"),
  # Functions that are traced later: what they are given is whole.
  "custom_vjp_call": ("fwd_jaxpr_thunk", "bwd"),
  "custom_jvp_call": ("jvp_jaxpr_fun",),
}


def _check_operation(a: programs.Operation, b: programs.Operation) -> None:
  skipped = _SKIPPED.get(a.name, ())
  is_same = a.name == b.name and a.results == b.results
  is_same = is_same and len(a.operands) == len(b.operands)
  is_same = is_same and all(map(_equal, a.operands, b.operands))
  if not is_same or any(
    not _equal(value, b.params.get(name))
    for name, value in a.params.items()
    if name not in skipped
  ):
    raise Doubt(f"the small network computes {a.name} in another way")


def _equal(a, b) -> bool:
  if isinstance(a, programs.Constant) and isinstance(b, programs.Constant):
    a, b = a.value, b.value
  if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
    return len(a) == len(b) and all(map(_equal, a, b))
  if hasattr(a, "eqns") or hasattr(a, "jaxpr"):
    return str(a) == str(b)
  if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
    a, b = jax.random.key_data(a), jax.random.key_data(b)
  if isinstance(a, (jax.Array, np.ndarray)):
    return np.shape(a) == np.shape(b) and np.array_equal(a, b)
  if callable(a) and not isinstance(a, type):
    return callable(b)  # traced anew; what it computes is compared inside
  return bool(a == b) or a is b
