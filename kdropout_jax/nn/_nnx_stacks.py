"""Stacks of layers in nnx: how many there are, and a key for each.

`nnx.vmap` builds layers as one module whose variables have a leading axis,
which `nnx.scan` or `nnx.vmap` takes apart again. What stands in a stack needs
variables of that shape, and layers need keys of their own.
"""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import custom_batching

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax._types import Key
from kdropout_jax._types import UnsupportedError

Shape = tuple[int, ...]


def shapes(model: nnx.Module, places: Iterable[Sequence]) -> list[Shape]:
  """Returns for each dropout the leading axes of the stack that it is in.

  Its own stream says so. Without one, the layers of Flax beside it do, or
  beside the module that holds it.

  Args:
    model: the model.
    places: of dropouts; the third entry is the path, the last the dropout.
  """
  found, beside = [], None
  for *_, path, dropout in places:
    if dropout.rngs is not None:
      found.append(dropout.rngs.key.shape)
      continue
    if beside is None:
      _refuse_vmap(model)
      beside = _shapes_beside(model)
    parts = tuple(path.split("/"))
    above = (parts[:n] for n in range(len(parts) - 1, -1, -1))
    found.append(next((beside[p] for p in above if p in beside), ()))
  return found


def keys(
  key: Key, path: str, dropout: nnx.Dropout, shape: Shape
) -> tuple[Key, Key]:
  """Returns the run key and the layer key of a dropout, stacked as it is."""
  layer_key = _keys.named(key, path)
  if shape:
    return jnp.broadcast_to(key, shape), jax.random.split(layer_key, shape)
  if dropout.rngs is not None and _checks.is_tracer(dropout.rngs.key[...]):
    stream = jax.random.key_data(dropout.rngs.key[...])
    layer_key = _keys.from_words(
      _own_words(jax.random.key_data(layer_key), stream)
    )
  return key, layer_key


@custom_batching.custom_vmap
def _own_words(words, stream):
  """Returns the words of a key; under `vmap`, of one for each stream."""
  del stream
  return words


@_own_words.def_vmap
def _own_words_rule(axis_size, in_batched, words, stream):
  del axis_size
  if not in_batched[1]:
    return words, in_batched[0]
  axes = (0 if in_batched[0] else None, 0)
  return jax.vmap(_fold_words, axes)(words, stream), True


def _fold_words(words, stream):
  key = _keys.from_words(words)
  for i in range(stream.shape[-1]):
    key = jax.random.fold_in(key, stream[i])
  return jax.random.key_data(key)


def _refuse_vmap(model: nnx.Module) -> None:
  """Raises an UnsupportedError inside `vmap`, where layers have no streams."""
  for leaf in jax.tree.leaves(nnx.state(model)):
    if _checks.is_tracer(leaf):
      _refuse_batched(leaf)


@custom_batching.custom_vmap
def _refuse_batched(leaf):
  return jnp.zeros((), jnp.int32)


@_refuse_batched.def_vmap
def _refuse_batched_rule(axis_size, in_batched, leaf):
  del in_batched, leaf
  raise UnsupportedError(
    f"kd.nnx.retrofit inside a vmap over {axis_size} layers cannot tell them"
    " apart where nnx.Dropout has no rngs, so that all would have one mask:"
    " give it rngs, or retrofit the stack that nnx.vmap returns"
  )


def _shapes_beside(model: nnx.Module) -> dict[tuple[str, ...], Shape]:
  """Returns {path of a module: leading axes of Flax's layers right in it}."""
  nodes = {tuple(map(str, path)): node for path, node in nnx.iter_graph(model)}
  found: dict[tuple[str, ...], Shape] = {}
  for path, node in nodes.items():
    shape = _leading(node)
    if shape is None:
      continue
    # A list between is no module: its owner holds the layer.
    holder = path[:-1]
    while holder and not _is_owner(nodes.get(holder)):
      holder = holder[:-1]
    found[holder] = min(found.get(holder, shape), shape, key=len)
  return found


def _is_owner(node) -> bool:
  return isinstance(node, nnx.Module) and not isinstance(node, nnx.List)


def _leading(node) -> Shape | None:
  """Returns the axes that a layer of Flax has before its own, if it is one."""
  for kind, (name, rank) in _RANKS.items():
    variable = getattr(node, name, None) if isinstance(node, kind) else None
    if variable is not None:
      if isinstance(node, nnx.Conv):
        rank = len(node.kernel_size) + 2
      return tuple(variable.shape[: variable.ndim - rank])
  return None


_RANKS = {
  nnx.Linear: ("kernel", 2),
  nnx.Conv: ("kernel", 2),
  nnx.Embed: ("embedding", 2),
  nnx.LayerNorm: ("scale", 1),
  nnx.RMSNorm: ("scale", 1),
  nnx.BatchNorm: ("mean", 1),
  nnx.RngStream: ("key", 0),
}
"""{layer: (a variable of it, the rank of that)}."""
