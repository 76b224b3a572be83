"""A dataset as plain arrays, for a host without its readers."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from experiments import data
from experiments.data import exported
from tests.experiments import binaries

ABSENT = "tensorflow_datasets,array_record,grain,tensorboardX,tokenizers"


@pytest.fixture(scope="module")
def digits():
  return data.load("digits", progress=False)


def test_what_is_read_is_what_was_written(digits, tmp_path):
  path = tmp_path / "digits.npz"
  files = exported.write(digits, path, max_bytes=100_000)
  assert len(files) > 2
  assert all(file.stat().st_size <= 100_000 for file in files)
  found = data.load("digits", path)
  assert found.info == digits.info
  for name in ("train_x", "train_labels", "test_x", "test_labels"):
    ours, theirs = getattr(found, name), getattr(digits, name)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
  few = data.load("digits", path, num_train=50, seed=3)
  again = data.load("digits", num_train=50, seed=3, progress=False)
  np.testing.assert_array_equal(few.train_x, again.train_x)


def test_what_is_not_whole_or_of_another_dataset_is_refused(digits, tmp_path):
  path = tmp_path / "digits.npz"
  files = exported.write(digits, path, max_bytes=100_000)
  with pytest.raises(ValueError, match="of dataset 'mnist', got 'digits'"):
    data.load("mnist", path)
  files[1].unlink()
  with pytest.raises(ValueError, match="must have all its parts"):
    data.load("digits", path)
  with pytest.raises(ValueError, match="export must end in .npz, got 'x.txt'"):
    exported.write(digits, "x.txt")
  text = dataclasses.replace(
    digits, info=dataclasses.replace(digits.info, task="pairs")
  )
  with pytest.raises(ValueError, match="must be of images"):
    exported.write(text, path)


def test_a_sweep_trains_on_a_host_with_jax_flax_and_optax(digits, tmp_path):
  exported.write(digits, tmp_path / "digits.npz")
  command = [
    *("-m", "tests.experiments.bare", ABSENT, "experiments.sweep"),
    *("--grid=restarts", "--scale=smoke", "--seeds=1", "--noprogress"),
    *(f"--arrays={tmp_path}/digits.npz", f"--workdir={tmp_path}/runs"),
    *("--cells=every_epoch none", "--precision=float32"),
  ]
  process = subprocess.run(
    [sys.executable, *command],
    cwd=binaries.ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert process.returncode == 0, process.stderr[-3000:]
  cells = list((tmp_path / "runs" / "cells").iterdir())
  assert len(cells) == 1 and (cells[0] / "result.json").exists()
  (pack,) = (tmp_path / "runs" / "packs").iterdir()
  assert not (pack / "checkpoints").exists()
