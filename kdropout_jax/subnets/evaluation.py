"""Evaluation of many subnets, side by side, chunk by chunk."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network

__all__ = ("evaluate",)

_BYTE_BUDGET = 1 << 28


def evaluate(
  fn: Callable[..., Any],
  params: Any,
  layout: layouts.Layout | None,
  masks: Mapping[str, blocks.Masks],
  *args: Any,
  byte_budget: int = _BYTE_BUDGET,
  sizes: indexing.Sizes | None = None,
) -> Any:
  """Evaluates T subnets, each a network of its own, scaled as in training.

  Subnets run side by side (`vmap`) in chunks whose parameters and activations
  fit `byte_budget`, at least one at a time: as small networks where there is
  a layout, else masked in full size.

  Args:
    fn: ``fn(params, *args)``, which applies a linen model, or a
      `kd.subnets.visitable` nnx model; any pytree.
    params: full parameters.
    layout: which parameter axes follow which layer; None for models that have
      no small networks.
    masks: {layer: `Masks` of the T subnets}, in the same order everywhere.
    *args: what every subnet is given, such as a test batch.
    byte_budget: bytes that a chunk's small arrays may take.
    sizes: static sizes where masks vary in their count; the default is the
      largest count among these T, where they are concrete.

  Returns:
    What `fn` returns, with a leading axis over the T subnets.

  Raises:
    ValueError: masks of different T, a byte budget < 1, or sizes without a
      layout.
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
  _checks.check_callable("fn", fn)
  _checks.check_tree("params", params)
  if layout is not None:
    layouts.check_layout(layout)
  count = layouts.num_subnets(masks)
  if layout is None and sizes is not None:
    raise ValueError("sizes has no effect without a layout: leave it out")
  if layout is not None and sizes is None:
    sizes = _concrete_sizes(masks)
  keep = {layer: mask.keep for layer, mask in masks.items()}

  def one(flags):
    subnet = {
      layer: dataclasses.replace(masks[layer], keep=row[None])
      for layer, row in flags.items()
    }
    if layout is None:
      with network.masked(subnet):
        return fn(params, *args)
    tables = indexing.make_tables(subnet, sizes)
    small = extraction.take(params, layout, tables)
    with network.small_network(tables):
      return fn(small, *args)

  first = {layer: flags[0] for layer, flags in keep.items()}
  chunk = max(1, byte_budget // _num_bytes(one, first))
  return jax.lax.map(one, keep, batch_size=min(chunk, count))


def _concrete_sizes(masks) -> dict[str, int] | None:
  varying = {
    layer: mask for layer, mask in masks.items() if mask.num_kept is None
  }
  if any(_checks.is_tracer(mask.keep) for mask in varying.values()):
    return None
  return indexing.max_sizes(varying) or None


def _num_bytes(one, flags) -> int:
  """Bytes of all that one subnet's evaluation makes, as if nothing were freed.

  From the traced program, without compiling it; the body of a loop counts
  once.
  """
  return max(1, _jaxpr_bytes(jax.make_jaxpr(one)(flags).jaxpr))


def _jaxpr_bytes(jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    inner = [
      getattr(value, "jaxpr", value)
      for value in equation.params.values()
      if hasattr(getattr(value, "jaxpr", value), "eqns")
    ]
    total += sum(_jaxpr_bytes(j) for j in inner)
    if not inner:
      total += sum(_aval_bytes(v.aval) for v in equation.outvars)
  return total


def _aval_bytes(aval) -> int:
  # Of keys, too, whose dtype numpy does not know.
  itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
  return math.prod(getattr(aval, "shape", ())) * itemsize
