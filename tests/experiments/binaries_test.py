"""Every binary starts, and the commands of docstring and pages are its own."""

import json
import subprocess
import sys

import pytest

from tests.experiments import binaries

NAMES = binaries.names()


@pytest.fixture(scope="module")
def server():
  process = subprocess.Popen(
    [sys.executable, "-W", "ignore", "-m", "tests.experiments.binaries"],
    cwd=binaries.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  yield process
  process.communicate(timeout=60)


def test_binaries_are_found_by_being_there():
  assert {"experiments.train", "experiments.gpu_suite"} <= set(NAMES)
  assert len(NAMES) >= 23


@pytest.mark.parametrize("name", NAMES)
def test_a_binary_helps_and_its_commands_parse(name, server):
  server.stdin.write(f"{name}\n")
  server.stdin.flush()
  found = json.loads(server.stdout.readline())
  assert found["code"] == 0 and "--helpfull" in found["out"], found
  assert not found["errors"]
  assert {command[0] for command in found["commands"]} <= set(NAMES)


def test_every_binary_says_how_it_is_started():
  for name in NAMES:
    assert name in {command[0] for command in binaries.documented(name)}


def run_gpu_suite(*flags):
  """On a host with a GPU: it has jax, flax, optax, matplotlib and triton."""
  absent = (
    "grain,tensorflow_datasets,array_record,tensorboardX,tokenizers,scipy,"
    "statsmodels"
  )
  command = ["-m", "tests.experiments.bare", absent, "experiments.gpu_suite"]
  process = subprocess.run(
    [sys.executable, *command, *flags],
    cwd=binaries.ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert process.returncode == 0, process.stderr[-3000:]


def test_the_gpu_suite_starts_without_packages_of_data_or_text():
  run_gpu_suite("--help")


@pytest.mark.slow
def test_the_gpu_suite_runs_without_packages_of_data_or_text(tmp_path):
  run_gpu_suite("--smoke", "--notests", "--rounds=1", f"--out={tmp_path}")
  rows = json.loads((tmp_path / "gpu_suite.json").read_text())["rows"]
  assert len(rows) > 3
