"""Real processes: killed ones, and two that train together."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments.run import config as config_lib
from experiments.run import processes
from experiments.run import runner
from kdropout_jax.training import metrics
from tests import tolerance

_ROOT = pathlib.Path(__file__).resolve().parents[3]

# Seconds that a hang takes to be one, more on a loaded machine; a lost process
# is noticed after processes.HEARTBEAT_SECONDS at the earliest.
DEADLINE = 300 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

_FIELDS = dict(
  method="pooled",
  pool_size=9,
  m=4,
  num_train=64,
  hidden=16,
  batch_size=16,
  eval_every=20,
)


def start(workdir, *flags, program=("-m", "experiments.train")):
  """Starts ``python -m experiments.train`` on one device of its own."""
  given = [f"--{name}={value}" for name, value in _FIELDS.items()]
  kept = [f for f in os.environ["XLA_FLAGS"].split() if "_count=" not in f]
  environment = {**os.environ, "XLA_FLAGS": " ".join(kept)}
  return subprocess.Popen(
    [sys.executable, *program, *given, *flags]
    + [f"--workdir={workdir}", "--noprogress"],
    cwd=_ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process):
  out, error = process.communicate(timeout=DEADLINE)
  assert process.returncode == 0, error[-2000:]
  return out


def wait_for_records(process, workdir, count):
  deadline = time.monotonic() + DEADLINE
  while len(metrics.read_jsonl(workdir / "metrics.jsonl")) < count:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.005)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(tmp_path):
  """SIGKILL at whatever step it is at, Ctrl-C, then the same command again."""
  flags = ["--num_steps=1000", "--checkpoint_every=30", "--num_devices=1"]
  process = start(tmp_path / "killed", *flags)
  wait_for_records(process, tmp_path / "killed", 3 + time.time_ns() % 4)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  records = metrics.read_jsonl(tmp_path / "killed" / "metrics.jsonl")

  process = start(tmp_path / "killed", *flags)
  wait_for_records(process, tmp_path / "killed", len(records) + 2)
  process.send_signal(signal.SIGINT)
  _, error = process.communicate(timeout=DEADLINE)
  assert process.returncode == 130
  assert "the same command continues" in error and "Traceback" not in error
  assert not (tmp_path / "killed" / "result.json").exists()

  out = finish(start(tmp_path / "killed", *flags))
  assert "test accuracy" in out and str(tmp_path) in out
  config = config_lib.RunConfig(
    **_FIELDS, num_steps=1000, checkpoint_every=30, num_devices=1
  )
  (again,) = runner.run(config, tmp_path / "killed", progress=False)
  (whole,) = runner.run(config, tmp_path / "whole", progress=False)
  assert again["params_sha256"] == whole["params_sha256"]
  steps = [
    [r["step"] for r in metrics.read_jsonl(tmp_path / f / "metrics.jsonl")]
    for f in ("killed", "whole")
  ]
  assert steps[0] == steps[1]


def free_port():
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


def start_two(workdir, *flags, second=(), **options):
  """Starts two processes of one run on 127.0.0.1, which gloo connects."""
  where = [f"--coordinator_address=127.0.0.1:{free_port()}"]
  where.append("--num_processes=2")
  own = [["--process_id=0"], ["--process_id=1", *second]]
  return [start(workdir, *flags, *where, *o, **options) for o in own]


@pytest.fixture
def two_processes(monkeypatch):
  """What the other process says, in a list; this one is process 0."""
  others = []

  def gather(array):
    other = np.asarray(others.pop(0), array.dtype)
    return np.stack([array, np.resize(other, array.shape)])

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(processes, "_gather", gather)
  return others


def test_one_that_is_asked_to_stop_stops_all(two_processes):
  stops = []
  for own, other in ((False, False), (False, True), (True, False)):
    two_processes.append([other])
    stops.append(processes.any_of(own))
  assert stops == [False, True, True]


def test_processes_of_other_flags_are_refused(two_processes):
  text = json.dumps({"m": 2, "seed": 1}).encode()
  two_processes += [[len(text)], np.frombuffer(text, np.uint8)]
  processes.check_alike({"m": 2, "seed": 1})
  two_processes += [[len(text)], np.frombuffer(text, np.uint8)]
  with pytest.raises(ValueError, match="process 1 .*: 9 in process 0, 1 in it"):
    processes.check_alike({"m": 2, "seed": 9})


def test_what_fails_in_one_process_ends_all(two_processes):
  two_processes += [[0], [1], [2], [0], [0]]
  assert processes.together(lambda: 7) == 7
  with pytest.raises(ValueError, match="another process was refused"):
    processes.together(lambda: 7)
  with pytest.raises(KeyboardInterrupt):
    processes.together(lambda: 7)
  with pytest.raises(ZeroDivisionError):
    processes.together(lambda: 1 // 0)
  with pytest.raises(KeyboardInterrupt):
    processes.together(_interrupted)
  assert not two_processes  # The last ones have told the other.


def _interrupted():
  raise KeyboardInterrupt


_ALONE = """
import sys, jax
from experiments.run import processes
with processes.joining(sys.argv[1], 2):
  jax.distributed.initialize(sys.argv[1], 2, 0)
"""


def test_one_whose_partner_does_not_come_ends_in_one_line():
  address = f"127.0.0.1:{free_port()}"
  done = subprocess.run(
    [sys.executable, "-c", _ALONE, address],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1, done.stderr
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith(f"not all processes of the run have joined {address}")


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_both(which, number, tmp_path):
  both = start_two(tmp_path / "run", "--num_steps=1000000")
  wait_for_records(both[0], tmp_path / "run", 2)
  both[which].send_signal(number)
  errors = [process.communicate(timeout=DEADLINE)[1] for process in both]
  assert [process.returncode for process in both] == [130, 130]
  lines = [e.strip().splitlines()[-1] for e in errors]
  assert lines[0] == lines[1] and "the same command continues" in lines[0]
  step = lines[0].split("step ")[1].split(";")[0]
  assert (tmp_path / "run" / "checkpoints" / step).is_dir()
  assert not any("Traceback" in error for error in errors)


@pytest.mark.parametrize(
  ("error", "ends"),
  [
    (ValueError("UNKNOWN: Gloo AllGather failed: reset by peer"), True),
    (ValueError("k must be >= 1, got 0"), False),
  ],
)
def test_the_runtime_says_by_a_value_error_too_that_one_is_lost(
  error, ends, two_processes, monkeypatch, capsys
):
  codes = []
  monkeypatch.setattr(os, "_exit", codes.append)
  processes.end_if_lost(error)
  assert codes == [1] * ends
  said = capsys.readouterr().err
  assert ("another process of the run was lost" in said) == ends


@pytest.mark.slow
def test_a_lost_process_ends_the_other_in_one_line(tmp_path):
  both = start_two(tmp_path / "run", "--num_steps=1000000")
  wait_for_records(both[0], tmp_path / "run", 2)
  both[1].send_signal(signal.SIGKILL)
  _, error = both[0].communicate(timeout=DEADLINE)
  both[1].communicate()
  assert both[0].returncode == 1 and "Traceback" not in error, error
  assert "another process of the run was lost" in error


@pytest.mark.slow
def test_processes_that_are_started_unlike_are_refused(tmp_path):
  both = start_two(tmp_path / "run", "--num_steps=9", second=["--seed=3"])
  for process in both:
    _, error = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2 and "Traceback" not in error
    assert "seed: default in process 0, 3 in it" in error.splitlines()[-1]
  assert not (tmp_path / "run").exists()


def test_two_processes_train_what_one_does(tmp_path):
  """Gloo on 127.0.0.1, two devices: the losses of one process to 1e-5."""
  both = start_two(tmp_path / "two", "--num_steps=40")
  outs = [finish(process) for process in both]
  assert "test accuracy" in outs[0] and "test accuracy" not in outs[1]
  config = config_lib.RunConfig(**_FIELDS, num_steps=40, num_devices=1)
  (one,) = runner.run(config, tmp_path / "one", progress=False)
  logs = [
    metrics.read_jsonl(tmp_path / name / "metrics.jsonl")
    for name in ("two", "one")
  ]
  length = 2 * (64 + 16 + 16 + 10) + 297  # There and back; all test rows.
  for ours, theirs in zip(*logs, strict=True):
    for name in ("train_loss", "valid_loss"):
      tolerance.assert_sums_close(
        np.float32(ours[name]), theirs[name], length, steps=40
      )
  (two,) = runner.run(
    config_lib.RunConfig(**_FIELDS, num_steps=40),
    tmp_path / "two",
    progress=False,
  )
  assert two["num_devices"] == 2
  tolerance.assert_sums_close(
    np.float32(two["test_loss"]), one["test_loss"], length, steps=40
  )
