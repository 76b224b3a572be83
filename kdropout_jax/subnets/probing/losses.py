"""A probe of the loss: its gradient on dropped weights must be exactly 0."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdropout_jax import _checks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network
from kdropout_jax.subnets.probing import precision

__all__ = ("check_loss",)

_SEED = 0  # of the shaking: its values decide nothing


def check_loss(
  loss_fn: Callable[..., Any],
  params: Any,
  layout: layouts.Layout,
  sizes: indexing.Sizes | None,
  *args: Any,
) -> None:
  """Refuses a loss that reads dropped weights, or that a subnet does not have.

  The masked loss must have a gradient of exactly 0 on dropped weights, and
  the small network the same gradient on the others. A model in 16 bits
  computes in float32 here, as far as its `dtype` says it.

  Args:
    loss_fn: ``loss_fn(params, *args)``, a scalar.
    params: full parameters; they are shaken, so that zeros hide nothing.
    layout: which axes follow which layer.
    sizes: as for `extract`.
    *args: the loss's arguments.

  Raises:
    ValueError: a layer of the layout that the loss does not drop.
    UnsupportedError: the loss holds a penalty on all weights, or the layout
      does not describe the model.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> drop = kd.linen.Dropout(0.5, deterministic=False, name="h")
  >>> def loss_fn(params, x, ids):
  ...   hidden, rngs = x * params["w"], {"subnets": jax.random.key(0)}
  ...   return drop.apply({}, hidden, subnets=ids, rngs=rngs).sum()
  >>> layout = kd.subnets.Layout({"w": {1: "h"}})
  >>> args = {"w": jnp.ones((1, 4))}, layout, {"h": 4}, jnp.ones((2, 1))
  >>> kd.subnets.check_loss(loss_fn, *args, jnp.arange(1))
  """
  _checks.check_callable("loss_fn", loss_fn)
  layouts.check_params(params, layout)
  if sizes is not None:
    _checks.check_type("sizes", sizes, Mapping, "{layer: units} or None")
  params, args = precision.widened((shaken(params), args), jnp.float32)

  def probe(params, *args):
    with precision.linen_dtype(jnp.float32):
      return _probe_loss(loss_fn, params, layout, sizes, *args)

  leaks, difference = jax.jit(probe)(params, *args)
  digits = jnp.finfo(precision.coarsest(probe, params, *args)).eps
  tolerance = min(0.25, 20 * float(digits) ** 0.5)  # wrong layouts: about 1
  for path, leak in leaks.items():
    if not leak == 0.0:
      raise UnsupportedError(
        f"the loss has a gradient of {float(leak):.2g} on dropped weights of"
        f" {path!r}, so a small network does not train as the masked one: the"
        " loss holds a penalty on all weights, or the layout is wrong"
      )
  if not difference <= tolerance:
    raise UnsupportedError(
      "the small network's gradient is not the masked one's (relative"
      f" difference {float(difference):.2g}): the layout does not describe the"
      " model, or some layer mixes units"
    )


def _probe_loss(loss_fn, params, layout, sizes, *args):
  """Returns the gradients that leak, and how far the small ones are off."""
  masks = network.sample_masks(loss_fn, params, *args)
  tables = indexing.make_tables(masks, sizes)
  grads = jax.grad(loss_fn)(params, *args)
  small = extraction.take(params, layout, tables)
  try:
    with network.small_network(tables):
      small_grads = jax.grad(loss_fn)(small, *args)
  except Exception as error:  # whatever a model says to a wrong layout
    raise UnsupportedError(
      "the loss does not run on the small parameters of a subnet: the layout"
      " does not describe the model, or a module cannot be small"
      f" ({type(error).__name__}: {error})"
    ) from error
  keep = {layer: mask.dense() for layer, mask in masks.items()}
  axes = layouts.leaf_axes(params, layout, layouts.widths_of(masks))
  paths, leaves, _ = layouts.flatten(grads)
  leaks = {
    "/".join(path): jnp.max(
      jnp.where(layouts.selection(leaf.shape, a, keep), 0, jnp.abs(leaf))
    )
    for path, leaf, a in zip(paths, leaves, axes)
    if a
  }
  expected = extraction.take(grads, layout, tables)
  return leaks, precision.difference(expected, small_grads)


def shaken(params: Any) -> Any:
  """Returns parameters with noise, so that zeros hide nothing."""
  random = np.random.default_rng(_SEED)

  def shake(x):
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
      return x
    noise = random.normal(size=x.shape) * (0.1 * np.std(x) + 1e-3)
    return x + jnp.asarray(noise, x.dtype)

  return jax.tree.map(shake, params)
