"""Dropout layers of a linen model, visited without touching its code.

While a context is open, a function of ours is called in place of every active
Dropout, whatever model runs. Dense and Conv layers can take small kernels.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax import linen as nn

from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import UnsupportedError
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _subnet_visitor
from kdropout_jax.nn import linen

MASKS = ("in_mask", "out_mask")  # of MaskedDense: Dropout does it all here


@dataclasses.dataclass(frozen=True)
class Site:
  """A dropout layer as it was met in a forward pass.

  Attributes:
    width: units of the last axis of its input.
    module: the bound module.
    rate: probability of dropping.
    rescale: as for `kd.dropout`.
  """

  width: int
  module: nn.Module
  rate: float
  rescale: functional.Rescale

  def apply(self, x, masks: blocks.Masks, keep):
    """Applies `keep`, bool [W] or [N], and the scale of training."""
    return functional.select_and_scale(x, keep, masks, self.rate, self.rescale)


Visit = Callable[[str, Site, Any, dict[str, Any]], Any]
"""(layer, site, inputs, arguments) -> outputs, in place of a Dropout call."""


def visitor() -> Visit | None:
  """Returns what is called in place of Dropouts here, for nnx models."""
  return _subnet_visitor.VISITOR.get()


@contextlib.contextmanager
def visiting(visit: Visit, resize: bool = False) -> Iterator[None]:
  """Calls `visit` in place of every active Dropout of models run inside.

  Args:
    visit: see `Visit`.
    resize: let Dense and Conv layers take small kernels.
  """

  def intercept(next_fun, args, kwargs, context):
    module = context.module
    if context.method_name == "__call__":
      if _is_dropout(module):
        return _visit_dropout(visit, module, next_fun, args, kwargs)
      if isinstance(module, linen.DropConnectDense):
        raise UnsupportedError(
          f"{'/'.join(module.path)!r} drops weights; a small network needs"
          " whole units dropped"
        )
      if isinstance(module, linen.MaskedDense):
        kwargs = {k: v for k, v in kwargs.items() if k not in MASKS}
      if resize:
        return _call_resized(module, next_fun, args, kwargs)
    return next_fun(*args, **kwargs)

  token = _subnet_visitor.VISITOR.set(visit)
  try:
    with nn.intercept_methods(intercept):
      yield
  finally:
    _subnet_visitor.VISITOR.reset(token)


def check_first_call(layer: str, seen: Mapping[str, Any]) -> None:
  """Raises an UnsupportedError where a Dropout is called again."""
  if layer in seen:
    raise UnsupportedError(
      f"{layer!r} is called more than once in a forward pass, so that it has"
      " no single mask: give each call a Dropout of its own"
    )


def check_units(layer: str, site: Site, x) -> None:
  """Raises an UnsupportedError where masks do not drop whole units of x."""
  module = site.module
  if x.ndim <= 2 or isinstance(module, linen.SpatialDropout):
    return
  if isinstance(module, linen.Dropout):
    pattern = _dropout_rules.pattern_for(site.rate, module.pattern, layer)
    if not isinstance(pattern, patterns.Bernoulli):
      return
  shared = {dim % x.ndim for dim in module.broadcast_dims}
  if not shared >= set(range(1, x.ndim - 1)):
    raise per_position(layer, x.shape)


def per_position(layer: str, shape: tuple[int, ...]) -> UnsupportedError:
  """Returns the error for masks that do not drop whole units."""
  return UnsupportedError(
    f"{layer!r} masks every element of its input {shape} by itself; a small"
    " network needs whole units dropped: use SpatialDropout, an exact pattern,"
    " or broadcast_dims"
  )


def _is_dropout(module: nn.Module) -> bool:
  return isinstance(module, (nn.Dropout, linen.Dropout, linen.SpatialDropout))


def _visit_dropout(visit: Visit, module, next_fun, args, kwargs):
  arguments = dict(zip(("inputs", "deterministic", "rng"), args)) | kwargs
  x = arguments["inputs"]
  if module.rate == 0.0:
    return next_fun(*args, **kwargs)
  rescale: Any = getattr(module, "rescale", "expected")
  site = Site(x.shape[-1], module, patterns.check_rate(module.rate), rescale)
  layer = "/".join(module.path) or module.name or type(module).__name__
  return visit(layer, site, x, arguments)


def _call_resized(module: nn.Module, next_fun, args, kwargs):
  """Calls a layer with as many features as its small kernel has.

  Flax compares a parameter's shape with the module's fields; a copy of the
  module with the field changed passes. Nothing is looked up but `features`
  and `kernel`, so that Dense, Conv and layers like them all work.
  """
  params = module.variables.get("params", {})
  features = getattr(module, "features", None)
  kernel = params.get("kernel") if hasattr(params, "get") else None
  if not isinstance(features, int) or kernel is None:
    return next_fun(*args, **kwargs)
  if kernel.shape[-1] == features:
    return next_fun(*args, **kwargs)
  small = module.clone(features=kernel.shape[-1], parent=None, name=None)
  return small.apply({"params": params}, *args, **kwargs)
