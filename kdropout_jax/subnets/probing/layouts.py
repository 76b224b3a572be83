"""Finds a model's layout by numbers: drop units and see which gradients die.

The gradient of any function of the outputs is exactly zero on the slices that
a dropped unit makes or is read by, and on those alone. Whether nothing else
follows the units (a normalisation over them, say) is then checked by running
the small network against the masked one. The model computes in float64, its
`dtype` replaced: in 16 bits a gradient that is summed over two rows is zero
now and then, and would pass for a dropped one.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool

from kdropout_jax import blocks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network
from kdropout_jax.subnets.layouts import Layout
from kdropout_jax.subnets.probing import precision

__all__ = ()

_SEED = 0  # of probes: their values decide nothing but which elements are zero
_NUM_DRAWS = 4  # of weights: a ReLU that is dead in one is alive in another


@dataclasses.dataclass(frozen=True)
class Called:
  """A model with the arguments that it is called with.

  Attributes:
    model: has linen's `apply`.
    variables: its variables, "params" among them.
    args: inputs.
    kwargs: further arguments of `apply`.
  """

  model: Any
  variables: Mapping[str, Any]
  args: tuple[Any, ...]
  kwargs: Mapping[str, Any]

  @property
  def params(self) -> Any:
    """The parameters."""
    return self.variables["params"]

  @property
  def others(self) -> dict[str, Any]:
    """The other variables."""
    return {k: v for k, v in self.variables.items() if k != "params"}

  def apply(self, variables: Any, *args: Any) -> Any:
    """Applies the model to other variables or inputs."""
    return self.model.apply(variables, *args, **self.kwargs)

  def run(self, params: Any) -> Any:
    """Applies the model to other parameters."""
    return self.apply({"params": params, **self.others}, *self.args)


def find(called: Called, widths: Mapping[str, int]) -> Layout:
  """Returns the layout of a model whose sites have these widths.

  Raises:
    UnsupportedError: it has none, or computes in 16 bits whatever its `dtype`.
  """
  with jax.enable_x64(True):
    probe = _Probe(called, widths)
    found = Layout(probe.axes())
    probe.check(found)
  return found


def check(called: Called, widths: Mapping[str, int], found: Layout) -> None:
  """Raises an UnsupportedError unless a layout describes the model."""
  with jax.enable_x64(True):
    _Probe(called, widths).check(found)


class _Probe:
  """A model with random float64 weights and inputs, and masks at will."""

  def __init__(self, called: Called, widths: Mapping[str, int]):
    random = np.random.default_rng(_SEED)
    self._called = dataclasses.replace(
      called, args=jax.tree.map(lambda x: _random_like(random, x), called.args)
    )
    self._draws = [
      jax.tree.map(lambda x: _random_weights(random, x), called.params)
      for _ in range(_NUM_DRAWS)
    ]
    self._half = {
      layer: random.permutation(width) < width // 2
      for layer, width in widths.items()
    }
    plain = lambda params: self._loss(params, contextlib.nullcontext())  # noqa: E731
    if precision.is_narrower(
      precision.coarsest(plain, self._draws[0]), jnp.float32
    ):
      raise UnsupportedError(
        "a layout is found by numbers in float64, but the model computes in 16"
        " bits whatever the `dtype` of its modules: give kd.subnets.Layout by"
        " hand, or let its casts follow a field `dtype`"
      )

  def axes(self) -> dict[str, dict[int, str]]:
    """Returns ``{parameter: {axis: layer}}``, as the gradients say."""
    everything = {
      layer: np.ones(half.size, bool) for layer, half in self._half.items()
    }
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
    params = self._draws[0]
    masked = self._masked(params, keep)

    def distance(params, masked, keep):
      tables = indexing.make_tables(_as_masks(keep), sizes)
      small = extraction.take(params, found, tables)
      part = self._run(small, network.small_network(tables))
      whole = masked[0], extraction.take(masked[1], found, tables)
      return precision.difference(whole, part)

    try:
      difference = jax.jit(distance)(params, masked, keep)
    except Exception as error:  # whatever a module of others says to this
      raise UnsupportedError(
        "a module of the model does not run on the small parameters of a"
        f" subnet: {type(error).__name__}: {error}"
      ) from error
    if not difference <= self._tolerance:
      raise UnsupportedError(
        "the model's subnets are not small networks: with the layout"
        f" {found.as_dict()} the masked and the small network differ, so some"
        " layer mixes dropped units with others (a normalisation, say)"
      )

  def _nonzero(self, keep) -> dict[tuple[str, ...], np.ndarray]:
    """Returns which elements of parameters have a gradient in some draw."""
    alive: dict[tuple[str, ...], Any] = {}
    for params in self._draws:
      _, grads = self._masked(params, keep)
      paths, leaves, _ = layouts.flatten(grads)
      for path, leaf in zip(paths, leaves):
        alive[path] = alive.get(path, False) | (np.asarray(leaf) != 0)
    return alive

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
    with context, _in_float64(self._called.model):
      out = self._called.run(params)
    random = np.random.default_rng(_SEED)
    total = jnp.zeros((), jnp.float64)
    self._tolerance = 1e-9
    for leaf in jax.tree.leaves(out):
      if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        if leaf.dtype != jnp.float64:  # cast by the model, whatever its dtype
          self._tolerance = 5e-2
        weights = random.normal(size=jnp.shape(leaf))
        total += jnp.sum(leaf.astype(jnp.float64) * weights)
    return total


def _in_float64(model: Any) -> contextlib.AbstractContextManager[None]:
  """Lets a model compute in float64: every `dtype` of its modules is replaced.

  A linen module has it replaced during its own calls; an nnx one has a copy.
  """
  if isinstance(model, nn.Module):
    return precision.linen_dtype(jnp.float64)
  return model.in_dtype(jnp.float64)


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
    if (side & ~keep).any() or not (side & keep).any():
      return False
  return True


def _as_masks(
  keep: Mapping[str, Bool[Array | np.ndarray, "_"]],
) -> dict[str, blocks.Masks]:
  return {
    layer: blocks.Masks(jnp.asarray(flags)[None], flags.size)
    for layer, flags in keep.items()
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
