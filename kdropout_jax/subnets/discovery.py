"""Finds a model's layout by numbers: drop units and see which gradients die.

The gradient of any function of the outputs is exactly zero on the slices that
a dropped unit makes or is read by, and on those alone. Whether nothing else
follows the units (a normalisation over them, say) is then checked by running
the small network against the masked one.
"""

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdropout_jax import blocks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network
from kdropout_jax.subnets import sites
from kdropout_jax.subnets.layouts import Layout

_SEED = 0  # of probes: their values decide nothing but which elements are zero


def layout(
  model: Any, variables: Mapping[str, Any] | None, *args: Any, **kwargs: Any
) -> Layout:
  """Builds the layout of a Flax model from the model itself.

  Every `kd.linen.Dropout`, `kd.linen.SpatialDropout` and `flax.linen.Dropout`
  of positive rate, or their nnx counterpart, is a layer, called by its path.
  Which parameter axes follow
  it is measured, not looked up: made of Dense and Conv layers with elementwise
  functions, pooling over positions and flattening between them, a model of
  anybody's passes.

  Args:
    model: the unbound linen module, or an nnx module.
    variables: its variables; shapes and dtypes matter, values do not. For nnx,
      None or ``nnx.state(model, nnx.Param)``.
    *args: inputs, as to ``model.apply``, or the nnx model, in training.
    **kwargs: further arguments of it, such as ``train=True``.

  Returns:
    The `Layout`.

  Raises:
    ValueError: the model calls no Dropout of positive rate.
    UnsupportedError: a subnet of the model is not a small network: batch
      statistics, masks over positions, a layer that mixes units, or a module
      that does not take small parameters.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import linen as nn
  >>> drop = kd.linen.Dropout(0.5, deterministic=False)
  >>> net = nn.Sequential([nn.Dense(8), nn.relu, drop, nn.Dense(3)])
  >>> x = jnp.ones((4, 5))
  >>> variables = net.init(jax.random.key(0), x)
  >>> kd.subnets.layout(net, variables, x).as_dict()["layers_3/kernel"]
  {0: 'layers_2'}
  """
  if isinstance(model, nn.Module):
    kwargs = {"rngs": _rngs()} | kwargs
  else:  # flax.nnx is imported only for those who use it
    name = "kdropout_jax.subnets.nnx_discovery"
    model = importlib.import_module(name).functional(model, variables)
    variables = model.variables
  _check_statistics(model, variables, args, kwargs)
  with jax.enable_x64(True):
    probe = _Probe(model, variables, args, kwargs)
    found = Layout(probe.axes())
    probe.check(found)
  return found


class _Probe:
  """A model with random float64 weights and inputs, and masks at will."""

  def __init__(self, model, variables, args, kwargs):
    random = np.random.default_rng(_SEED)
    self._model = model
    self._kwargs = kwargs
    params = jax.tree.map(lambda x: _random_weights(random, x), variables)
    self._params = params["params"]
    self._rest = {k: v for k, v in variables.items() if k != "params"}
    self._args = jax.tree.map(lambda x: _random_like(random, x), args)
    self.widths = self._find_sites()
    self._half = {
      layer: random.permutation(width) < width // 2
      for layer, width in self.widths.items()
    }

  def axes(self) -> dict[str, dict[int, str]]:
    """Returns ``{parameter: {axis: layer}}``, as the gradients say."""
    everything = {layer: np.ones(w, bool) for layer, w in self.widths.items()}
    alive = self._nonzero(everything)
    axes: dict[str, dict[int, str]] = {"/".join(path): {} for path in alive}
    for layer, half in self._half.items():
      if half.size < 2:
        continue
      halves = (half, ~half)
      seen = [self._nonzero(everything | {layer: keep}) for keep in halves]
      for path, base in alive.items():
        for axis in range(base.ndim):
          sides = [nonzero[path] for nonzero in seen]
          if _follows(base, sides, halves, axis):
            axes["/".join(path)][axis] = layer
    return axes

  def check(self, found: Layout) -> None:
    """Raises unless the small network has the masked one's gradients."""
    keep = {
      layer: half if half.any() else ~half for layer, half in self._half.items()
    }
    sizes = {layer: int(flags.sum()) for layer, flags in keep.items()}
    masked = self._masked(self._params, keep)

    def small_difference(params, masked, keep):
      tables = indexing.make_tables(_as_masks(keep), sizes)
      small = extraction.take(params, found, tables)
      part = self._run(small, network.small_network(tables))
      whole = masked[0], extraction.take(masked[1], found, tables)
      return jax.tree.map(_difference, whole, part)

    try:
      differences = jax.jit(small_difference)(self._params, masked, keep)
    except Exception as error:  # whatever a module of others says to this
      raise UnsupportedError(
        "a module of the model does not run on the small parameters of a"
        f" subnet: {type(error).__name__}: {error}"
      ) from error
    if not max(jax.tree.leaves(differences)) <= self._tolerance:
      raise UnsupportedError(
        "the model's subnets are not small networks: with the layout"
        f" {found.as_dict()} the masked and the small network differ, so some"
        " layer mixes dropped units with others (a normalisation, say)"
      )

  def _find_sites(self) -> dict[str, int]:
    widths: dict[str, int] = {}

    def visit(layer, site, x, arguments):
      del arguments
      sites.check_first_call(layer, widths)
      sites.check_units(layer, site, x)
      widths[layer] = site.width
      return x

    jax.eval_shape(lambda: self._loss(self._params, sites.visiting(visit)))
    if not widths:
      raise ValueError(
        "the model calls no Dropout of positive rate; pass train=True if it"
        " drops only in training"
      )
    return widths

  def _nonzero(self, keep) -> dict[tuple[str, ...], np.ndarray]:
    """Returns which elements of each parameter's gradient are not zero."""
    _, grads = self._masked(self._params, keep)
    paths, leaves, _ = layouts.flatten(grads)
    return {path: np.asarray(leaf) != 0 for path, leaf in zip(paths, leaves)}

  @functools.cached_property
  def _masked(self):
    """The loss and its gradient under masks: one program for all of them."""
    return jax.jit(
      lambda params, keep: self._run(params, network.masked(_as_masks(keep)))
    )

  def _run(self, params, context):
    return jax.value_and_grad(lambda p: self._loss(p, context))(params)

  def _loss(self, params, context):
    """A random linear function of everything that the model returns."""
    with context:
      out = self._model.apply(
        {"params": params, **self._rest}, *self._args, **self._kwargs
      )
    random = np.random.default_rng(_SEED)
    total = jnp.zeros((), jnp.float64)
    self._tolerance = 1e-9
    for leaf in jax.tree.leaves(out):
      if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        if leaf.dtype != jnp.float64:  # the model computes in its own dtype
          self._tolerance = 5e-2
        weights = random.normal(size=jnp.shape(leaf))
        total += jnp.sum(leaf.astype(jnp.float64) * weights)
    return total


def _check_statistics(model, variables, args, kwargs) -> None:
  """Refuses variables that a forward pass changes, whatever their name."""
  others = {k: v for k, v in variables.items() if k != "params"}
  has_norm = jax.tree.leaves(others.get("batch_stats", {}))
  changed = ["batch_stats"] if has_norm else []
  if others and not changed:
    mutable = {"mutable": list(others)}
    _, after = model.apply(variables, *args, **(kwargs | mutable))
    same = {
      k: jax.tree.map(np.array_equal, others[k], after.get(k, others[k]))
      for k in others
    }
    changed = [k for k in others if not all(jax.tree.leaves(same[k]))]
  if changed:
    raise UnsupportedError(
      f"the collection {changed[0]!r} keeps statistics of the dropped units,"
      " too, which a small network does not see (batch normalisation)"
    )


def _follows(base, sides, halves, axis: int) -> bool:
  """Whether an axis is zero where units are dropped, and only there."""
  if base.shape[axis] % halves[0].size or not base.size:
    return False
  others = tuple(i for i in range(base.ndim) if i != axis)
  base = base.any(axis=others)
  for nonzero, keep in zip(sides, halves):
    keep = np.tile(keep, base.size // keep.size)
    side = nonzero.any(axis=others)
    if not (base & keep).any() or not (base & ~keep).any():
      return False
    if (side & ~keep).any() or (base & keep & ~side).any():
      return False
  return True


def _difference(a, b):
  """Returns the largest difference, relative to the largest value."""
  if not a.size:
    return jnp.zeros(())
  scale = jnp.maximum(jnp.max(jnp.abs(a)), jnp.finfo(jnp.float64).tiny)
  return jnp.max(jnp.abs(a - b)) / scale


def _as_masks(keep: Mapping[str, np.ndarray]) -> dict[str, blocks.Masks]:
  return {
    layer: blocks.Masks(jnp.asarray(flags)[None], flags.size)
    for layer, flags in keep.items()
  }


def _rngs() -> dict[str, jax.Array]:
  return {
    name: jax.random.key(_SEED, impl="threefry2x32")
    for name in ("params", "dropout", "subnets")
  }


def _random_weights(random, x):
  """Returns float64 weights that keep activations near 1."""
  if not jnp.issubdtype(x.dtype, jnp.floating):
    return x
  fan_in = max(1, x.size // x.shape[-1]) if x.ndim > 1 else 1
  return jnp.asarray(random.normal(size=x.shape) / np.sqrt(fan_in))


def _random_like(random, x):
  """Returns normal float64 in place of a floating-point array."""
  dtype = getattr(x, "dtype", None)
  if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
    return x
  return jnp.asarray(random.normal(size=x.shape))
