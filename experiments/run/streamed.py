"""Training and evaluation on examples that are streamed to the device.

A stream is a function of (seed, step), so a run continues in the middle of an
epoch from the number of its step. All members train on the same batches.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, SupportsIndex

import jax
import numpy as np
from jaxtyping import Float, Integer

from experiments.data import streaming
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import task as task_lib

MAX_DISPATCH = 50
"""Steps between two looks of the host, at the bar and at Ctrl-C."""

_EVAL_ROWS = 512
_IN_FLIGHT = 2


@dataclasses.dataclass
class Feed:
  """What stands in for examples on the device.

  Attributes:
    program: the compiled functions.
    members: the members, replicated.
    sources: {split: examples of random access, of `streaming.Example`}.
    num_steps: steps of the run.
    seed: of the order.
    num_workers: processes that read training batches; 0 reads in threads.
  """

  program: program_lib.Program
  members: state_lib.Members
  sources: Mapping[str, Any]
  num_steps: int
  seed: int
  num_workers: int = 0
  _batches: Any = None
  _next_step: int = -1

  def example(self) -> Any:
    """Returns the stored inputs of one example, [1, ...]."""
    one = self.sources["train"][0]["x"]
    return jax.tree.map(lambda x: np.asarray(x)[None], one)

  def try_step(self, state: state_lib.TrainState) -> task_lib.Sums:
    """Trains a step on copies of one example, which compiles; spends `state`.

    Args:
      state: the members' states, given away.
    """
    batch = self._copies(self.program.task.batch_size)
    return self.program.step(state, self.members, batch, 0)[1]

  def try_evaluation(self, state: state_lib.TrainState) -> None:
    """Evaluates one example, in a chunk of the usual size, which compiles.

    Args:
      state: the members' states.
    """
    devices = self.program.devices
    data = devices.replicate(self._copies(_EVAL_ROWS * devices.count))
    self.program.evaluate(state, data, 0, 1, members=self.members)

  def _copies(self, count: int) -> task_lib.Data:
    """Returns a batch of one example over and over."""
    one = self.sources["train"][0]
    return _as_data(
      jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], count, 0), one)
    )

  def run(
    self, state: state_lib.TrainState, start: int, count: int
  ) -> tuple[state_lib.TrainState, task_lib.Sums]:
    """Trains steps `start` to ``start + count``; `state` is donated."""
    batches = self._from(start)
    pending: collections.deque[task_lib.Sums] = collections.deque()
    done = []
    for step in range(start, start + count):
      batch = _as_data(next(batches))
      state, sums = self.program.step(state, self.members, batch, step)
      pending.append(sums)
      # The next batches are on their way while a step trains, but no more of
      # them than these, or they would fill the device.
      if len(pending) > _IN_FLIGHT:
        done.append(jax.tree.map(np.asarray, pending.popleft()))
    self._next_step = start + count
    if self._next_step >= self.num_steps:
      # What is read ahead, in memory that worker processes share, is let go.
      batches.close()
      self._batches = None
    done += [jax.tree.map(np.asarray, sums) for sums in pending]
    return state, functools.reduce(_add, done)

  def evaluate(
    self,
    state: state_lib.TrainState,
    split: str,
    ids: Integer[np.ndarray, "n"] | None = None,
  ) -> dict[str, Float[np.ndarray, "..."]]:
    """Evaluates a split in chunks; as `Program.evaluate` otherwise."""
    source, devices = self.sources[split], self.program.devices
    size = _EVAL_ROWS * devices.count
    padded = _Padded(source, -(-len(source) // size) * size)
    totals: dict[str, Any] = {}
    for number, chunk in enumerate(
      streaming.stream(padded, size, shuffle=False, prefetch=2)
    ):
      count = min(size, len(source) - number * size)
      data = devices.replicate(_as_data(chunk))
      means = self.program.evaluate(
        state, data, 0, count, members=self.members, ids=ids
      )
      for name, mean in means.items():
        total = np.float64(count) * mean.astype(np.float64)
        totals[name] = totals.get(name, 0.0) + total
    return {
      name: (total / len(source)).astype(np.float32)
      for name, total in totals.items()
    }

  def _from(self, start: int) -> Any:
    """Returns grain's iterator of the batches from step `start` on."""
    if self._batches is None or start != self._next_step:
      task = self.program.task
      self._batches = streaming.stream(
        self.sources["train"],
        task.batch_size,
        seed=self.seed,
        num_epochs=-(-self.num_steps // task.steps_per_epoch),
        start_step=start,
        reshuffle=task.shuffle,
        num_workers=self.num_workers,
      )
    return self._batches


@dataclasses.dataclass(frozen=True)
class _Padded:
  """A source whose last example is repeated, for chunks of one shape."""

  source: Any
  length: int

  def __len__(self) -> int:
    return self.length

  def __getitem__(self, index: SupportsIndex) -> streaming.Example:
    return self.source[min(index.__index__(), len(self.source) - 1)]


def _as_data(batch: Mapping[str, Any]) -> task_lib.Data:
  return task_lib.Data(batch["x"], batch["label"])


def _add(a: task_lib.Sums, b: task_lib.Sums) -> task_lib.Sums:
  return task_lib.Sums(
    loss=a.loss + b.loss,
    accuracy=a.accuracy + b.accuracy,
    # Numpy's, of what is on the host: nothing is compiled for it.
    first_bad=np.minimum(a.first_bad, b.first_bad),  # pyright: ignore[reportArgumentType]
  )
