"""Evaluation of many subnets: small networks, side by side, chunk by chunk."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network

_BYTE_BUDGET = 1 << 28


def evaluate(
  fn: Callable[..., Any],
  params: Any,
  layout: layouts.Layout,
  masks: Mapping[str, blocks.Masks],
  *args: Any,
  byte_budget: int = _BYTE_BUDGET,
  sizes: indexing.Sizes | None = None,
) -> Any:
  """Evaluates T subnets as small networks, scaled as in training.

  Subnets run side by side (`vmap`) in chunks whose parameters and activations
  fit `byte_budget`, at least one at a time.

  Args:
    fn: ``fn(params, *args)``, which applies a linen model, or a
      `kd.subnets.visitable` nnx model; any pytree.
    params: full parameters.
    layout: which parameter axes follow which layer.
    masks: {layer: `Masks` of the T subnets}, in the same order everywhere.
    *args: what every subnet is given, such as a test batch.
    byte_budget: bytes that a chunk's small arrays may take.
    sizes: static sizes where masks vary in their count; the default is the
      largest count among these T, where they are concrete.

  Returns:
    What `fn` returns, with a leading axis over the T subnets.

  Raises:
    ValueError: masks of different T, or a byte budget < 1.
    UnsupportedError: as for `extract`.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> masks = {"h": kd.Masks(jnp.eye(3, dtype=bool), 3, num_kept=1)}
  >>> layout = kd.subnets.Layout({"w": {0: "h"}})
  >>> total = lambda params: params["w"].sum()
  >>> params = {"w": jnp.arange(3.0)}
  >>> kd.subnets.evaluate(total, params, layout, masks).tolist()
  [0.0, 1.0, 2.0]
  """
  _checks.check_positive("byte_budget", byte_budget)
  count = _num_subnets(masks)
  if sizes is None:
    sizes = _concrete_sizes(masks)
  keep = {layer: mask.keep for layer, mask in masks.items()}

  def one(flags):
    subnet = {
      layer: dataclasses.replace(masks[layer], keep=row[None])
      for layer, row in flags.items()
    }
    tables = indexing.make_tables(subnet, sizes)
    small = extraction.take(params, layout, tables)
    with network.small_network(tables):
      return fn(small, *args)

  first = {layer: flags[0] for layer, flags in keep.items()}
  chunk = max(1, byte_budget // _num_bytes(one, first))
  return jax.lax.map(one, keep, batch_size=min(chunk, count))


def _num_subnets(masks: Mapping[str, blocks.Masks]) -> int:
  layouts.widths_of(masks)
  counts = {layer: mask.num_subnets for layer, mask in masks.items()}
  if len(set(counts.values())) != 1 or 0 in counts.values():
    raise ValueError(
      f"masks must describe the same T >= 1 subnets in each layer, got {counts}"
    )
  return next(iter(counts.values()))


def _concrete_sizes(masks) -> dict[str, int] | None:
  varying = {
    layer: mask for layer, mask in masks.items() if mask.num_kept is None
  }
  if any(_checks.is_tracer(mask.keep) for mask in varying.values()):
    return None
  return indexing.max_sizes(varying) or None


def _num_bytes(one, flags) -> int:
  """Bytes of all arrays that one subnet's evaluation makes, summed up."""
  jaxpr = jax.make_jaxpr(one)(flags)
  shaped: list[Any] = [v.aval for eqn in jaxpr.eqns for v in eqn.outvars]
  # Of keys, too, whose dtype numpy does not know.
  return max(1, sum(v.size * v.dtype.itemsize for v in shaped))
