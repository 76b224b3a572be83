"""Signals to one of several processes, and where Python drops them."""

import atexit
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from jax.experimental import multihost_utils

from experiments.run import stopping
from tests.experiments import binaries
from tests.experiments.run import processes_test as several


def test_a_notice_to_any_host_is_heard_in_seconds_none_of_them_left_out(
  monkeypatch,
):
  """A stand-in for JAX's service, which counts steps; ours are seconds."""
  heard, asked = [], threading.Event()

  def reached(second):
    heard.append(second)
    asked.set()
    return len(heard) == 3

  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", reached)
  before = signal.getsignal(signal.SIGINT)
  stops = stopping.Stops(seconds=1e6)
  try:
    stops.listen(is_first=True)
    assert asked.wait(60) and not stops.is_asked()
    assert stops.wait(60)
  finally:
    signal.signal(signal.SIGINT, before)
  assert heard == list(range(heard[0], heard[0] + 3))


def test_nobody_asks_the_service_once_the_process_ends(monkeypatch):
  """JAX aborts a process that asks while it leaves the others."""
  heard, asked = [], threading.Event()

  def reached(second):
    heard.append(second)
    asked.set()

  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", reached)
  before = signal.getsignal(signal.SIGINT)
  stops = stopping.Stops()
  try:
    stops.listen(is_first=True)
    assert asked.wait(60)
    stops.close()
    count = len(heard)
    time.sleep(1.5)  # It asks once a second.
  finally:
    signal.signal(signal.SIGINT, before)
    atexit.unregister(stops.close)
  assert len(heard) == count


def test_without_the_service_nothing_is_heard(monkeypatch):
  def refuse(second):
    raise RuntimeError("off")

  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", refuse)
  before = signal.getsignal(signal.SIGINT)
  try:
    stops = stopping.Stops()
    stops.listen(is_first=False)
    assert not stops.wait(0.2)
  finally:
    signal.signal(signal.SIGINT, before)


_DEAF = """
import os, signal, time
from experiments.run import stopping
signal.signal(signal.SIGINT, stopping.interrupt)
class Deaf:
  def __del__(self):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
deaf = Deaf()
try:
  del deaf
  time.sleep(60)
except KeyboardInterrupt:
  print("interrupted")
"""


def test_a_signal_that_python_would_drop_comes_a_little_later():
  done = subprocess.run(
    [sys.executable, "-c", _DEAF],
    cwd=binaries.ROOT,
    capture_output=True,
    text=True,
    check=True,
    timeout=several.DEADLINE,
  )
  assert done.stdout == "interrupted\n" and not done.stderr


_SLOW = """
import runpy, sys, time
from experiments.run import compiling, setup
seconds = {key: float(value) for key, _, value in
           (one.partition("=") for one in sys.argv.pop(1).split(","))}
def slow(module, name, what):
  fn = getattr(module, name)
  def late(*args):
    print("UNDER WAY:", what, flush=True)
    time.sleep(seconds[what])
    return fn(*args)
  setattr(module, name, late)
slow(setup, "make", "loading")
slow(compiling, "training", "compiling")
sys.argv[0] = "experiments.train"
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""


def _start_slow(workdir, seconds):
  """Starts two processes that take their time to load, and to compile."""
  both = several.start_two(
    workdir,
    "--num_steps=1000000",
    program=["-c", _SLOW, ",".join(f"{k}={v}" for k, v in seconds.items())],
  )
  return both


def _wait_for(process, line):
  while process.stdout.readline() != line + "\n":
    assert process.poll() is None, process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
  ("what", "which", "number", "seconds"),
  [
    ("loading", 1, signal.SIGTERM, 5),
    ("loading", 0, signal.SIGINT, 1000),
    ("compiling", 0, signal.SIGTERM, 5),
    ("compiling", 1, signal.SIGINT, 1000),  # None can wait for its end.
  ],
)
def test_a_signal_before_the_first_step_ends_both(
  what, which, number, seconds, tmp_path
):
  """Each in a line, no trace, and soon: 20 s, and what a signal takes."""
  slow = {"loading": 0, "compiling": 0, what: seconds}
  both = _start_slow(tmp_path / "run", slow)
  for process in both:
    _wait_for(process, f"UNDER WAY: {what}")
  both[which].send_signal(number)
  load = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
  for process in both:
    _, error = process.communicate(timeout=60 * load)
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "stopped; the same command continues"
    assert "Traceback" not in error and "stack trace" not in error
