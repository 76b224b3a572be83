"""The host's loop, with a fake device."""

import os
import signal
import threading
import types

import jax.numpy as jnp
import numpy as np
import pytest

from kdropout_jax.training import loop
from kdropout_jax.training import task as task_lib


class FakeDevice:
  """Counts steps as its state; the loss of step s is s."""

  def __init__(self, bad_step=None):
    self.calls = []
    self.bad_step = bad_step

  def __call__(self, state, start, count):
    assert state == start
    self.calls.append((start, count))
    is_bad = self.bad_step in range(start, start + count)
    first_bad = self.bad_step if is_bad else task_lib.NO_STEP
    steps = np.arange(start, start + count)
    return state + count, task_lib.Sums(
      loss=np.array([steps.sum(), 0.0]),
      accuracy=np.array([count, 0.0]),
      first_bad=np.array([task_lib.NO_STEP, first_bad], np.uint32),
    )


def record(into):
  return lambda done, state, since_log: into.append(done)


def test_hooks_are_called_when_they_are_due():
  every, chosen, end = [], [], []
  device = FakeDevice()
  state = loop.fit(
    device,
    0,
    num_steps=10,
    hooks=[
      loop.Hook(record(every), every=4),
      loop.Hook(record(chosen), steps=frozenset([3, 4])),
      loop.Hook(record(end), every=5, at_end=True),
    ],
  )
  assert (every, chosen, end) == ([4, 8], [3, 4], [5, 10])
  assert state == 10
  assert device.calls == [(0, 3), (3, 1), (4, 1), (5, 3), (8, 2)]


def test_a_run_continues_where_it_was():
  device, done = FakeDevice(), []
  loop.fit(
    device, 6, start=6, num_steps=9, hooks=[loop.Hook(record(done), every=4)]
  )
  assert device.calls == [(6, 2), (8, 1)] and done == [8]


def test_a_finished_run_does_nothing():
  device = FakeDevice()
  assert loop.fit(device, 9, start=9, num_steps=9) == 9
  assert device.calls == []


def test_sums_since_the_last_log_are_of_what_was_trained():
  seen = []

  def log(done, state, since_log):
    seen.append((done, since_log.means()["loss"].tolist(), since_log.num_steps))
    since_log.clear()

  loop.fit(
    FakeDevice(), 0, num_steps=6, hooks=[loop.Hook(log, every=4, at_end=True)]
  )
  # (0 + 1 + 2 + 3) / 4 and (4 + 5) / 2.
  assert seen == [(4, [1.5, 0.0], 4), (6, [4.5, 0.0], 2)]


def test_sums_since_the_last_log_survive_json():
  since_log = loop.LogSums()
  since_log.add(FakeDevice()(0, 0, 3)[1], 3)
  again = loop.LogSums.from_json(since_log.to_json())
  assert again.num_steps == 3
  np.testing.assert_array_equal(again.means()["loss"], [1.0, 0.0])


def test_a_dispatch_is_bounded():
  device = FakeDevice()
  loop.fit(device, 0, num_steps=7, max_dispatch=3)
  assert device.calls == [(0, 3), (3, 3), (6, 1)]


def on_clock(monkeypatch, times):
  """Makes the loop read these times, then the last one again and again."""
  left = list(times)

  def clock():
    return left.pop(0) if len(left) > 1 else left[0]

  monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=clock))


@pytest.mark.parametrize(
  ("times", "counts"),
  [
    # A dispatch each of 3, then of 6 * 3 / 9 steps: a limit of 2.
    ([0, 1, 1, 10], [6, 6, 2, 2, 2]),
    ([5.0], [6, 6, 6]),  # It stands still: no limit.
    ([9, 9, 9, 4, 4, 4], [6, 6, 6]),  # It is set back: no limit.
    ([0, 0, 0, 5e-324, 0, 0], [6, 6, 6]),  # 18 / 5e-324 is infinite.
    ([0, 0, 0, 1e300, 0, 1, 1], [6, 6, 1, 3, 2]),  # It leaps, and recovers.
  ],
)
def test_no_clock_breaks_the_length_of_dispatches(monkeypatch, times, counts):
  on_clock(monkeypatch, times)
  device, seen = FakeDevice(), []
  hook = loop.Hook(record([]), every=6)
  loop.fit(
    device,
    0,
    num_steps=18,
    hooks=[hook],
    on_progress=lambda count, sums, seconds: seen.append(seconds),
  )
  assert [count for _, count in device.calls] == counts
  assert min(seen) >= 0


def test_a_bad_loss_stops_before_any_hook_and_names_the_step():
  saved = []
  hook = loop.Hook(record(saved), every=2)
  with pytest.raises(loop.NonFiniteLoss, match=r"at step 5 \(member 1 of 2\)"):
    loop.fit(FakeDevice(bad_step=5), 0, num_steps=10, hooks=[hook])
  assert saved == [2, 4]


def test_first_bad_is_the_first_step_that_was_bad():
  sums = task_lib.Sums.zero()
  for step, loss in enumerate([0.5, jnp.nan, jnp.inf]):
    sums = sums.add(step, jnp.float32(loss), jnp.float32(1))
  assert int(sums.first_bad) == 1
  assert int(task_lib.Sums.zero().first_bad) == task_lib.NO_STEP


def test_a_request_to_stop_saves_and_says_where():
  saved = []
  with pytest.raises(loop.Stopped, match="after step 3") as stopped:
    loop.fit(
      FakeDevice(),
      0,
      num_steps=9,
      max_dispatch=3,
      should_stop=lambda: True,
      on_stop=record(saved),
    )
  assert stopped.value.step == 3 and saved == [3]


def interrupt(*args):
  raise KeyboardInterrupt


@pytest.mark.parametrize(
  ("where", "step"), [("run", 3), ("hook", 3), ("on_stop", 6)]
)
def test_a_second_interrupt_stops_at_once_in_one_line(where, step):
  device, requests = FakeDevice(), []

  def run(state, start, count):
    if start == 3:  # The first one comes in the second dispatch.
      requests.append(start)
      if where == "run":
        interrupt()
    return device(state, start, count)

  hooks = [loop.Hook(interrupt, steps=frozenset([6]))]
  with pytest.raises(loop.Stopped) as stopped:
    loop.fit(
      run,
      0,
      num_steps=9,
      max_dispatch=3,
      hooks=hooks if where == "hook" else [],
      should_stop=lambda: bool(requests),
      on_stop=interrupt if where == "on_stop" else None,
    )
  text = f"stopped after step {step} at once, without saving"
  assert str(stopped.value) == text
  assert stopped.value.step == step and stopped.value.is_cut_short


def test_an_interrupt_that_nobody_asked_for_stays_one():
  with pytest.raises(KeyboardInterrupt):
    loop.fit(interrupt, 0, num_steps=2)


def test_a_request_at_the_very_end_is_too_late():
  assert loop.fit(FakeDevice(), 0, num_steps=2, should_stop=lambda: True) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_request(number):
  before = signal.getsignal(number)
  with loop.stop_on_signals() as should_stop:
    assert not should_stop()
    os.kill(os.getpid(), number)
    assert should_stop()
    assert signal.getsignal(number) is before  # The second one ends at once.
  assert signal.getsignal(number) is before


def test_outside_the_main_thread_signals_are_left_alone():
  before, seen = signal.getsignal(signal.SIGINT), []

  def inside():
    with loop.stop_on_signals() as should_stop:
      seen.append((should_stop(), signal.getsignal(signal.SIGINT)))

  thread = threading.Thread(target=inside)
  thread.start()
  thread.join()
  assert seen == [(False, before)]


def test_steps_below_one_are_refused():
  with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
    loop.fit(FakeDevice(), 0, num_steps=0)
