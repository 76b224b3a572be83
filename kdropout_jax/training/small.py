"""Steps whose subnets train as small networks side by side.

`SmallStep` takes the place of `step.train_step`: the same subnets, batches and
full-size gradients, but no masked product. It serves every schedule whose rows
fall into groups, and every optimizer.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdropout_jax import config
from kdropout_jax import subnets
from kdropout_jax._types import Step
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import guided
from kdropout_jax.training import ahead
from kdropout_jax.training import parallel
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from kdropout_jax.training import windows

__all__ = (
  "SmallStep",
  "plan",
)


@dataclasses.dataclass(frozen=True)
class SmallStep:
  """Trains one step on T small networks; see `plan`.

  Attributes:
    layout: which parameter axes follow which dropout layer.
    sizes: static sizes where masks vary in their count, or None.
  """

  layout: subnets.Layout
  sizes: Any = None

  def __call__(
    self,
    worker: task_lib.Worker,
    state: state_lib.TrainState,
    step: Step,
    batch: task_lib.Data,
    masks: step_lib.Masks | None = None,
  ) -> tuple[state_lib.TrainState, tuple[Float[Array, ""], Float[Array, ""]]]:
    """Trains on one batch, as `step.train_step` does."""
    task = worker.task
    inputs = step_lib.read_inputs(worker, step, batch)
    if masks is None:
      chosen = step_lib.subnets(worker, step, batch)
      masks = windows.sample_masks(worker, state.params, inputs, chosen.ids)

    def row_losses(params, inputs, labels):
      logits = task.model.apply({"params": params}, inputs, train=True)
      return task.score(logits, labels, inputs)

    value_and_grad = subnets.value_and_grad(
      row_losses,
      self.layout,
      has_aux=True,
      row_layout=task.row_layout,
      sizes=self.sizes,
    )
    (loss, hits), grads = value_and_grad(
      state.params, masks, inputs, batch.labels
    )
    grads, loss, accuracy = parallel.mean((grads, loss, jnp.mean(hits)))
    return step_lib.apply_gradients(worker, state, grads), (loss, accuracy)


def plan(
  task: task_lib.Task,
  members: state_lib.Members,
  example: task_lib.Data,
  num_steps: int,
) -> step_lib.RunSteps:
  """Finds the layout and the sizes of a run.

  Args:
    task: the task.
    members: the members, as numpy arrays.
    example: a batch's examples; their values do not matter.
    num_steps: steps of the run: where masks vary in their count, small
      networks are as large as the largest of its subnets.

  Returns:
    What a program takes as `run_steps`.

  Raises:
    UnsupportedError: rows that do not fall into groups, masks of varying
      counts of more subnets than can be counted, a penalty, or a model that has
      no small networks.
  """
  _check_rows(task, members)
  windows.check_no_penalty(task)
  first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), members)
  state = jax.eval_shape(
    lambda member: step_lib.init_state(task, member, example.inputs), first
  )
  collections = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype), state.collections
  )
  variables = {"params": state.params, **collections}
  layout = windows.find_layout(task, variables, example)
  if jax.tree.leaves(collections):
    raise UnsupportedError(
      "small networks are given parameters alone, but the model has the"
      f" collections {sorted(collections)}, too"
    )
  sizes = windows.largest_sizes(
    task, members, state.params, example, _num_ids(members, num_steps)
  )
  run_steps = ahead.run_steps_for(jax.default_backend())
  return functools.partial(run_steps, one_step=SmallStep(layout, sizes))


def _check_rows(task: task_lib.Task, members: state_lib.Members) -> None:
  schedule: Any = members.schedule
  if schedule is None or isinstance(schedule, guided.Guided):
    raise UnsupportedError(
      "small networks train the subnets of a schedule without a state, got"
      f" {type(schedule).__name__}"
    )
  if task.assign is not None:
    raise UnsupportedError(
      "small networks train groups of rows of a fixed size, but each example's"
      " subnet is assigned by what it is: train it masked"
    )
  if task.num_devices == 1:
    return
  num_subnets = schedule.num_concurrent(task.batch_size)
  num_rows = task.batch_size // task.num_devices
  if task.row_layout == "tiled":
    if num_rows % num_subnets:
      raise UnsupportedError(
        f"small networks need the tiled rows of a device, {num_rows}, to be"
        f" divisible by the {num_subnets} subnets of a step"
      )
  elif task.rescale == "realised":
    raise UnsupportedError(
      "small networks of one device do not see the masks of the others, which"
      f" rescale='realised' counts: use one device, got {task.num_devices}"
    )


def _num_ids(members: state_lib.Members, num_steps: int) -> list[int | None]:
  """Returns how many ids the run of each member may use, from 0 on."""

  def count(schedule: Any) -> int | None:
    if not config.is_built_in(schedule):
      return None
    match schedule:
      case config.Sequential():
        return -(-num_steps // int(schedule.k)) * schedule.m
      case config.Pooled():
        return int(schedule.pool_size)
      case config.Gyro():
        return int(schedule.total)
    return None

  return [
    count(jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], members.schedule))
    for i in range(members.num_members)
  ]
