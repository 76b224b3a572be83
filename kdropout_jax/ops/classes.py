"""Sums over subnets that avoid each other: one gather a class, nothing added.

A class of P subnets partitions the units, so that the small results of its
subnets, put side by side, are a permutation of the full one. Whether ids came
in whole classes is seen in the masks, in the program: if they did not, the sum
over the subnets is taken as for any others.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ()


def sum_rows(
  keep: Bool[Array, "T W"],
  position: Int[Array, "T W"],
  small: Float[Array, "T N O"],
  parts: int,
  otherwise: Callable[..., Float[Array, "W O"]],
) -> Float[Array, "W O"]:
  """Spreads small rows to full height and sums over the groups.

  Args:
    keep: the units that each group keeps.
    position: where a unit stands among them.
    small: rows of the kept units.
    parts: P, consecutive groups that may be a class; it divides T.
    otherwise: the same from the first three arrays, for any masks.
  """

  def by_class(keep, position, small):
    place = _rows_of_class(keep, position, parts, small.shape[1])
    rows = small.reshape(place.shape[0], -1, small.shape[2])
    spread = [
      one.at[index].get(mode="promise_in_bounds")
      for one, index in zip(rows, place)
    ]
    return functools.reduce(jnp.add, spread)

  return _if_all(is_whole(keep, parts), by_class, otherwise)(
    keep, position, small
  )


def is_whole(keep: Bool[Array, "T W"], parts: int) -> Bool[Array, ""]:
  """Returns whether each `parts` consecutive masks partition the units."""
  classes = keep.reshape(-1, parts, keep.shape[1])
  return jnp.all(jnp.sum(classes, axis=1, dtype=jnp.int32) == 1)


def _rows_of_class(keep, position, parts: int, size: int):
  """Returns where a unit stands among all rows of each class, [T / P, W]."""
  shape = (-1, parts, keep.shape[1])
  classes, position = keep.reshape(shape), position.reshape(shape)
  owner = jnp.argmax(classes, axis=1).astype(jnp.int32)
  place = jnp.sum(jnp.where(classes, position, 0), axis=1)
  return owner * size + place


def _if_all(flag, then: Callable, otherwise: Callable) -> Callable[..., Any]:
  """Returns `then` where `flag` is true, for all of a `vmap` or for none.

  A condition of each member would compute both for every one of them.
  """

  @jax.custom_batching.custom_vmap
  def choose(flag, *arrays):
    return jax.lax.cond(flag, then, otherwise, *arrays)

  @choose.def_vmap
  def batched(axis_size, in_batched, flag, *arrays):
    axes = tuple(0 if is_batched else None for is_batched in in_batched[1:])
    over = functools.partial(jax.vmap, in_axes=axes, axis_size=axis_size)
    both = _if_all(jnp.all(flag), over(then), over(otherwise))
    return both(*arrays), True

  return functools.partial(choose, flag)
