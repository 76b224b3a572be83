"""Models of flax.nnx as subnets: what discovery and small networks need.

Flax nnx has no way to intercept a module's call. So a copy of the model is
made whose dropouts look for a visitor first; its state, paths included, is
that of the model. Imported on first use, as flax.nnx is.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from kdropout_jax import patterns
from kdropout_jax._types import UnsupportedError
from kdropout_jax.nn import _nnx_dense
from kdropout_jax.nn import _nnx_dropout
from kdropout_jax.nn import _nnx_retrofit
from kdropout_jax.nn import linen
from kdropout_jax.subnets import sites

_MARK = "visited_as"  # attribute of a visitable module: its layer
_DROPOUTS = (
  nnx.Dropout,
  _nnx_dropout.Dropout,
  _nnx_retrofit.ScheduledDropout,
)


def visitable(model: nnx.Module) -> nnx.Module:
  """Copies an nnx model into one that runs as a small network, too.

  The copy computes what the model does, with the same state. Inside
  `small_network` its dropouts scale and mask padding as a subnet needs it,
  and `sample_masks` sees them. Split it and merge it with extracted
  parameters: Linear and Conv take kernels of any width. Merge a retrofitted
  model by ``nnx.merge(..., copy=True)`` where `kd.nnx.set_step` follows: Flax
  forbids to change a captured state.

  Args:
    model: made of anything, with `nnx.Dropout`, `kd.nnx.Dropout`,
      `kd.nnx.SpatialDropout` or what `kd.nnx.retrofit` puts there.

  Raises:
    UnsupportedError: the model drops weights, so has no small networks.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> drop = kd.nnx.Dropout(0.5, rngs=nnx.Rngs(0))
  >>> net = kd.subnets.visitable(nnx.Sequential(drop))
  >>> masks = {"layers/0": kd.Masks(jnp.array([[True, False]]), 2, num_kept=1)}
  >>> with kd.subnets.small_network(kd.subnets.make_tables(masks)):
  ...   net(jnp.ones((1, 2))).tolist()
  [[2.0]]
  """
  copy = nnx.clone(model)
  for path, node in nnx.iter_graph(copy):
    layer = "/".join(map(str, path)) or type(node).__name__
    if isinstance(node, _nnx_dense.DropConnectDense):
      raise UnsupportedError(
        f"{layer!r} drops weights; a small network needs whole units dropped"
      )
    known = isinstance(node, (*_DROPOUTS, _nnx_dense.MaskedDense))
    if known and not hasattr(node, _MARK):  # else a copy of ours already
      node.__class__ = _visitable_class(type(node))
      setattr(node, _MARK, layer)
  return copy


class Functional:
  """An nnx model with the `apply` of a linen one, for discovery."""

  def __init__(self, model: nnx.Module):
    self._graph, *states = nnx.split(
      visitable(model), nnx.Param, nnx.BatchStat, nnx.RngState, ...
    )
    self._rngs = states.pop(2)
    self.variables = dict(zip(("params", "batch_stats", "state"), states))

  def apply(self, variables, *args, mutable=None, **kwargs):
    """Runs the model; its random streams start anew at each call."""
    states = [variables.get(k, v) for k, v in self.variables.items()]
    model = nnx.merge(self._graph, *states, self._rngs)
    out = model(*args, **kwargs)
    if mutable is None:
      return out
    _, *after = nnx.split(model, nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    after.pop(2)
    return out, dict(zip(self.variables, after))


def functional(model: Any, variables: Any) -> Functional:
  """Returns an nnx model as discovery takes it, with `variables` if given.

  Raises:
    ValueError: `variables` is an input, or has other parameters.
    UnsupportedError: not a model of Flax.
  """
  if not isinstance(model, nnx.Module):
    raise UnsupportedError(
      "a layout is found for models of flax.linen and flax.nnx; for others,"
      f" give kd.subnets.Layout by hand: got {type(model).__name__}"
    )
  if variables is not None and not isinstance(variables, Mapping):
    raise ValueError(
      "variables must be None or nnx.state(model, nnx.Param) for an nnx model,"
      f" got {type(variables).__name__}: call layout(model, None, *args)"
    )
  found = Functional(model)
  if variables:
    _check_same(variables, found.variables["params"])
  return found


def _check_same(given, own) -> None:
  """Raises unless parameters are the model's own, in path and shape."""
  given, own = (
    {
      tuple(map(str, path)): jax.tree.leaves(leaf)[0].shape
      for path, leaf in nnx.to_flat_state(nnx.State(tree))
    }
    for tree in (given, own)
  )
  differ = sorted("/".join(k) for k, _ in given.items() ^ own.items())
  if differ:
    raise ValueError(
      "variables must hold the model's own parameters, as"
      f" nnx.state(model, nnx.Param) does, but {differ[0]!r} differs"
    )


@functools.cache
def _visitable_class(kind: type) -> type:
  """Returns `kind` with a call that looks for a visitor first.

  Once and for all, as graphs are compared by it; with no second base, so that
  an instance may change its class to it.
  """
  is_dropout = issubclass(kind, _DROPOUTS)

  def call(module, inputs, *args, **kwargs):
    visit = sites.visitor()
    if visit is None or is_dropout and module.rate == 0.0:
      return kind.__call__(module, inputs, *args, **kwargs)
    if is_dropout:
      return _visit_dropout(visit, module, inputs, kwargs)
    kwargs = {k: v for k, v in kwargs.items() if k not in sites.MASKS}
    return kind.__call__(module, inputs, *args, **kwargs)

  members = {"__call__": call, "__module__": kind.__module__, _MARK: ""}
  return type(kind.__name__, (kind,), members)


def _visit_dropout(visit: sites.Visit, module, inputs, arguments):
  twin = _linen_twin(module, inputs)
  rescale: Any = getattr(twin, "rescale", "expected")
  rate = patterns.check_rate(module.rate)
  site = sites.Site(inputs.shape[-1], twin, rate, rescale)
  if isinstance(module, _nnx_retrofit.ScheduledDropout):
    key, ids = module.drawn(inputs)
    masks = module.rule.sample(inputs, key, ids)
    return visit(
      getattr(module, _MARK), site, inputs, arguments | {"masks": masks}
    )
  ids = arguments.get("subnets")
  if ids is not None and arguments.get("masks") is None:
    key = _nnx_dropout.run_key(module, arguments.get("rngs"))
    masks = module.rule_for(inputs).sample(inputs, key, jnp.asarray(ids))
    arguments = arguments | {"masks": masks}
  return visit(getattr(module, _MARK), site, inputs, arguments)


def _linen_twin(module, inputs) -> nn.Module:
  """Returns the linen dropout that drops the same units."""
  if isinstance(module, nnx.Dropout):
    return nn.Dropout(
      module.rate, module.broadcast_dims, deterministic=module.deterministic
    )
  spatial = isinstance(module, _nnx_dropout.Dropout)
  rule = module.rule_for(inputs) if spatial else module.rule
  return linen.Dropout(
    module.rate,
    rule.broadcast_dims,
    deterministic=module.deterministic,
    pattern=lambda rate: rule.pattern,
    rescale=rule.rescale,
  )
