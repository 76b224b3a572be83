"""A batching rule for kernels, which have none of their own."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdropout_jax.ops import problems

__all__ = ()


def batchable(
  run: Callable, product: str, problem: problems.Problem
) -> Callable:
  """Gives a kernel, which has no batching rule of its own, one.

  Where only the rows are batched, the batch becomes one more axis of
  positions; anything else runs one after another.
  """
  single = jax.custom_batching.custom_vmap(functools.partial(run, problem))

  @single.def_vmap
  def rule(size, in_batched, *arrays):
    rows_only = in_batched[0] is True and not any(
      jax.tree.leaves(list(in_batched[1:]))
    )
    if product != "dw" and rows_only:
      rows = jnp.moveaxis(arrays[0], 0, 1)  # [B, V, P, W]
      wide = dataclasses.replace(problem, positions=size * problem.positions)
      folded = rows.reshape(rows.shape[0], -1, rows.shape[-1])
      y = batchable(run, product, wide)(folded, *arrays[1:])
      y = y.reshape(rows.shape[0], size, -1, y.shape[-1])
      return jnp.moveaxis(y, 1, 0), True
    return _one_by_one(single, in_batched, arrays), True

  return single


def _one_by_one(single: Callable, in_batched, arrays):
  leaves, tree = jax.tree.flatten(tuple(arrays))
  flags = jax.tree.leaves(list(in_batched))

  def body(batched):
    given = iter(batched)
    full = [next(given) if flag else a for flag, a in zip(flags, leaves)]
    return single(*jax.tree.unflatten(tree, full))

  return jax.lax.map(body, [a for a, f in zip(leaves, flags) if f])
