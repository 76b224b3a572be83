"""Windows of one subnet, trained on an extracted network.

`ExtractedSteps` takes the place of `step.run_steps` in a program: the same
steps, masks and batches, but each window trains a physically small network.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from kdropout_jax import blocks
from kdropout_jax import config
from kdropout_jax import subnets
from kdropout_jax._types import UnsupportedError
from kdropout_jax.training import batches as batches_lib
from kdropout_jax.training import parallel
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib

__all__ = (
  "ExtractedSteps",
  "check_no_penalty",
  "find_layout",
  "largest_sizes",
  "loss_of",
  "plan",
  "run_trainer",
  "run_windows",
  "sample_masks",
)

_IDS_AT_A_TIME = 1024


def run_windows(
  k: int,
  state: state_lib.TrainState,
  steps: tuple[Int[Array, ""], Int[Array, ""]],
  batches: batches_lib.Batches,
  begin: Callable[..., Any],
  one_step: Callable[..., Any],
  end: Callable[[Any], tuple[Any, Any]],
) -> tuple[state_lib.TrainState, task_lib.Sums]:
  """Trains steps in windows of `k`, each taken out, trained and put back.

  Args:
    k: steps of a window.
    state: of one member.
    steps: the first step, and how many.
    batches: of the member.
    begin: (params, opt_state, step, batch) -> window.
    one_step: (step, (window, order, sums)) -> the same, a step later.
    end: window -> (params, opt_state).
  """
  start, count = steps
  stop = start + count

  def one_window(carry):
    step, params, opt_state, order, sums = carry
    batch, order = batches.read(step, order)
    window = begin(params, opt_state, step, batch)
    last = jnp.minimum((step // k + 1) * k, stop)
    window, order, sums = jax.lax.fori_loop(
      step, last, one_step, (window, order, sums)
    )
    return last, *end(window), order, sums

  carry = (
    jnp.asarray(start, jnp.int32),
    state.params,
    state.opt_state,
    batches.no_order(),
    task_lib.Sums.zero(),
  )
  _, params, opt_state, _, sums = jax.lax.while_loop(
    lambda carry: carry[0] < stop, one_window, carry
  )
  state = dataclasses.replace(state, params=params, opt_state=opt_state)
  return state, sums


def run_trainer(
  k: int,
  trainer: Any,
  worker: task_lib.Worker,
  state: state_lib.TrainState,
  steps: tuple[Int[Array, ""], Int[Array, ""]],
  data: task_lib.Data,
) -> tuple[state_lib.TrainState, task_lib.Sums]:
  """Trains steps in windows of `k` by a trainer of windows.

  Args:
    k: steps of a window.
    trainer: has `sample_masks`, `begin`, `step` and `end`, of the loss that
      `loss_of` returns.
    worker: the member, on its device.
    state: of the member.
    steps: the first step, and how many.
    data: examples; training ones first.
  """
  batches = batches_lib.Batches(worker, steps[0], data)

  def one_step(step, carry):
    window, order, sums = carry
    batch, order = batches.read(step, order)
    window, value = trainer.step(window, step, batch)
    loss, (accuracy, _) = parallel.mean(value)
    return window, order, sums.add(step, loss, accuracy)

  def begin(params, opt_state, step, batch):
    masks = trainer.sample_masks(params, step, batch)
    return trainer.begin(params, opt_state, masks)

  return run_windows(k, state, steps, batches, begin, one_step, trainer.end)


def loss_of(worker: task_lib.Worker) -> Callable[..., Any]:
  """Returns ``loss_fn(params, step, batch)`` of a member on its device.

  Args:
    worker: the member, on its device.
  """

  def loss_fn(params, step, batch):
    return step_lib.make_loss(worker, {}, step, batch)(params)

  return loss_fn


@dataclasses.dataclass(frozen=True)
class ExtractedSteps:
  """Trains steps in windows on small networks; see `plan`.

  Where a dispatch ends within a window, the window is put back and taken out
  again: nothing but rounding changes, so cut dispatches at fixed steps where
  bits must not change.

  Attributes:
    k: steps of a window, the same for all members.
    layout: which parameter axes follow which dropout layer.
    sizes: static sizes where masks vary in their count, or None.
    dropped_weights: "caught_up" (masked training) or "frozen" (a variant).
  """

  k: int
  layout: subnets.Layout
  sizes: Any = None
  dropped_weights: Any = "caught_up"

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
    return run_trainer(self.k, trainer, worker, state, steps, data)

  def trainer(self, worker: task_lib.Worker) -> subnets.WindowTrainer:
    """Returns what trains the windows of one member on one device.

    Args:
      worker: the member, on its device.
    """
    return subnets.WindowTrainer(
      loss_of(worker),
      worker.task.make_optimizer(worker.member.learning_rate),
      self.layout,
      dropped_weights=self.dropped_weights,
      sizes=self.sizes,
      has_aux=True,
      reduce_grads=parallel.mean,
    )


def plan(
  task: task_lib.Task,
  members: state_lib.Members,
  example: task_lib.Data,
  num_steps: int,
  dropped_weights: str = "caught_up",
) -> ExtractedSteps:
  """Finds the layout and the sizes of a run, and probes loss and optimizer.

  Args:
    task: the task.
    members: the members, as numpy arrays; all with the same k.
    example: a batch's examples; their values do not matter.
    num_steps: steps of the run: where masks vary in their count, small
      networks are as large as the largest subnet of its windows.
    dropped_weights: "caught_up" or "frozen".

  Raises:
    UnsupportedError: a step trains other than one subnet, or what
      `WindowTrainer.check` refuses.
  """
  k, num_subnets = window_of(members)
  if num_subnets != 1:
    raise UnsupportedError(
      "extraction trains windows of one subnet: it needs sequential k-dropout"
      f" with m=1, got Sequential with m={num_subnets}"
    )
  first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), members)
  state = jax.jit(
    lambda member, inputs: step_lib.init_state(task, member, inputs)
  )(first, example.inputs)
  layout = find_layout(task, state.variables(), example)
  counts: list[int | None] = [-(-num_steps // k)] * members.num_members
  sizes = largest_sizes(task, members, state.params, example, counts)
  steps = ExtractedSteps(k, layout, sizes, dropped_weights)
  shard = task_lib.Shard(jnp.int32(0), jnp.arange(task.batch_size))
  trainer = steps.trainer(task_lib.Worker(task, first, shard))
  trainer.check(state.params, 0, example)
  return steps


def find_layout(
  task: task_lib.Task, variables: Any, example: task_lib.Data
) -> subnets.Layout:
  """Returns the layout of a task's model.

  Args:
    task: the task.
    variables: of its model; their shapes count.
    example: examples; two are run.
  """
  inputs = jax.tree.map(lambda x: x[:2], example.inputs)
  return subnets.layout(
    task.model, variables, task.preprocess(inputs), train=True
  )


def sample_masks(
  worker: task_lib.Worker, params: Any, inputs: Any, ids: Any
) -> dict[str, blocks.Masks]:
  """Returns the masks of subnets, by their ids, in a member's run.

  Args:
    worker: the member, on its device.
    params: parameters; their shapes count.
    inputs: of the model; their shapes count.
    ids: of the subnets, [T].
  """
  streams = rng.step_rngs(worker.member.key, 0)

  def apply():
    return worker.task.model.apply(
      {"params": params}, inputs, train=True, subnets=ids, rngs=streams
    )

  return subnets.sample_masks(apply)


def window_of(members: state_lib.Members) -> tuple[int, int]:
  """Returns steps and subnets of a window of sequential k-dropout.

  Raises:
    UnsupportedError: another schedule, or members with different k.
  """
  schedule = members.schedule
  is_windows = isinstance(schedule, config.Sequential)
  if not is_windows or not config.is_built_in(schedule):
    raise UnsupportedError(
      "windows train the same subnets for k steps: they need sequential"
      f" k-dropout, got {type(schedule).__name__}"
    )
  steps = np.unique(np.asarray(schedule.k))
  if steps.size != 1:
    raise UnsupportedError(
      "windows train members in step: all need the same k, got"
      f" {steps.tolist()}"
    )
  return int(steps[0]), int(schedule.m)


def check_no_penalty(task: task_lib.Task) -> None:
  """Refuses a penalty, which watches units that a small network lacks.

  Args:
    task: the task.

  Raises:
    UnsupportedError: the task has one.
  """
  if task.penalty is not None:
    raise UnsupportedError(
      "small networks train on the losses of rows alone, but the task has a"
      " penalty on what its model returns inside: train it masked"
    )


def largest_sizes(
  task: task_lib.Task,
  members: state_lib.Members,
  params: Any,
  example: task_lib.Data,
  counts: Sequence[int | None],
) -> dict[str, int] | None:
  """Returns the largest count of kept units, or None where it does not vary.

  Args:
    task: the task.
    members: the members, as numpy arrays.
    params: parameters; their shapes count.
    example: examples.
    counts: for each member, how many ids it may use, from 0 on; None where
      nobody can count them.

  Raises:
    UnsupportedError: counts that vary, of ids that nobody can count.
  """
  inputs = task.preprocess(jax.tree.map(lambda x: x[:2], example.inputs))
  zeros = functools.partial(jax.tree.map, lambda x: jnp.zeros(x.shape, x.dtype))
  shard = task_lib.Shard(jnp.int32(0), jnp.arange(task.batch_size))

  @jax.jit
  def sample(member, ids):
    worker = task_lib.Worker(task, member, shard)
    masks = sample_masks(worker, zeros(params), inputs, ids)
    return {k: mask for k, mask in masks.items() if mask.num_kept is None}

  sizes: dict[str, int] = {}
  for i, count in enumerate(counts):
    member = jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf[i]), members)
    ids = np.arange(_IDS_AT_A_TIME if count is None else count, dtype=np.uint32)
    for first in range(0, ids.size, _IDS_AT_A_TIME):
      # The last few again, so that one shape serves all.
      last = min(first + _IDS_AT_A_TIME, ids.size)
      masks = sample(member, ids[max(0, last - _IDS_AT_A_TIME) : last])
      if not masks:
        return None
      if count is None:
        raise UnsupportedError(
          f"masks of {min(masks)!r} keep a number of units that varies, in more"
          " subnets than can be counted beforehand: use an exact pattern"
        )
      for layer, size in subnets.max_sizes(masks).items():
        sizes[layer] = max(size, sizes.get(layer, 1))
  return sizes
