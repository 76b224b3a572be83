"""The compiled functions of a run: initialise, train, evaluate.

Members are vmapped, devices are mapped around them (by pmap or by jit, as the
devices say), and each function is traced once for a whole run: steps, lengths
and splits are traced numbers.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from kdropout_jax import _checks
from kdropout_jax.training import ahead
from kdropout_jax.training import parallel
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib

__all__ = ("Program",)


class Program:
  """A task, compiled for devices.

  Args:
    task: what the members have in common.
    devices: of `parallel` or `sharded`; they split a batch in
      `task.num_devices`.
    run_steps: trains many steps of one member: another function of the
      signature of `step.run_steps`; None: what suits the devices, with the
      same masks.
    eval_rows: rows that a device evaluates at a time.

  Raises:
    ValueError: a batch that the devices or the training set do not fit.

  >>> import flax.linen as nn, kdropout_jax as kd, optax
  >>> from kdropout_jax.training import parallel, program, state, task
  >>> class Net(nn.Module):
  ...   @nn.compact
  ...   def __call__(self, x, *, train, subnets=None, assignment=None):
  ...     x = kd.linen.Dropout(0.5, deterministic=not train)(
  ...       nn.Dense(8)(x), subnets=subnets, assignment=assignment)
  ...     return nn.Dense(2)(x)
  >>> data = task.Data(np.eye(4, dtype=np.float32), np.arange(4) % 2)
  >>> devices = parallel.Devices(1)
  >>> run = program.Program(task.Task(Net(), optax.sgd, 2, 4), devices)
  >>> schedules = [kd.Sequential(k=2, m=1)] * 3  # three seeds side by side
  >>> members = state.stack_members([0, 1, 2], [0.1] * 3, schedules)
  >>> members, data = devices.replicate(members), devices.replicate(data)
  >>> trained, sums = run.run(
  ...   run.init(members, data.inputs[:1]), members, data, 0, 6)
  >>> sums.loss.shape
  (3,)
  """

  def __init__(
    self,
    task: task_lib.Task,
    devices: parallel.Devices,
    run_steps: step_lib.RunSteps | None = None,
    eval_rows: int = 512,
  ):
    rng.check_shuffle(task.shuffle)
    _checks.check_positive("batch_size", task.batch_size)
    _checks.check_positive("num_train", task.num_train)
    if task.batch_size > task.num_train:
      raise ValueError(
        f"batch_size must be <= {task.num_train}, the training examples,"
        f" got {task.batch_size}"
      )
    if task.num_devices != devices.count:
      raise ValueError(
        f"num_devices of the task must be {devices.count}, got"
        f" {task.num_devices}"
      )
    parallel.check_split(1, task.batch_size, devices.count)
    self.task, self.devices = task, devices
    self._eval_rows = eval_rows
    self._shards = devices.shards(task.batch_size)
    self._init = jax.jit(
      jax.vmap(functools.partial(step_lib.init_state, task), (0, None))
    )
    run_steps = run_steps or ahead.run_steps_for(devices.platform)
    self._run = devices.compile(self._train(run_steps), donate=True)
    self._step = devices.compile(self._train_batch, donate=True)
    self._evaluate = devices.compile(self._evaluate_rows, donate=False)

  def init(
    self, members: state_lib.Members, example: Any
  ) -> state_lib.TrainState:
    """Returns the members' states before step 0, on every device.

    Args:
      members: the members, replicated.
      example: the stored inputs of one example, [1, ...].
    """
    self.check_members(members)
    local = jax.tree.map(np.asarray, members)
    return self.devices.replicate(self._init(local, example))

  def run(
    self,
    state: state_lib.TrainState,
    members: state_lib.Members,
    data: task_lib.Data,
    start: int,
    count: int,
  ) -> tuple[state_lib.TrainState, task_lib.Sums]:
    """Trains steps `start` to ``start + count`` in one dispatch.

    `state` is donated. `members` and `data` come from `devices.replicate`.

    Args:
      state: after `start` steps; given away.
      members: the members, replicated.
      data: examples of all splits, replicated.
      start: steps that are done.
      count: steps to train; 0 compiles only.

    Returns:
      The state after them; the sums over them.
    """
    shared = (members, data, np.int32(start), np.int32(count))
    return self._run(state, self._shards, shared)

  def run_text(
    self,
    members: state_lib.Members,
    data: task_lib.Data,
    start: int,
    count: int,
  ) -> str:
    """Returns what `run` executes, compiled, as text; trains nothing.

    Args:
      members: the members, as numpy arrays.
      data: examples, as numpy arrays; their values do not matter.
      start: as for `run`.
      count: as for `run`.
    """
    example = jax.tree.map(lambda x: x[:1], data.inputs)
    state = jax.eval_shape(self._init, members, example)
    shared = (members, data, np.int32(start), np.int32(count))
    return self._run.lower(state, self._shards, shared).compile().as_text()

  def step(
    self,
    state: state_lib.TrainState,
    members: state_lib.Members,
    batch: task_lib.Data,
    step: int,
  ) -> tuple[state_lib.TrainState, task_lib.Sums]:
    """Trains one step on a batch of numpy arrays; all members share it.

    Args:
      state: after `step` steps; given away.
      members: the members, replicated.
      batch: numpy arrays [B, ...].
      step: number of the step.

    Returns:
      The state after it; its sums.
    """
    sharded = (self._shards, self.devices.split(batch))
    return self._step(state, sharded, (members, np.int32(step)))

  def evaluate(
    self,
    state: state_lib.TrainState,
    data: task_lib.Data,
    start: int,
    stop: int,
    *,
    members: state_lib.Members,
    ids: Integer[np.ndarray, "n"] | None = None,
  ) -> dict[str, Float[np.ndarray, "..."]]:
    """Evaluates examples `start` to `stop`.

    Args:
      state: the members' states.
      data: examples of all splits.
      start: first example.
      stop: the example after the last.
      members: the members.
      ids: subnets to evaluate, each as a network of its own, scaled as in
        training; None evaluates the full network.

    Returns:
      {"loss", "accuracy"}: float32 [S], or [S, n] for n ids.
    """
    if not 0 <= start < stop:
      raise ValueError(f"an evaluation needs examples, got {start} to {stop}")
    count = np.float32(stop - start)
    span = (np.int32(start), np.int32(stop))
    shared = (members, data, *span, None if ids is None else np.uint32(ids))
    _, sums = self._evaluate(state, self._shards.device, shared)
    return {name: np.asarray(total) / count for name, total in sums.items()}

  def num_traces(self) -> dict[str, int]:
    """Returns how often each function was traced."""
    return {
      "run": self._run.num_traces,
      "step": self._step.num_traces,
      "evaluate": self._evaluate.num_traces,
    }

  def check_members(self, members: state_lib.Members) -> None:
    """Raises a ValueError where the members' subnets do not fit the devices.

    Args:
      members: the members.
    """
    if members.schedule is None:
      return
    batch_size = self.task.batch_size
    num_subnets = members.schedule.num_concurrent(batch_size)
    parallel.check_split(num_subnets, batch_size, self.devices.count)

  def _train(self, run_steps):
    def train(state, shard, shared):
      members, data, start, count = shared

      def one(state, member):
        worker = task_lib.Worker(self.task, member, shard)
        return run_steps(worker, state, start, count, data)

      return jax.vmap(one)(state, members)

    return train

  def _train_batch(self, state, sharded, shared):
    (shard, batch), (members, step) = sharded, shared

    def one(state, member):
      worker = task_lib.Worker(self.task, member, shard)
      state, (loss, accuracy) = step_lib.train_step(worker, state, step, batch)
      return state, task_lib.Sums.zero().add(step, loss, accuracy)

    return jax.vmap(one)(state, members)

  def _evaluate_rows(self, state, device, shared):
    members, data, start, stop, ids = shared
    size, count = self._eval_rows, self.devices.count
    num_chunks = -(-(stop - start) // (size * count))
    num_examples = data.labels.shape[0]

    def add_chunk(chunk, sums):
      first = start + (chunk * count + device) * size
      rows = first + jnp.arange(size, dtype=jnp.int32)
      batch = data.take(jnp.minimum(rows, num_examples - 1))
      found = jax.vmap(self._scores, (0, 0, None, None))(
        state, members, batch, ids
      )
      weights = (rows < stop).astype(jnp.float32)
      return [
        total + jnp.sum(score * _as_last_axis(weights, score), axis=-1)
        for total, score in zip(sums, found)
      ]

    shape = (members.num_members,) + (() if ids is None else ids.shape)
    sums = [jnp.zeros(shape), jnp.zeros(shape)]
    sums = jax.lax.fori_loop(0, num_chunks, add_chunk, sums)
    loss, accuracy = parallel.total(sums)
    return (), {"loss": loss, "accuracy": accuracy}

  def _scores(self, state, member, batch, ids) -> tuple[Array, Array]:
    """Returns losses and hits, [B], or [n, B] for the subnets `ids`."""
    task = self.task
    inputs = task.preprocess(batch.inputs)

    def apply(**kwargs) -> Any:
      return task.model.apply(state.variables(), inputs, **kwargs)

    if ids is None:
      logits = apply(train=False)
      return task.score(logits, batch.labels, inputs)
    streams = {rng.SUBNETS: rng.run_key(member.key, rng.SUBNETS)}

    def one(subnet):
      logits = apply(train=True, subnets=subnet[None], rngs=streams)
      return task.score(logits, batch.labels, inputs)

    return jax.vmap(one)(ids)


def _as_last_axis(weights: Array, like: Array) -> Array:
  return weights.reshape((1,) * (like.ndim - 1) + weights.shape)
