"""Models of flax.nnx as subnets: what discovery and small networks need.

Flax nnx has no way to intercept a module's call. So a copy of the model is
made whose dropouts are ours and have names, by which they look for a visitor
first; its state, paths included, is that of the model. Imported on first use,
as flax.nnx is.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import nnx

from kdropout_jax._types import UnsupportedError
from kdropout_jax.nn import _nnx_dense
from kdropout_jax.nn import _nnx_dropout
from kdropout_jax.subnets import sites
from kdropout_jax.subnets.probing import precision

__all__ = ("visitable",)


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

  Returns:
    The copy.

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
  copy = _with_our_dropouts(nnx.clone(model))
  for path, node in nnx.iter_graph(copy):
    layer = "/".join(map(str, path)) or type(node).__name__
    if isinstance(node, _nnx_dense.DropConnectDense):
      raise sites.drops_weights(layer)
    if hasattr(node, "visited_as") and not node.visited_as:
      node.visited_as = layer  # else a part of another copy
  return copy


def _with_our_dropouts(model: nnx.Module) -> nnx.Module:
  """Puts `kd.nnx.Dropout`, which is Flax's bit for bit, in the place of Flax's.

  A dropout keeps its stream, so that the paths of the state are the same.
  """
  ours: dict[int, nnx.Module] = {}
  is_module = lambda value: isinstance(value, nnx.Module)  # noqa: E731

  def swap(value):
    if not isinstance(value, nnx.Dropout):
      return value
    if type(value) is not nnx.Dropout:
      raise UnsupportedError(
        f"the model has a {type(value).__name__}, whose own code a small"
        " network would not run"
      )
    return ours.setdefault(id(value), _our_dropout(value))

  if isinstance(model, nnx.Dropout):
    return swap(model)
  for _, node in list(nnx.iter_graph(model)):
    if isinstance(node, nnx.Module):
      for name, value in list(vars(node).items()):
        found = jax.tree.leaves(value, is_leaf=is_module)
        if any(isinstance(leaf, nnx.Dropout) for leaf in found):
          new = jax.tree.map(swap, value, is_leaf=is_module)
          setattr(node, name, new if is_module(value) else nnx.data(new))
  return model


def _our_dropout(dropout: nnx.Dropout) -> nnx.Module:
  new = _nnx_dropout.Dropout(
    dropout.rate,
    broadcast_dims=dropout.broadcast_dims,
    deterministic=dropout.deterministic,
    rng_collection=dropout.rng_collection,
  )
  new.rngs = dropout.rngs
  return new


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
    model = nnx.merge(self._graph, *states, self._rngs, copy=True)
    out = model(*args, **kwargs)
    if mutable is None:
      return out
    _, *after = nnx.split(model, nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    after.pop(2)
    return out, dict(zip(self.variables, after))

  @contextlib.contextmanager
  def in_dtype(self, dtype: Any) -> Iterator[None]:
    """Lets modules compute in `dtype` whose own attribute is narrower."""
    given = self._graph
    states = [*self.variables.values(), self._rngs]
    model = nnx.merge(given, *states, copy=True)
    for _, node in nnx.iter_graph(model):
      if isinstance(node, nnx.Module):
        if precision.is_narrower(vars(node).get("dtype"), dtype):
          setattr(node, "dtype", dtype)  # noqa: B010
    self._graph = nnx.graphdef(model)
    try:
      yield
    finally:
      self._graph = given


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
