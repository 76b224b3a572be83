"""One member on one device: a training step, many of them, an evaluation.

`run_steps` is the function that a program runs between two looks of the host.
A variant that trains the same steps in another way (each window on a small
network, say) takes its place by having its signature.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt

from kdropout_jax import blocks
from kdropout_jax import config
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax.masks import guided
from kdropout_jax.masks import schedules
from kdropout_jax.subnets import sites
from kdropout_jax.training import batches as batches_lib
from kdropout_jax.training import parallel
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import task as task_lib

__all__ = (
  "Masks",
  "RunSteps",
  "apply_gradients",
  "global_ids",
  "init_state",
  "make_loss",
  "make_row_losses",
  "read_inputs",
  "run_steps",
  "subnets",
  "train_step",
)

Masks = Mapping[str, blocks.Masks]
"""{layer: its masks}."""

RunSteps = Callable[
  [
    task_lib.Worker,
    state_lib.TrainState,
    Int[Array, ""],
    Int[Array, ""],
    task_lib.Data,
  ],
  tuple[state_lib.TrainState, task_lib.Sums],
]
"""Trains steps: (worker, state, start, count, data) -> (state, sums)."""


def init_state(
  task: task_lib.Task, member: state_lib.Members, example: Any
) -> state_lib.TrainState:
  """Returns the state of `member` before step 0.

  Args:
    task: the task.
    member: a member, without its leading axis.
    example: stored inputs of one example or more, [B, ...].
  """
  init_key = rng.run_key(member.key, "init")
  # No dropout at initialisation: parameters must not depend on the method.
  variables = task.model.init(
    {"params": init_key}, task.preprocess(example), train=False
  )
  collections = {k: v for k, v in variables.items() if k != "params"}
  optimizer = task.make_optimizer(member.learning_rate)
  schedule = member.schedule
  is_guided = isinstance(schedule, guided.Guided)
  return state_lib.TrainState(
    params=variables["params"],
    collections=collections,
    opt_state=optimizer.init(variables["params"]),
    schedule=guided.init(schedule) if is_guided else (),
  )


def train_step(
  worker: task_lib.Worker,
  state: state_lib.TrainState,
  step: Step,
  batch: task_lib.Data,
  masks: Masks | None = None,
) -> tuple[state_lib.TrainState, tuple[Float[Array, ""], Float[Array, ""]]]:
  """Trains on one batch.

  Args:
    worker: the member, on its device.
    state: its state before the step.
    step: number of the step, from 0.
    batch: the device's rows.
    masks: those of this step, where they are sampled already.

  Returns:
    The new state, and the loss and accuracy of the global batch.
  """
  loss_fn = make_loss(worker, state.collections, step, batch, masks)
  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (accuracy, updated)), grads = grad_fn(state.params)
  grads, loss, accuracy, updated = parallel.mean(
    (grads, loss, accuracy, updated)
  )
  state = apply_gradients(worker, state, grads)
  return dataclasses.replace(state, collections=updated), (loss, accuracy)


def apply_gradients(
  worker: task_lib.Worker, state: state_lib.TrainState, grads: Any
) -> state_lib.TrainState:
  """Returns the state with the optimizer's update of the parameters.

  Args:
    worker: the member, on its device.
    state: before the update.
    grads: of the parameters, of all devices.
  """
  optimizer = worker.task.make_optimizer(worker.member.learning_rate)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return dataclasses.replace(state, params=params, opt_state=opt_state)


def make_loss(
  worker: task_lib.Worker,
  collections: Any,
  step: Step,
  batch: task_lib.Data,
  masks: Masks | None = None,
) -> Callable[[Any], tuple[Float[Array, ""], tuple[Float[Array, ""], Any]]]:
  """Returns the loss of a device's rows as a function of the parameters.

  It returns the loss, and beside it the accuracy and the model's other
  variables (`collections` before the step) afterwards. Other arguments as for
  `train_step`.

  Args:
    worker: the member, on its device.
    collections: other variables than parameters.
    step: number of the step.
    batch: the rows of this device.
    masks: those of this step, where they are sampled already.
  """
  chosen = subnets(worker, step, batch)
  row_losses = make_row_losses(worker, collections, step, batch, chosen)

  def loss_fn(params):
    with sites.feeding(masks or {}):
      losses, hits, updated = row_losses(params)
    return jnp.mean(losses), (jnp.mean(hits), updated)

  return loss_fn


def make_row_losses(
  worker: task_lib.Worker,
  collections: Any,
  step: Step,
  batch: task_lib.Data,
  chosen: task_lib.Subnets,
) -> Callable[[Any], tuple[Float[Array, "rows"], Float[Array, "rows"], Any]]:
  """Returns the losses and hits of a device's rows under chosen subnets.

  A function of the parameters, which returns the model's other variables
  afterwards as well. Arguments as for `make_loss`, and what `subnets` returns.

  Args:
    worker: the member, on its device.
    collections: other variables than parameters.
    step: number of the step.
    batch: the rows of this device.
    chosen: the subnets that they train.
  """
  task = worker.task
  rngs = rng.step_rngs(worker.member.key, step, worker.shard.device)
  inputs = read_inputs(worker, step, batch)

  def row_losses(params):
    call = functools.partial(
      task.model.apply,
      {"params": params, **collections},
      inputs,
      train=True,
      subnets=chosen.ids,
      assignment=chosen.slots,
      rngs=rngs,
    )
    if task.penalty is None:
      logits, updated = call(mutable=list(collections))
      losses, hits = task.score(logits, batch.labels, inputs)
      return losses, hits, updated
    logits, updated = call(
      mutable=[*collections, "intermediates"],
      capture_intermediates=task.watched or False,
    )
    updated = dict(updated)
    seen = _last_outputs(updated.pop("intermediates", {}))
    losses, hits = task.score(logits, batch.labels, inputs)
    return losses + task.penalty(seen), hits, updated

  return row_losses


def _last_outputs(intermediates: Any) -> list[Any]:
  """Returns what each watched method returned at its last, outermost call.

  A method that calls its parent class's own is captured twice.
  """
  calls = jax.tree.leaves(intermediates, is_leaf=lambda x: type(x) is tuple)
  return [outputs[-1] for outputs in calls]


def read_inputs(
  worker: task_lib.Worker, step: Step, batch: task_lib.Data
) -> Any:
  """Returns the model's inputs of a batch: augmented, then preprocessed.

  Args:
    worker: the member, on its device.
    step: number of the step.
    batch: the rows of this device.
  """
  task, inputs = worker.task, batch.inputs
  if task.augment is not None:
    augment_key = rng.step_key(worker.member.key, "augment", step)
    device_key = jax.random.fold_in(augment_key, worker.shard.device)
    inputs = task.augment(inputs, device_key)
  return task.preprocess(inputs)


def run_steps(
  worker: task_lib.Worker,
  state: state_lib.TrainState,
  start: Int[Array, ""],
  count: Int[Array, ""],
  data: task_lib.Data,
  one_step: Callable[..., Any] = train_step,
) -> tuple[state_lib.TrainState, task_lib.Sums]:
  """Trains steps `start` to ``start + count`` on data that is on the device.

  Both numbers are traced: one program serves every length, so that where a
  run is cut into dispatches changes neither its bits nor its compilation.
  `one_step` has the signature of `train_step`.

  Args:
    worker: the member, on its device.
    state: after `start` steps.
    start: steps that are done.
    count: steps to train.
    data: examples; training ones first.
    one_step: trains one step.

  Returns:
    The state after them; the sums over them.
  """
  batches = batches_lib.Batches(worker, start, data)

  def body(step, carry):
    state, order, sums = carry
    batch, order = batches.read(step, order)
    state, (loss, accuracy) = one_step(worker, state, step, batch)
    return state, order, sums.add(step, loss, accuracy)

  carry = (state, batches.no_order(), task_lib.Sums.zero())
  state, _, sums = jax.lax.fori_loop(start, start + count, body, carry)
  return state, sums


def subnets(
  worker: task_lib.Worker, step: Step, batch: task_lib.Data
) -> task_lib.Subnets:
  """Returns the subnets that the rows of a device train.

  Args:
    worker: the member, on its device.
    step: number of the step.
    batch: the rows of this device.
  """
  task, member = worker.task, worker.member
  if member.schedule is None:
    return task_lib.Subnets()
  if isinstance(member.schedule, guided.Guided):
    raise ValueError(
      "schedule has a state, which this step does not carry: train kd.Guided"
      " with kdropout_jax.training.guided.run_steps"
    )
  ids = global_ids(task, member.key, member.schedule, step)
  if task.assign is not None:
    return task_lib.Subnets(ids, task.assign(batch.inputs, batch.labels))
  return parallel.subnets_on_device(
    ids,
    worker.shard,
    batch_size=task.batch_size,
    num_devices=task.num_devices,
    row_layout=task.row_layout,
    rescale=task.rescale,
  )


def global_ids(
  task: task_lib.Task, key: Key, schedule: config.Schedule, step: Step
) -> UInt[Array, "..."]:
  """Returns the ids of the whole batch: [T], or [L, T] where layers draw.

  Args:
    task: the task.
    key: the key of the run.
    schedule: chooses the subnets.
    step: number of the step.
  """
  key = rng.run_key(key, rng.SUBNETS)
  return schedules.site_ids(
    step, key, schedule, task.batch_size, task.num_sites
  )
