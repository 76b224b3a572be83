"""The masks of many steps, sampled at once before the loop over them.

On a GPU the launches of sampling are paid once a chunk of steps instead of at
every step. A CPU launches nothing, and trains by `step.run_steps`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax import subnets
from kdropout_jax._types import UnsupportedError
from kdropout_jax.training import batches as batches_lib
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib

__all__ = (
  "chunk_steps",
  "run_steps",
  "run_steps_for",
  "sample_masks",
)

_MAX_STEPS = 64
"""Steps of a chunk: launches are below a fiftieth by then, and more steps
would only be sampled in vain where a dispatch ends within a chunk."""

_MASK_BYTES = 4 << 20
"""What the masks of a chunk may take, a member and device: 64 steps of eight
subnets of 8,192 units. Sampling them takes up to 20 times as much for a
moment (bits, and a sort of them with their places), and a program may have
tens of members."""


def run_steps_for(platform: str) -> Callable[..., Any]:
  """Returns what trains steps on devices of `platform`.

  Args:
    platform: "cpu", "gpu" or "tpu".

  >>> run_steps_for("cpu") is step_lib.run_steps
  True
  """
  return step_lib.run_steps if platform == "cpu" else run_steps


def run_steps(
  worker: task_lib.Worker,
  state: state_lib.TrainState,
  start: Int[Array, ""],
  count: Int[Array, ""],
  data: task_lib.Data,
  one_step: Callable[..., Any] = step_lib.train_step,
) -> tuple[state_lib.TrainState, task_lib.Sums]:
  """Trains steps `start` to ``start + count``, as `step.run_steps` does.

  The same masks, and one program for every length: chunks begin where the
  dispatch does, and the last one samples more than it trains.

  Args:
    worker: the member, on its device.
    state: after `start` steps.
    start: steps that are done.
    count: steps to train.
    data: examples; training ones first.
    one_step: trains one step; see `step.run_steps`.

  Returns:
    The state after them; the sums over them.
  """
  size = chunk_steps(worker, state, data)
  if size < 2:
    return step_lib.run_steps(worker, state, start, count, data, one_step)
  batches = batches_lib.Batches(worker, start, data)
  stop = start + count

  def one_chunk(carry):
    first, *carry = carry
    steps = first + jnp.arange(size, dtype=jnp.int32)
    masks = sample_masks(worker, state, steps, data)

    def body(step, carry):
      state, order, sums = carry
      batch, order = batches.read(step, order)
      own = jax.tree.map(lambda keep: keep[step - first], masks)
      state, (loss, accuracy) = one_step(worker, state, step, batch, own)
      return state, order, sums.add(step, loss, accuracy)

    end = jnp.minimum(first + size, stop)
    return end, *jax.lax.fori_loop(first, end, body, tuple(carry))

  first = jnp.asarray(start, jnp.int32)
  carry = (first, state, batches.no_order(), task_lib.Sums.zero())
  _, state, _, sums = jax.lax.while_loop(
    lambda carry: carry[0] < stop, one_chunk, carry
  )
  return state, sums


def chunk_steps(
  worker: task_lib.Worker, state: state_lib.TrainState, data: task_lib.Data
) -> int:
  """Returns how many steps' masks are sampled at once; 0: each for itself.

  Masks cannot leave a model that draws anew at each step, that calls a
  dropout twice or within a lifted transform, or that masks each position.

  Args:
    worker: the member, on its device.
    state: a state; its values do not matter.
    data: examples; their values do not matter.
  """
  if worker.member.schedule is None:
    return 0
  step = np.zeros((1,), np.int32)  # A `jnp` one would be traced, and a const.

  def sample(member, shard, state, data):
    own = dataclasses.replace(worker, member=member, shard=shard)
    return sample_masks(own, state, step, data)

  try:
    jaxpr, masks = jax.make_jaxpr(sample, return_shape=True)(
      worker.member, worker.shard, state, data
    )
  except (ValueError, UnsupportedError, jax.errors.UnexpectedTracerError):
    return 0
  if any(map(_checks.is_tracer, jaxpr.consts)):
    return 0  # A mask has left the transform (remat) that it was made in.
  num_bytes = sum(leaf.size for leaf in jax.tree.leaves(masks))
  return min(_MAX_STEPS, _MASK_BYTES // num_bytes) if num_bytes else 0


def sample_masks(
  worker: task_lib.Worker,
  state: state_lib.TrainState,
  steps: Int[Array | np.ndarray, "steps"],
  data: task_lib.Data,
) -> dict[str, blocks.Masks]:
  """Samples the masks that a device applies at each of `steps`.

  Args:
    worker: the member, on its device.
    state: a state; its values do not matter.
    steps: numbers of steps.
    data: examples; their values do not matter.

  Returns:
    {layer: `Masks`, keep with a leading axis of steps}.
  """
  batch = data.take(worker.shard.rows)

  def one(step):
    chosen = step_lib.subnets(worker, step, batch)
    row_losses = step_lib.make_row_losses(
      worker, state.collections, step, batch, chosen
    )
    return subnets.sample_masks(row_losses, state.params)

  return jax.vmap(one)(steps)
