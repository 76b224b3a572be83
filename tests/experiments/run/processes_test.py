"""Real processes: killed ones, and two that train together."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from experiments.run import config as config_lib
from experiments.run import runner
from kdropout_jax.training import metrics
from tests import tolerance

_ROOT = pathlib.Path(__file__).resolve().parents[3]

_FIELDS = dict(
  method="pooled",
  pool_size=9,
  m=4,
  num_train=64,
  hidden=16,
  batch_size=16,
  eval_every=20,
)


def start(workdir, *flags):
  """Starts ``python -m experiments.train`` on one device of its own."""
  given = [f"--{name}={value}" for name, value in _FIELDS.items()]
  kept = [f for f in os.environ["XLA_FLAGS"].split() if "_count=" not in f]
  environment = {**os.environ, "XLA_FLAGS": " ".join(kept)}
  return subprocess.Popen(
    [sys.executable, "-m", "experiments.train", *given, *flags]
    + [f"--workdir={workdir}", "--noprogress"],
    cwd=_ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process):
  out, error = process.communicate(timeout=300)
  assert process.returncode == 0, error[-2000:]
  return out


def wait_for_records(process, workdir, count):
  deadline = time.monotonic() + 240
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
  _, error = process.communicate(timeout=240)
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


def test_two_processes_train_what_one_does(tmp_path):
  """Gloo on 127.0.0.1, two devices: the losses of one process to 1e-5."""
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    port = found.getsockname()[1]
  flags = [
    "--num_steps=40",
    f"--coordinator_address=127.0.0.1:{port}",
    "--num_processes=2",
  ]
  both = [
    start(tmp_path / "two", *flags, f"--process_id={i}") for i in range(2)
  ]
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
