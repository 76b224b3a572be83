"""Structured pruning: whole units go, and a small network is left.

Beside the unstructured pruning of gyro dropout's figure 6. The result is
masks of one subnet, so that `kd.subnets.extract` makes the small network.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax.analysis import pruning
from kdropout_jax.subnets import layouts

__all__ = (
  "parameter_masks",
  "unit_masks",
  "unit_norms",
)


def unit_norms(
  params: Any, layout: layouts.Layout
) -> dict[str, Float[Array, "W"]]:
  """Returns the L2 norm of all weights that make or read each unit.

  Args:
    params: parameters.
    layout: which parameter axes follow which layer; see `kd.subnets.layout`.

  Returns:
    {layer: float32 [W]}.

  Raises:
    ValueError: the layout names a parameter or an axis that is not there.

  >>> import kdropout_jax as kd
  >>> params = {"w": jnp.array([[3.0, 1.0], [4.0, 0.0]])}
  >>> unit_norms(params, layouts.Layout({"w": {1: "h"}}))["h"].tolist()
  [5.0, 1.0]
  """
  _checks.check_arrays("params", params)
  layouts.check_params(params, layout)
  sides = _sides(params, layout)
  norms = {}
  for layer, squares in sides.items():
    width = min(s.size for s in squares)
    total = jnp.zeros((width,), jnp.float32)
    for s in squares:  # behind a flattened image: unit i % width
      total = total + jnp.sum(s.reshape(-1, width), axis=0)
    norms[layer] = jnp.sqrt(total)
  return norms


def unit_masks(
  params: Any,
  layout: layouts.Layout,
  fraction: float,
  masks: Mapping[str, blocks.Masks] | None = None,
) -> dict[str, blocks.Masks]:
  """Returns masks (T = 1) of the units with the largest norms in each layer.

  Args:
    params: trained parameters.
    layout: which parameter axes follow which layer.
    fraction: share of each layer's units to leave, in (0, 1].
    masks: masks of an earlier round; its dropped units stay dropped.

  Returns:
    {layer: `Masks` of single units, with an exact count}.

  Raises:
    ValueError: a wrong fraction or layout, or fewer units are left by `masks`
      than `fraction` asks for.

  >>> params = {"w": jnp.array([[3.0, 1.0], [4.0, 0.0]])}
  >>> layout = layouts.Layout({"w": {1: "h"}})
  >>> unit_masks(params, layout, 0.5)["h"].keep.tolist()
  [[True, False]]
  """
  pruning.check_fraction("fraction", fraction)
  if masks is not None:
    blocks.check_layers(masks)
  found = {}
  for layer, norms in unit_norms(params, layout).items():
    num_kept = pruning.count_left(fraction, norms.size)
    if masks is not None:
      norms = jnp.where(_earlier(masks, layer, num_kept), norms, -1.0)
    order = jnp.argsort(-norms, stable=True)
    flags = jnp.arange(norms.size) < num_kept
    keep = jnp.zeros((1, norms.size), jnp.bool_).at[0, order].set(flags)
    found[layer] = blocks.Masks(keep, norms.size, num_kept=num_kept)
  return found


def parameter_masks(
  params: Any, layout: layouts.Layout, masks: Mapping[str, blocks.Masks]
) -> Any:
  """Returns masks over parameters that leave what kept units make and read.

  With them a network of full size is the small one that `kd.subnets.extract`
  takes out, and trains as it does; see `kd.optim.pruned`.

  Args:
    params: parameters, for their shapes.
    layout: which parameter axes follow which layer.
    masks: {layer: `Masks`, T = 1}, as `unit_masks` returns them.

  Returns:
    A tree of bool like `params`.

  Raises:
    ValueError: the layout does not fit parameters or masks.

  >>> params, layout = {"w": jnp.ones((1, 2))}, layouts.Layout({"w": {1: "h"}})
  >>> masks = {"h": blocks.Masks(jnp.array([[True, False]]), 2)}
  >>> parameter_masks(params, layout, masks)["w"].tolist()
  [[True, False]]
  """
  _checks.check_arrays("params", params)
  blocks.check_layers(masks)
  keep = {layer: mask.dense() for layer, mask in masks.items()}
  all_axes = layouts.leaf_axes(params, layout, layouts.widths_of(masks))
  _, leaves, treedef = layouts.flatten(params)
  return treedef.unflatten(
    [
      jnp.broadcast_to(
        layouts.selection(leaf.shape, axes, keep) if axes else True, leaf.shape
      )
      for leaf, axes in zip(leaves, all_axes)
    ]
  )


def _earlier(masks: Mapping[str, blocks.Masks], layer: str, num_kept: int):
  if layer not in masks:
    raise ValueError(f"masks must have layer {layer!r}, got {sorted(masks)}")
  left = masks[layer].num_kept
  if left is None or left < num_kept:
    raise ValueError(
      f"masks of {layer!r} must leave at least {num_kept} units, and say so"
      f" (num_kept), got num_kept={left}"
    )
  return masks[layer].dense()[0]


def _sides(params: Any, layout: layouts.Layout):
  """Returns {layer: [sums of squares along an axis that follows it]}."""
  paths, leaves, _ = layouts.flatten(params)
  by_path = {"/".join(path): leaf for path, leaf in zip(paths, leaves)}
  sides: dict[str, list[Array]] = {}
  for path, axes in layout.as_dict().items():
    leaf = by_path[path]
    for axis, layer in axes.items():
      others = tuple(i for i in range(leaf.ndim) if i != axis)
      squares = jnp.sum(leaf.astype(jnp.float32) ** 2, axis=others)
      sides.setdefault(layer, []).append(squares)
  return sides
