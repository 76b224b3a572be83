"""Training steps of a guided schedule, whose state goes with the run's.

`run_steps` takes the place of `step.run_steps` in a program whose members have
a `kd.Guided` schedule: each step draws its subnets by what is remembered of
them, and remembers the losses that they had.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdropout_jax import blocks
from kdropout_jax._types import Step
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import guided
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib

__all__ = (
  "check",
  "run_steps",
  "train_step",
)


def check(task: task_lib.Task, schedule: Any) -> guided.Guided:
  """Returns the schedule, or refuses what it cannot train.

  Args:
    task: what the members have in common.
    schedule: a schedule of a member.

  Raises:
    ValueError: another schedule, or more subnets than rows.
    UnsupportedError: several devices, or examples that choose their subnet.
  """
  if not isinstance(schedule, guided.Guided):
    raise ValueError(f"schedule must be kd.Guided, got {schedule!r}")
  if schedule.concurrent > task.batch_size:
    raise ValueError(
      f"concurrent must be <= batch_size={task.batch_size}, so that each"
      f" subnet has a loss, got {schedule.concurrent}"
    )
  if task.num_devices != 1:
    raise UnsupportedError(
      "a guided schedule needs the losses of all subnets in one place: it"
      f" trains on one device, got num_devices={task.num_devices}"
    )
  if task.assign is not None:
    raise UnsupportedError(
      "a guided schedule chooses subnets by the losses of the rows that it"
      " gives them: examples cannot choose for themselves (assign)"
    )
  return schedule


def train_step(
  worker: task_lib.Worker,
  state: state_lib.TrainState,
  step: Step,
  batch: task_lib.Data,
) -> tuple[state_lib.TrainState, tuple[Float[Array, ""], Float[Array, ""]]]:
  """Trains on one batch, as `step.train_step` does.

  Args:
    worker: the member, on its device.
    state: after `step` steps.
    step: number of the step.
    batch: the rows of this device.

  Returns:
    The state after the step; its loss and accuracy.
  """
  task, schedule = worker.task, check(worker.task, worker.member.schedule)
  key = rng.run_key(worker.member.key, rng.SUBNETS)
  ids, memory = guided.select(state.schedule, step, key, schedule)
  row_losses = step_lib.make_row_losses(
    worker, state.collections, step, batch, task_lib.Subnets(ids)
  )

  def loss_fn(params):
    losses, hits, updated = row_losses(params)
    return jnp.mean(losses), (losses, jnp.mean(hits), updated)

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (losses, accuracy, updated)), grads = grad_fn(state.params)
  memory = guided.update(
    memory, ids, _means_of_subnets(task, losses, schedule.concurrent), schedule
  )
  state = step_lib.apply_gradients(worker, state, grads)
  state = state_lib.TrainState(state.params, updated, state.opt_state, memory)
  return state, (loss, accuracy)


run_steps = functools.partial(step_lib.run_steps, one_step=train_step)
"""Trains many steps, as `step.run_steps` does."""


def _means_of_subnets(task: task_lib.Task, losses, count: int):
  """Returns the mean loss of each subnet's rows, [T]."""
  rows = task.batch_size
  if task.row_layout == "tiled":
    slots = np.arange(rows, dtype=np.int32) % count
  else:
    slots = blocks.row_slots(rows, count)
  sizes = np.bincount(slots, minlength=count).astype(np.float32)
  return jax.ops.segment_sum(losses, slots, count) / sizes
