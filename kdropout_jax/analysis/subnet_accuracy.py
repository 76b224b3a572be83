"""Many subnets, each evaluated as the single network that it is.

A subnet is ONE mask a layer, for all rows, scaled as in training (k-dropout
paper, sections 3.2 and 3.3). Several are evaluated side by side, as many as a
budget of bytes allows: as physically small networks where a layout is given,
else masked, with the same result.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax import subnets
from kdropout_jax.analysis import calibration
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import sites

__all__ = (
  "accuracies",
  "logits",
)

_BYTE_BUDGET = 1 << 28
_ROWS = 1024


def logits(
  apply_fn: Callable[[Any, Any], Float[Array, "B C"]],
  params: Any,
  masks: Mapping[str, blocks.Masks],
  x: Shaped[Array, "B ..."],
  *,
  layout: layouts.Layout | None = None,
  sizes: indexing.Sizes | None = None,
  byte_budget: int = _BYTE_BUDGET,
  rows_at_once: int = _ROWS,
) -> Float[Array, "T B C"]:
  """Returns the logits of T subnets on the same rows.

  Args:
    apply_fn: ``apply_fn(params, x)`` applies a linen model; whether it says
      deterministic or not, each of its Dropouts applies the subnet's mask.
    params: the full parameters.
    masks: {layer: `Masks` of T subnets}, by the layer names of
      `kd.subnets.layout` (paths of the Dropout modules).
    x: [B, ...], rows.
    layout: evaluate extracted, small networks: less work.
    sizes: with a layout, units of the small layers; the default is what
      concrete masks need. Traced masks that vary in their count need it.
    byte_budget: bound of the memory of the subnets that run side by side, as
      far as an estimate can tell; at least one runs.
    rows_at_once: rows of one forward pass.

  Returns:
    float [T, B, C].

  Raises:
    ValueError: masks of different T or of layers that the model lacks, or a
      wrong size.

  >>> import jax, kdropout_jax as kd
  >>> drop = kd.linen.Dropout(0.5, name="h")
  >>> def apply_fn(params, x):
  ...   return drop.apply({}, x, deterministic=True)
  >>> masks = {"h": kd.Masks(jnp.array([[True, False], [True, True]]), 2)}
  >>> logits(apply_fn, {}, masks, jnp.ones((1, 2))).tolist()
  [[[2.0, 0.0]], [[2.0, 2.0]]]
  """

  def fn(weights):
    return _over_rows(lambda rows: apply_fn(weights, rows), x, rows_at_once)

  _check(apply_fn, params, masks, x, rows_at_once)
  return _evaluate(fn, params, masks, layout, sizes, byte_budget)


def accuracies(
  apply_fn: Callable[[Any, Any], Float[Array, "B C"]],
  params: Any,
  masks: Mapping[str, blocks.Masks],
  x: Shaped[Array, "B ..."],
  labels: Int[Array, "B"],
  *,
  layout: layouts.Layout | None = None,
  sizes: indexing.Sizes | None = None,
  byte_budget: int = _BYTE_BUDGET,
  rows_at_once: int = _ROWS,
) -> Float[Array, "T"]:
  """Returns the accuracy of T subnets; logits are never held for all.

  Args:
    apply_fn: as for `logits`, like all that follows.
    params: the full parameters.
    masks: {layer: `Masks` of T subnets}.
    x: [B, ...], rows.
    labels: int [B].
    layout: as for `logits`.
    sizes: as for `logits`.
    byte_budget: as for `logits`.
    rows_at_once: as for `logits`.

  Returns:
    float32 [T].

  Raises:
    ValueError: as for `logits`, or the labels do not fit.

  >>> import jax, kdropout_jax as kd
  >>> drop = kd.linen.Dropout(0.5, name="h")
  >>> def apply_fn(params, x):
  ...   return drop.apply({}, x, deterministic=True)
  >>> masks = {"h": kd.Masks(jnp.array([[False, True], [True, True]]), 2)}
  >>> x, labels = jnp.array([[2.0, 1.0]]), jnp.array([0])
  >>> accuracies(apply_fn, {}, masks, x, labels).tolist()
  [0.0, 1.0]
  """

  def fn(weights):
    scores = _over_rows(lambda rows: apply_fn(weights, rows), x, rows_at_once)
    hits = calibration.correct(scores, labels)
    return jnp.mean(hits, dtype=jnp.float32)

  _check(apply_fn, params, masks, x, rows_at_once)
  _checks.check_array("labels", labels, "B", "integer")
  if labels.shape[0] != x.shape[0]:
    raise ValueError(
      f"labels must have one entry for each of the {x.shape[0]} rows of x, got"
      f" {labels.shape[0]}"
    )
  return _evaluate(fn, params, masks, layout, sizes, byte_budget)


def _evaluate(fn, params, masks, layout, sizes, byte_budget: int):
  """Small networks where a layout is given; else full ones, masked."""
  _check_layers(fn, params, masks)
  return subnets.evaluate(
    fn, params, layout, masks, byte_budget=byte_budget, sizes=sizes
  )


def _over_rows(fn: Callable[[Any], Any], x: Array, size: int) -> Any:
  """Applies `fn` to `size` rows at a time; the rest last."""
  num_whole, rest = divmod(x.shape[0], size)
  if num_whole <= 1 and rest == 0 or num_whole == 0:
    return fn(x)
  whole = x[: num_whole * size].reshape(num_whole, size, *x.shape[1:])
  out = jax.lax.map(fn, whole)
  out = out.reshape(num_whole * size, *out.shape[2:])
  return jnp.concatenate([out, fn(x[num_whole * size :])]) if rest else out


def _check(apply_fn, params, masks, x, rows_at_once) -> None:
  _checks.check_callable("apply_fn", apply_fn)
  _checks.check_tree("params", params)
  _check_masks(masks)
  _checks.check_array("x", x)
  if not jnp.ndim(x) or not x.shape[0]:
    raise ValueError(
      "x must have a leading axis of rows, at least one, got shape"
      f" {list(jnp.shape(x))}"
    )
  _checks.check_positive("rows_at_once", rows_at_once)


def _check_masks(masks: Mapping[str, blocks.Masks]) -> None:
  layouts.widths_of(masks)
  counts = {layer: mask.num_subnets for layer, mask in masks.items()}
  if not counts or len(set(counts.values())) > 1 or 0 in counts.values():
    raise ValueError(
      "masks must name at least one layer, and have the same T >= 1 in each,"
      f" got {counts}"
    )


def _check_layers(fn, params, masks: Mapping[str, blocks.Masks]) -> None:
  """Raises a ValueError unless masks name the model's dropout layers."""
  found = set()

  def visit(layer, dropout, x):
    del dropout
    found.add(layer)
    return x

  with sites.visiting(visit):
    jax.eval_shape(fn, params)
  if found != set(masks):
    raise ValueError(
      f"masks must name the dropout layers of the model, {sorted(found)}, got"
      f" {sorted(masks)}"
    )
