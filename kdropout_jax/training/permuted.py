"""Windows of a whole group of subnets, with units in the order of their parts.

`PermutedSteps` takes the place of `step.run_steps`: the same masked steps, on
parameters and moments that are moved at the windows' ends alone.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from kdropout_jax import subnets
from kdropout_jax._types import UnsupportedError
from kdropout_jax.training import parallel
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from kdropout_jax.training import windows

__all__ = (
  "PermutedSteps",
  "plan",
)


@dataclasses.dataclass(frozen=True)
class PermutedSteps:
  """Trains steps in windows with units in order; see `plan`.

  Where a dispatch ends within a window, the units are put back and moved
  again, which changes no bit.

  Attributes:
    k: steps of a window, the same for all members.
    layout: which parameter axes follow which dropout layer.
  """

  k: int
  layout: subnets.Layout

  def __call__(
    self,
    worker: task_lib.Worker,
    state: state_lib.TrainState,
    start: Int[Array, ""],
    count: Int[Array, ""],
    data: task_lib.Data,
  ) -> tuple[state_lib.TrainState, task_lib.Sums]:
    """Trains steps `start` to ``start + count``, as `step.run_steps` does."""
    trainer, steps = self.trainer(worker), (start, count)
    return windows.run_trainer(self.k, trainer, worker, state, steps, data)

  def trainer(self, worker: task_lib.Worker) -> subnets.PermutedTrainer:
    """Returns what trains the windows of one member.

    Args:
      worker: the member, on its device.
    """
    return subnets.PermutedTrainer(
      windows.loss_of(worker),
      worker.task.make_optimizer(worker.member.learning_rate),
      self.layout,
      has_aux=True,
      reduce_grads=parallel.mean,
    )


def plan(
  task: task_lib.Task, members: state_lib.Members, example: task_lib.Data
) -> PermutedSteps:
  """Finds the layout of a run, and probes its loss and optimizer.

  Args:
    task: the task.
    members: the members, as numpy arrays; all with the same k.
    example: a batch's examples; their values do not matter.

  Raises:
    UnsupportedError: several devices, another schedule than sequential
      k-dropout, a model with other collections (batch norm), or what
      `PermutedTrainer.check` refuses.
  """
  k, _ = windows.window_of(members)
  if task.num_devices > 1:
    raise UnsupportedError(
      "a device trains a whole group of subnets with its units in order, got"
      f" num_devices={task.num_devices}: use one device, or several with"
      " subnets that share no unit (kd.subnets.DisjointTrainer)"
    )
  if task.assign is not None:
    raise UnsupportedError(
      "units in order need rows in the order of their subnets, but each"
      " example's subnet is assigned by what it is: train it masked"
    )
  first: Any = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), members)
  state = jax.jit(
    lambda member, inputs: step_lib.init_state(task, member, inputs)
  )(first, example.inputs)
  if jax.tree.leaves(state.collections):
    raise UnsupportedError(
      "windows are given parameters alone, but the model has the collections"
      f" {sorted(state.collections)}, too"
    )
  layout = windows.find_layout(task, state.variables(), example)
  steps = PermutedSteps(k, layout)
  shard = task_lib.Shard(jnp.int32(0), jnp.arange(task.batch_size))
  trainer = steps.trainer(task_lib.Worker(task, first, shard))
  masks = trainer.sample_masks(state.params, 0, example)
  trainer.check(state.params, masks, 0, example)
  return steps
