"""Runs a linen model as one of its subnets, and samples its masks."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax.nn import _subnet_visitor
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import sites

__all__ = (
  "sample_masks",
  "small_network",
)


@contextlib.contextmanager
def small_network(
  tables: Mapping[str, indexing.Table],
) -> Iterator[None]:
  """Lets models inside run on extracted parameters, scaled as in training.

  Dropout only scales there (and masks padding), also where the model says
  deterministic: the small network is the subnet. Open it inside the jitted
  function.

  Args:
    tables: {layer: `Table` of one subnet}, see `make_tables`.

  Raises:
    ValueError: tables of several subnets.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> drop = kd.linen.Dropout(0.5, deterministic=True, name="h")
  >>> masks = {"h": kd.Masks(jnp.array([[False, True]]), 2, num_kept=1)}
  >>> with kd.subnets.small_network(kd.subnets.make_tables(masks)):
  ...   drop.apply({}, jnp.ones((1, 1))).tolist()
  [[2.0]]
  """
  indexing.check_tables(tables)
  indexing.check_single(tables)

  def visit(layer, dropout, x):
    if layer not in tables:
      raise ValueError(
        f"the model drops units in {layer!r}, but masks has {sorted(tables)}"
      )
    table = tables[layer]
    if x.shape[-1] == table.masks.width:  # what made it is not cut
      x = jnp.take(x, table.units[0], axis=-1, mode="clip")
    keep = jnp.ones((), jnp.bool_) if table.live is None else table.live[0]
    return dropout.apply(x, table.masks, _align(keep, x.ndim))

  with sites.visiting(visit, resize=True):
    yield


@contextlib.contextmanager
def masked(masks: Mapping[str, blocks.Masks]) -> Iterator[None]:
  """Lets models inside apply these masks (T = 1), over units, and no others."""

  def visit(layer, dropout, x):
    if layer not in masks:
      return x
    keep = masks[layer].dense()[0]
    return dropout.apply(x, masks[layer], _align(keep, x.ndim))

  with sites.visiting(visit):
    yield


def sample_masks(fn: Callable[..., Any], *args: Any) -> dict[str, blocks.Masks]:
  """Returns the masks that the Dropouts of a model apply, layer by layer.

  The model is run once, each Dropout passing its input on; under `jit`
  nothing but the sampling is left of that run.

  Args:
    fn: a function that applies a linen model, or a `kd.subnets.visitable` nnx
      model, to `args`, such as a loss.
    *args: its arguments; the ids of subnets are among them.

  Returns:
    {layer: `Masks`}.

  Raises:
    ValueError: a Dropout is called without subnets or masks, and so drops
      fresh units at every step.
    UnsupportedError: the masks of a layer differ from position to position.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> net = kd.linen.Dropout(0.5, deterministic=False, name="h")
  >>> def fn(ids):
  ...   rngs = {"subnets": jax.random.key(0)}
  ...   return net.apply({}, jnp.ones((2, 6)), subnets=ids, rngs=rngs)
  >>> kd.subnets.sample_masks(fn, jnp.arange(3))["h"].keep.shape
  (3, 6)
  """
  _checks.check_callable("fn", fn)
  masks: dict[str, blocks.Masks] = {}

  def visit(layer, dropout, x):
    found = _drawn(layer, dropout)
    if found.width != dropout.width:
      raise sites.per_position(layer, x.shape)
    sites.check_first_call(layer, masks)
    masks[layer] = found
    return x

  with sites.visiting(visit):
    fn(*args)
  return masks


def _drawn(layer: str, dropout: _subnet_visitor.Visited) -> blocks.Masks:
  if dropout.deterministic:
    raise ValueError(
      f"{layer!r} is called with deterministic=True, so that nothing is"
      " dropped: run the model as in training"
    )
  masks = dropout.draw()
  if masks is None:
    raise ValueError(
      f"{layer!r} is called without subnets, so that it drops fresh units at"
      " every step: use kd.linen.Dropout and pass subnets=ids"
    )
  return masks


def _align(keep, ndim: int):
  return keep.reshape((1,) * (ndim - keep.ndim) + keep.shape)
