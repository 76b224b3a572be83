"""Windows of disjoint subnets: P small networks, on one device or on many.

`DisjointSteps` takes the place of `step.run_steps`. Within a window a device
trains its own networks on its own rows; it hears from others of what all
subnets share, at each step or, as a variant, at the window's end alone.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from kdropout_jax import subnets
from kdropout_jax._types import UnsupportedError
from kdropout_jax.training import batches as batches_lib
from kdropout_jax.training import parallel
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from kdropout_jax.training import windows

__all__ = (
  "DisjointSteps",
  "plan",
)


@dataclasses.dataclass(frozen=True)
class DisjointSteps:
  """Trains steps in windows of P disjoint small networks; see `plan`.

  Attributes:
    k: steps of a window, the same for all members.
    layout: which parameter axes follow which dropout layer.
    sizes: static sizes where parts are unequal, or None.
    dropped_weights: "caught_up" (masked training) or "frozen" (a variant).
    shared_parameters: "each_step" (masked training) or "window_end".
  """

  k: int
  layout: subnets.Layout
  sizes: Any = None
  dropped_weights: Any = "caught_up"
  shared_parameters: Any = "each_step"

  def __call__(
    self,
    worker: task_lib.Worker,
    state: state_lib.TrainState,
    start: Int[Array, ""],
    count: Int[Array, ""],
    data: task_lib.Data,
  ) -> tuple[state_lib.TrainState, task_lib.Sums]:
    """Trains steps `start` to ``start + count``, as `step.run_steps` does."""
    trainer = self.trainer(worker)
    batches = batches_lib.Batches(worker, start, data)

    def one_step(step, carry):
      window, order, sums = carry
      batch, order = batches.read(step, order)
      rows = self._rows(worker, step, batch, trainer.exchange.num_local)
      window, (losses, hits) = trainer.step(window, *rows)
      sums = sums.add(step, jnp.mean(losses), jnp.mean(hits))
      return window, order, sums

    def begin(params, opt_state, step, batch):
      ids = _global_ids(worker, step)
      inputs = step_lib.read_inputs(worker, step, batch)
      masks = windows.sample_masks(worker, params, inputs, ids)
      return trainer.begin(params, opt_state, masks)

    state, sums = windows.run_windows(
      self.k, state, (start, count), batches, begin, one_step, trainer.end
    )
    return state, _over_devices(sums)

  def trainer(self, worker: task_lib.Worker) -> subnets.DisjointTrainer:
    """Returns what trains the windows of one member on one device.

    Args:
      worker: the member, on its device.
    """
    task = worker.task

    def losses(params, inputs, labels):
      logits = task.model.apply({"params": params}, inputs, train=True)
      return task.score(logits, labels, inputs)

    return subnets.DisjointTrainer(
      losses,
      task.make_optimizer(worker.member.learning_rate),
      self.layout,
      parallel.exchange(
        worker.member.schedule.num_concurrent(task.batch_size),  # pyright: ignore[reportOptionalMemberAccess]
        task.num_devices,
        worker.shard.device,
      ),
      dropped_weights=self.dropped_weights,
      shared_parameters=self.shared_parameters,
      sizes=self.sizes,
    )

  def _rows(self, worker, step, batch, count: int):
    """Returns inputs and labels of this device, [subnets, rows, ...]."""
    rows = (step_lib.read_inputs(worker, step, batch), batch.labels)

    def split(x):
      if worker.task.row_layout == "tiled":
        return jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1)
      return x.reshape(count, -1, *x.shape[1:])

    return jax.tree.map(split, rows)


def plan(
  task: task_lib.Task,
  members: state_lib.Members,
  example: task_lib.Data,
  num_steps: int,
  dropped_weights: str = "caught_up",
  shared_parameters: str = "each_step",
) -> DisjointSteps:
  """Finds the layout and the sizes of a run, and probes loss and optimizer.

  Args:
    task: the task.
    members: the members, as numpy arrays; all with the same k.
    example: a batch's examples; their values do not matter.
    num_steps: steps of the run, for sizes where parts are unequal.
    dropped_weights: "caught_up" or "frozen".
    shared_parameters: "each_step" or "window_end".

  Raises:
    ValueError: devices or rows that the P subnets do not share out evenly.
    UnsupportedError: subnets that are not disjoint, a model with other
      collections (batch norm), a loss with a penalty on all weights, or an
      optimizer that is not elementwise.
  """
  k, num_subnets = windows.window_of(members)
  _check_rows(task, num_subnets)
  windows.check_no_penalty(task)
  first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), members)
  state = jax.jit(
    lambda member, inputs: step_lib.init_state(task, member, inputs)
  )(first, example.inputs)
  layout = windows.find_layout(task, state.variables(), example)
  if jax.tree.leaves(state.collections):
    raise UnsupportedError(
      "disjoint subnets are given parameters alone, but the model has the"
      f" collections {sorted(state.collections)}, too: batch norm mixes the"
      " rows of different subnets"
    )
  shard = task_lib.Shard(jnp.int32(0), jnp.arange(task.batch_size))
  worker = task_lib.Worker(task, first, shard)
  masks = jax.eval_shape(
    lambda params: windows.sample_masks(
      worker, params, _inputs(task, example), _global_ids(worker, 0)
    ),
    state.params,
  )
  subnets.check_disjoint(masks, num_subnets)
  counts: list[int | None] = [-(-num_steps // k) * num_subnets]
  sizes = windows.largest_sizes(
    task, members, state.params, example, counts * members.num_members
  )
  steps = DisjointSteps(k, layout, sizes, dropped_weights, shared_parameters)
  _check_training(steps, worker, state.params, example)
  return steps


def _check_training(steps: DisjointSteps, worker, params, example) -> None:
  """Probes the loss of one subnet, and the optimizer of two."""
  task = worker.task
  streams = rng.step_rngs(worker.member.key, 0)

  def loss(params, inputs, labels, ids):
    logits = task.model.apply(
      {"params": params}, inputs, train=True, subnets=ids, rngs=streams
    )
    return jnp.mean(task.score(logits, labels, inputs)[0])

  args = (_inputs(task, example), example.labels, np.zeros((1,), np.uint32))
  subnets.check_loss(loss, params, steps.layout, steps.sizes, *args)
  if steps.dropped_weights == "caught_up":
    optimizer = task.make_optimizer(worker.member.learning_rate)
    subnets.check_optimizer(optimizer, params, steps.layout, side_by_side=True)


def _check_rows(task: task_lib.Task, num_subnets: int) -> None:
  parallel.check_split(num_subnets, task.batch_size, task.num_devices)
  if task.batch_size % num_subnets:
    raise ValueError(
      f"batch_size must be divisible by the {num_subnets} subnets of a step,"
      f" which train the same number of rows, got {task.batch_size}"
    )
  if task.assign is not None:
    raise UnsupportedError(
      "disjoint subnets train groups of rows of a fixed size, but each"
      " example's subnet is assigned by what it is: train it masked"
    )
  if task.row_layout == "tiled" and task.num_devices > 1:
    raise UnsupportedError(
      "tiled rows of a device belong to all subnets, so that each device would"
      " train every one of them: use row_layout='contiguous', or one device"
    )


def _inputs(task: task_lib.Task, example: task_lib.Data) -> Any:
  return task.preprocess(example.inputs)


def _global_ids(worker: task_lib.Worker, step) -> Any:
  schedule: Any = worker.member.schedule
  return step_lib.global_ids(worker.task, worker.member.key, schedule, step)


def _over_devices(sums: task_lib.Sums) -> task_lib.Sums:
  """Returns sums over all rows, from those of each device's own."""
  loss, accuracy = parallel.mean((sums.loss, sums.accuracy))
  return task_lib.Sums(loss, accuracy, parallel.least(sums.first_bad))
