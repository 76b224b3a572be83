"""Dropout layers of a linen model, visited without touching its code.

While a context is open, a function of ours is called in place of every active
Dropout, whatever model runs. Dense and Conv layers can take small kernels.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from kdropout_jax import blocks
from kdropout_jax import patterns
from kdropout_jax._types import UnsupportedError
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _linen_dropout
from kdropout_jax.nn import _streams
from kdropout_jax.nn import _subnet_visitor
from kdropout_jax.nn import linen

__all__ = ()

_MASKS = ("in_mask", "out_mask")  # of MaskedDense: Dropout does it all here


@contextlib.contextmanager
def visiting(
  visit: _subnet_visitor.Visit, resize: bool = False
) -> Iterator[None]:
  """Calls `visit` in place of every active Dropout of models run inside.

  Args:
    visit: see `_subnet_visitor.Visit`.
    resize: let Dense and Conv layers take small kernels.
  """

  def intercept(next_fun, args, kwargs, context):
    module = context.module
    if context.method_name == "__call__":
      if isinstance(module, (nn.Dropout, linen.Dropout, linen.SpatialDropout)):
        return _visit_dropout(visit, module, next_fun, args, kwargs)
      if isinstance(module, linen.DropConnectDense):
        raise drops_weights("/".join(module.path))
      if isinstance(module, linen.MaskedDense):
        kwargs = {k: v for k, v in kwargs.items() if k not in _MASKS}
      if resize:
        return _call_resized(module, next_fun, args, kwargs)
    return next_fun(*args, **kwargs)

  token = _subnet_visitor.VISITOR.set(visit)
  try:
    with nn.intercept_methods(intercept):
      yield
  finally:
    _subnet_visitor.VISITOR.reset(token)


@contextlib.contextmanager
def feeding(masks: Mapping[str, blocks.Masks]) -> Iterator[set[str]]:
  """Gives Dropouts of models run inside masks that were sampled before.

  Yields the names of the layers that took theirs.

  Args:
    masks: {layer: `Masks`}, as `kd.subnets.sample_masks` returns. Layers that
      it lacks, and calls without subnets, go on as ever.
  """

  def intercept(next_fun, args, kwargs, context):
    module = context.module
    if isinstance(module, (linen.Dropout, linen.SpatialDropout)):
      layer = layer_name(module)
      own = masks.get(layer)
      if own is not None and context.method_name == "masks":
        fed.add(layer)
        return own
      if own is not None and kwargs.get("subnets") is not None:
        fed.add(layer)
        kwargs = {**kwargs, "subnets": own}
    return next_fun(*args, **kwargs)

  fed: set[str] = set()
  if not masks:
    yield fed
    return
  with nn.intercept_methods(intercept):
    yield fed


def layer_name(module: nn.Module) -> str:
  """Returns the name that masks and layouts know a Dropout by."""
  return "/".join(module.path) or module.name or type(module).__name__


def check_first_call(layer: str, seen: Mapping[str, Any]) -> None:
  """Raises an UnsupportedError where a Dropout is called again."""
  if layer in seen:
    raise UnsupportedError(
      f"{layer!r} is called more than once in a forward pass, so that it has"
      " no single mask: give each call a Dropout of its own"
    )


def check_units(layer: str, dropout: _subnet_visitor.Visited, x) -> None:
  """Raises an UnsupportedError where masks do not drop whole units of x."""
  rule = dropout.rule
  if x.ndim <= 2 or not isinstance(rule.pattern, patterns.Bernoulli):
    return
  shared = {dim % x.ndim for dim in rule.broadcast_dims}
  if not shared >= set(range(1, x.ndim - 1)):
    raise per_position(layer, x.shape)


def per_position(layer: str, shape: tuple[int, ...]) -> UnsupportedError:
  """Returns the error for masks that do not drop whole units."""
  return UnsupportedError(
    f"{layer!r} masks every element of its input {shape} by itself; a small"
    " network needs whole units dropped: use SpatialDropout, an exact pattern,"
    " or broadcast_dims"
  )


def drops_weights(layer: str) -> UnsupportedError:
  """Returns the error for a layer that drops weights."""
  return UnsupportedError(
    f"{layer!r} drops weights; a small network needs whole units dropped"
  )


def _visit_dropout(
  visit: _subnet_visitor.Visit, module, next_fun, args, kwargs
):
  arguments = dict(zip(("inputs", "deterministic", "rng"), args)) | kwargs
  x = arguments["inputs"]
  if module.rate == 0.0:
    return next_fun(*args, **kwargs)
  if isinstance(module, nn.Dropout):
    rule = _dropout_rules.make(
      module.rate, broadcast_dims=module.broadcast_dims
    )
  elif isinstance(module, linen.SpatialDropout):
    rule = _linen_dropout.make_rule(module, _dropout_rules.spatial_dims(x))
  else:
    rule = _linen_dropout.make_rule(module, module.broadcast_dims)

  def draw() -> blocks.Masks | None:
    ids, masks = _streams.source(
      arguments.get("subnets"), arguments.get("masks"), None
    )
    if masks is not None:
      return _streams.given_masks(masks)
    if ids is None:
      return None
    key = _linen_dropout.run_key(module, arguments.get("rng"))
    return rule.sample(x, key, jnp.asarray(ids))

  is_off = arguments.get("deterministic")
  is_off = module.deterministic if is_off is None else is_off
  layer = layer_name(module)
  dropout = _subnet_visitor.Visited(x.shape[-1], rule, bool(is_off), draw)
  return visit(layer, dropout, x)


def _call_resized(module: nn.Module, next_fun, args, kwargs):
  """Calls a layer with as many features as its small kernel has.

  Flax compares a parameter's shape with the module's fields; a copy of the
  module with the field changed passes. Nothing is looked up but `features`
  and `kernel`, so that Dense, Conv and layers like them all work.
  """
  params = module.variables.get("params", {})
  features = getattr(module, "features", None)
  kernel = params.get("kernel") if hasattr(params, "get") else None
  kernel = nn.meta.unbox(kernel)  # in its box it has no shape
  if not isinstance(features, int) or kernel is None:
    return next_fun(*args, **kwargs)
  if kernel.shape[-1] == features:
    return next_fun(*args, **kwargs)
  small = module.clone(features=kernel.shape[-1], parent=None, name=None)
  return small.apply({"params": params}, *args, **kwargs)
