"""Catching up: many updates with zero gradients, at the speed of the cache.

While a window trains a small network, every dropped weight sees zero
gradients: momentum still moves it, its moments decay, weight decay shrinks it.
Those updates depend on nothing else, so they are replayed at the window's end,
several fused into one pass over the weights: chunk by chunk of a CPU's cache,
with the loop over updates inside; on a GPU, where a loop's turn is a launch of
kernels that wants whole arrays, in one loop over updates (seen on an H200: .17
ms a step against .82).

All elements are replayed, the kept ones, too, which `insert` overwrites then:
a third more arithmetic, and nothing to gather. No update is left out once the
weights rest, although it could: seen on two cores, 96 Adam updates of 7.9 M
weights take .15 to .3 s, about a tenth of the small network's 96 steps.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdropout_jax import _checks
from kdropout_jax._types import Step
from kdropout_jax.subnets import layouts

__all__ = ("catch_up",)

_CHUNK_BYTES = 3 << 18  # weights, moments: well inside a core's second cache
_MAX_UNROLL = 16  # updates fused into one pass over a chunk: registers
_MAX_UNROLLED_LEAVES = 128  # more make compilation slow


def catch_up(
  optimizer: optax.GradientTransformation,
  params: Any,
  opt_state: Any,
  layout: layouts.Layout,
  num_updates: Step,
) -> tuple[Any, Any]:
  """Applies `num_updates` updates with zero gradients to followed parameters.

  Exact for optimizers that treat every element by itself where gradients are
  zero; `check_optimizer` tells.

  Args:
    optimizer: any optax transformation.
    params: full parameters, as they were when the window began.
    opt_state: the optimizer's state of that time.
    layout: parameters without a followed axis are left alone.
    num_updates: updates to replay; may be traced.

  Returns:
    Parameters and state. Leaves of the state that mirror no followed
    parameter (counters) are returned as given.

  Raises:
    ValueError: a wrong optimizer, layout or count, or a state that is not
      that optimizer's.

  >>> import jax.numpy as jnp, kdropout_jax as kd, optax
  >>> sgd, layout = optax.sgd(1.0, momentum=0.5), kd.subnets.Layout(
  ...   {"w": {0: "h"}})
  >>> params, state = {"w": jnp.zeros(2)}, sgd.init({"w": jnp.zeros(2)})
  >>> _, state = sgd.update({"w": jnp.ones(2)}, state)
  >>> params, state = kd.subnets.catch_up(sgd, params, state, layout, 2)
  >>> params["w"].tolist()
  [-0.75, -0.75]
  """
  layouts.check_optimizer(optimizer)
  layouts.check_params(params, layout)
  _checks.check_tree("opt_state", opt_state)
  num_updates = _check_count(num_updates)
  chunks = _Chunks.of(params, opt_state, layout)
  if not chunks.followed:
    return params, opt_state
  try:
    results = jax.lax.platform_dependent(
      cuda=lambda: _as_a_whole(optimizer, chunks, num_updates),
      default=lambda: _by_chunks(optimizer, chunks, num_updates),
    )
  except (AttributeError, IndexError, TypeError, ValueError) as error:
    raise ValueError(
      "opt_state must be what optimizer.init makes of params, got a tree that"
      f" its update does not take: {error}"
    ) from error
  leaves = list(chunks.leaves)
  for i, result in zip(chunks.followed, results):
    leaves[i] = result
  return jax.tree.unflatten(chunks.treedef, leaves)


def _check_count(num_updates):
  is_integer = isinstance(num_updates, (int, np.integer))
  if not is_integer or isinstance(num_updates, bool):
    _checks.check_array("num_updates", num_updates, "", "integer")
  elif not 0 <= num_updates < 2**31:
    raise ValueError(f"num_updates must be in [0, 2**31), got {num_updates}")
  return num_updates


@dataclasses.dataclass
class _Chunks:
  """Parameters and state as one list of leaves, and how to cut it.

  Attributes:
    leaves: of (params, opt_state).
    treedef: their structure.
    followed: places of the leaves that are replayed.
    rest: places of other leaves that have a parameter's shape; an optimizer
      sees them empty.
    count: number of chunks, the same for each leaf.
  """

  leaves: list[Any]
  treedef: Any
  followed: list[int]
  rest: list[int]
  count: int

  @classmethod
  def of(cls, params, opt_state, layout: layouts.Layout) -> "_Chunks":
    owners, owned, _ = layouts.flatten(params)
    followed_owners = {tuple(path.split("/")) for path, _ in layout.axes}
    paths, leaves, treedef = layouts.flatten((params, opt_state))
    followed, rest = [], []
    for i, owner in enumerate(layouts.mirrored(paths, owners)):
      if owner is None or jnp.shape(leaves[i]) != jnp.shape(owned[owner]):
        continue
      is_followed = owners[owner] in followed_owners
      (followed if is_followed else rest).append(i)
    num_bytes = sum(leaves[i].size * leaves[i].dtype.itemsize for i in followed)
    return cls(
      leaves,
      treedef,
      followed,
      rest,
      max(1, math.ceil(num_bytes / _CHUNK_BYTES)),
    )

  def pack(self, i: int) -> jax.Array:
    """Returns leaf i as [count, n, 1, ..., 1], of the leaf's rank a chunk.

    Optimizers may ask for the rank (decay for matrices only), not for more.
    """
    leaf = self.leaves[i]
    each = math.ceil(leaf.size / self.count)
    flat = jnp.pad(leaf.reshape(-1), (0, each * self.count - leaf.size))
    return flat.reshape(self.count, each, *(1,) * (leaf.ndim - 1))

  def trees(self, chunk: list[jax.Array]) -> tuple[Any, Any]:
    """Returns params and state that hold one chunk."""
    leaves = list(self.leaves)
    for i, value in zip(self.followed, chunk):
      leaves[i] = value
    for i in self.rest:
      leaves[i] = jnp.zeros((0,) * jnp.ndim(leaves[i]), leaves[i].dtype)
    return jax.tree.unflatten(self.treedef, leaves)


def _by_chunks(optimizer, chunks: _Chunks, num_updates) -> list[jax.Array]:
  """Replays chunk by chunk, all updates of one before the next."""
  unroll = _unroll(chunks)
  update = _update(optimizer)

  def several(_, carry):
    for _ in range(unroll):
      carry = update(carry)
    return carry

  def replay(chunk):
    carry = jax.tree.map(jnp.asarray, chunks.trees(chunk))
    passes = (
      (num_updates // unroll, several),
      (num_updates % unroll, lambda _, carry: update(carry)),
    )
    for trips, body in passes:
      if not isinstance(trips, int) or trips:  # a loop of none compiles, too
        carry = jax.lax.fori_loop(0, trips, body, carry)
    leaves = jax.tree.leaves(carry)
    return [leaves[i] for i in chunks.followed]

  results = jax.lax.map(replay, [chunks.pack(i) for i in chunks.followed])
  full = [chunks.leaves[i] for i in chunks.followed]
  return [
    result.reshape(-1)[: leaf.size].reshape(leaf.shape)
    for result, leaf in zip(results, full)
  ]


def _as_a_whole(optimizer, chunks: _Chunks, num_updates) -> list[jax.Array]:
  """Replays whole arrays in one loop, of which a turn is several updates.

  The last turn leaves out those that are too many, element by element.
  """
  unroll = _unroll(chunks)
  update = _update(optimizer)

  def several(turn, carry):
    for i in range(unroll):
      is_due = turn * unroll + i < num_updates
      carry = jax.tree.map(
        lambda new, old, is_due=is_due: jnp.where(is_due, new, old),
        update(carry),
        carry,
      )
    return carry

  whole = chunks.trees([chunks.leaves[i] for i in chunks.followed])
  carry = jax.tree.map(jnp.asarray, whole)
  turns = (num_updates + unroll - 1) // unroll
  leaves = jax.tree.leaves(jax.lax.fori_loop(0, turns, several, carry))
  return [leaves[i] for i in chunks.followed]


def _unroll(chunks: _Chunks) -> int:
  """Returns how many updates one pass over the elements does."""
  return max(1, min(_MAX_UNROLL, _MAX_UNROLLED_LEAVES // len(chunks.followed)))


def _update(optimizer) -> Callable[[tuple[Any, Any]], tuple[Any, Any]]:
  """Returns one update of (params, state) with zero gradients."""

  def update(carry):
    zeros = jax.tree.map(jnp.zeros_like, carry[0])
    return updated(optimizer, zeros, carry)

  return update


def updated(
  optimizer: optax.GradientTransformation, grads: Any, carry: tuple[Any, Any]
) -> tuple[Any, Any]:
  """Returns (params, state) after an update, of the dtypes that they had."""
  params, state = carry
  updates, new_state = optimizer.update(grads, state, params)
  new = optax.apply_updates(params, updates), new_state
  return jax.tree.map(lambda x, old: x.astype(old.dtype), new, carry)
