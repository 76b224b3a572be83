"""The main binary, by its flags."""

import subprocess
import sys

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import train
from experiments.run import flags
from experiments.run import workdirs


@pytest.fixture(autouse=True)
def parsed():
  if not absl_flags.FLAGS.is_parsed():
    absl_flags.FLAGS(["train"])


def test_two_steps_end_with_a_result(tmp_path, capsys):
  with flagsaver.flagsaver(
    method="gyro",
    total=4,
    concurrent=2,
    num_steps=2,
    hidden=8,
    seeds=2,
    batch_size=16,
    num_devices=2,
    test_curve=True,
    progress=False,
    workdir=str(tmp_path),
  ):
    train.main([])
  said = capsys.readouterr().out
  assert "digits, mlp, gyro: test accuracy 0." in said
  assert "over 2 seeds after 2 steps" in said
  assert f"everything is in {tmp_path}" in said
  result = workdirs.result(tmp_path)
  assert result["steps"] == 2 and result["num_devices"] == 2
  assert "test_accuracy" in (tmp_path / "metrics.jsonl").read_text()


def test_a_wrong_flag_is_a_value_error():
  with flagsaver.flagsaver(method="pooled", pool_size=0):
    with pytest.raises(ValueError, match="pool_size must be >= 1, got 0"):
      train.main([])


def test_some_process_flags_without_the_others_are_refused():
  with flagsaver.flagsaver(num_processes=2):
    with pytest.raises(ValueError, match="missing: coordinator_address, proc"):
      flags.join_processes()


def test_a_users_mistake_ends_in_a_line_not_a_traceback():
  done = subprocess.run(
    [sys.executable, "-m", "experiments.train", "--method=polled"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert (
    done.stderr.strip()
    .splitlines()[-1]
    .startswith("IllegalFlagValueError: flag --method=polled: method must be")
  )
  assert "did you mean pooled" in done.stderr
  assert "Traceback" not in done.stderr
