"""The run on the host: dispatches between the steps where something is due.

The device trains from one such step to the next in one dispatch; the host only
looks at sums. Hooks do the rest: log, evaluate, save, take snapshots.
"""

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from kdropout_jax import _checks
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import task as task_lib

__all__ = (
  "Hook",
  "HookFn",
  "LogSums",
  "NonFiniteLoss",
  "RunFn",
  "Stopped",
  "check_finite",
  "fit",
  "stop_on_signals",
)

RunFn = Callable[
  [state_lib.TrainState, int, int],
  tuple[state_lib.TrainState, task_lib.Sums],
]
"""Trains: (state, start, count) -> (state, sums); `state` may be donated."""

_DISPATCH_SECONDS = 3.0


class NonFiniteLoss(FloatingPointError):
  """A loss or a parameter that is NaN or infinite; says at which step."""


class Stopped(Exception):
  """The run was asked to stop, and did after a whole number of steps.

  Attributes:
    step: steps that are done.
    is_cut_short: a second Ctrl-C did not wait for the end of what was under
      way: a dispatch, a hook, or `on_stop`, which saves.
  """

  def __init__(self, step: int, is_cut_short: bool = False):
    at_once = " at once, without saving" if is_cut_short else ""
    super().__init__(f"stopped after step {step}{at_once}")
    self.step, self.is_cut_short = step, is_cut_short


@dataclasses.dataclass
class LogSums:
  """Sums since the last log, one entry a member.

  Attributes:
    loss: float64 [S].
    accuracy: float64 [S].
    num_steps: steps in the sums.

  >>> LogSums(np.array([3.0]), np.array([1.0]), 2).means()["loss"].tolist()
  [1.5]
  """

  loss: Any = 0.0
  accuracy: Any = 0.0
  num_steps: int = 0

  def add(self, sums: task_lib.Sums, num_steps: int) -> None:
    """Adds the sums of `num_steps` further steps.

    Args:
      sums: of a dispatch.
      num_steps: its steps.
    """
    self.loss = self.loss + np.asarray(sums.loss, np.float64)
    self.accuracy = self.accuracy + np.asarray(sums.accuracy, np.float64)
    self.num_steps += num_steps

  def means(self) -> dict[str, Float[np.ndarray, "S"]]:
    """Returns the means a step."""
    count = max(self.num_steps, 1)
    return {"loss": self.loss / count, "accuracy": self.accuracy / count}

  def clear(self) -> None:
    """Starts anew."""
    self.loss, self.accuracy, self.num_steps = 0.0, 0.0, 0

  def to_json(self) -> dict[str, Any]:
    """Returns the sums in a form that a checkpoint keeps."""
    as_list = [np.asarray(v).tolist() for v in (self.loss, self.accuracy)]
    return dict(zip(("loss", "accuracy"), as_list), num_steps=self.num_steps)

  @classmethod
  def from_json(cls, kept: dict[str, Any]) -> "LogSums":
    """Returns the sums that `to_json` gave.

    Args:
      kept: what it returned.
    """
    return cls(
      np.asarray(kept["loss"]), np.asarray(kept["accuracy"]), kept["num_steps"]
    )


HookFn = Callable[[int, state_lib.TrainState, LogSums], None]
"""Called with (steps done, state, sums since the last log)."""


@dataclasses.dataclass(frozen=True)
class Hook:
  """A function called after chosen steps.

  Attributes:
    fn: what is called.
    every: after each so many steps; 0: not.
    steps: also after these numbers of steps.
    at_end: also after the last step.

  >>> hook = Hook(lambda done, state, window: None, every=10, at_end=True)
  >>> hook.next_after(0, 25), hook.next_after(20, 25)
  (10, 25)
  """

  fn: HookFn
  every: int = 0
  steps: frozenset[int] = frozenset()
  at_end: bool = False

  def next_after(self, done: int, num_steps: int) -> int:
    """Returns the next number of steps at which the hook is due.

    Args:
      done: steps that are done.
      num_steps: of the whole run.
    """
    times = [step for step in self.steps if step > done]
    if self.every:
      times.append((done // self.every + 1) * self.every)
    if self.at_end and done < num_steps:
      times.append(num_steps)
    return min(times, default=num_steps + 1)


def fit(
  run: RunFn,
  state: Any,
  *,
  num_steps: int,
  start: int = 0,
  hooks: Sequence[Hook] = (),
  since_log: LogSums | None = None,
  on_progress: Callable[[int, task_lib.Sums, float], None] | None = None,
  should_stop: Callable[[], bool] = lambda: False,
  agree: Callable[[bool], bool] = lambda stop: stop,
  on_stop: HookFn | None = None,
  max_dispatch: int | None = None,
) -> Any:
  """Trains steps `start` to `num_steps`.

  Where a dispatch ends never changes what is trained, so after the first one
  they are cut to a few seconds each, for the bar and for Ctrl-C.

  Args:
    run: trains many steps.
    state: the state after `start` steps; given away.
    num_steps: steps of the whole run.
    start: steps that are done.
    hooks: called in this order where they are due.
    since_log: sums since the last log, of a continued run.
    on_progress: called after each dispatch with its steps, sums and seconds.
    should_stop: asked after each dispatch.
    agree: called with its answer; returns whether the run stops. Processes that
      train together must all stop where one of them is asked to.
    on_stop: called like a hook before `Stopped` is raised.
    max_dispatch: a fixed bound on the steps of a dispatch; processes that
      train together need one, since they measure different times.

  Returns:
    The state after `num_steps` steps.

  Raises:
    NonFiniteLoss: with the step's number; no hook has seen that state.
    Stopped: `should_stop` said so; by a second Ctrl-C, at once.

  >>> sums = task_lib.Sums(np.ones(1), np.ones(1), np.array([task_lib.NO_STEP]))
  >>> fit(lambda state, start, count: (state + count, sums), 0, num_steps=7)
  7
  """
  _checks.check_positive("num_steps", num_steps)
  since_log = LogSums() if since_log is None else since_log
  limit, done = max_dispatch or num_steps, start
  try:
    while done < num_steps:
      due = min([num_steps, *(h.next_after(done, num_steps) for h in hooks)])
      count = min(due - done, limit)
      began = time.perf_counter()
      state, sums = run(state, done, count)
      check_finite(sums)
      seconds = max(0.0, time.perf_counter() - began)
      if max_dispatch is None and done > start:  # The first one compiles.
        limit = _next_limit(limit, num_steps, count, seconds)
      since_log.add(sums, count)
      if on_progress is not None:
        on_progress(count, sums, seconds)
      for hook in hooks:
        if hook.next_after(done, num_steps) == done + count:
          hook.fn(done + count, state, since_log)
      done += count
      if agree(should_stop()) and done < num_steps:
        if on_stop is not None:
          on_stop(done, state, since_log)
        raise Stopped(done)
  except KeyboardInterrupt:
    if not should_stop():
      raise  # The first one: nobody turns it into a request.
    raise Stopped(done, is_cut_short=True) from None
  return state


def _next_limit(limit: int, num_steps: int, count: int, seconds: float) -> int:
  """Returns how many steps a dispatch may have, after one took `seconds`."""
  if seconds == 0.0:  # The clock stood still, or was set back: it says nothing.
    return limit
  return max(1, int(min(num_steps, count * _DISPATCH_SECONDS / seconds)))


def check_finite(sums: task_lib.Sums) -> None:
  """Raises `NonFiniteLoss` if a step of the dispatch had such a loss.

  Args:
    sums: of the dispatch.

  Raises:
    NonFiniteLoss: with the first such step, and its member.

  >>> check_finite(
  ...   task_lib.Sums(np.ones(1), np.ones(1), np.array([task_lib.NO_STEP]))
  ... )
  """
  first_bad = np.asarray(sums.first_bad)
  step = int(first_bad.min())
  if step != task_lib.NO_STEP:
    member = int(first_bad.argmin())
    raise NonFiniteLoss(
      f"the loss became NaN or infinite at step {step} (member {member} of"
      f" {first_bad.size}); lower the learning rate, or clip"
    )


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
  """Turns the first Ctrl-C, or SIGTERM, into a request to stop.

  A second Ctrl-C is one again: `fit` raises `Stopped` at once, whatever it is
  doing. Outside the main thread, where Python takes no signals, nothing
  changes.

  Returns:
    A context, which gives what `fit` takes as `should_stop`.

  >>> with stop_on_signals() as should_stop:
  ...   should_stop()
  False
  """
  requested = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield requested.is_set
    return

  def request(signum, frame):
    del frame
    requested.set()
    signal.signal(signum, before[signum])

  signals = (signal.SIGINT, signal.SIGTERM)
  before = {number: signal.getsignal(number) for number in signals}
  try:
    for number in signals:
      signal.signal(number, request)
    yield requested.is_set
  finally:
    for number in signals:
      signal.signal(number, before[number])
