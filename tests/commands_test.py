"""Every printed command runs, at smoke scale, in a fresh process.

All of them share a folder, with a copy of docs/ in it, so that a sweep's cells
serve the next experiment, and what is published is seen there.
"""

import fnmatch
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.data import dataset as dataset_lib
from experiments.data import exported
from tests import commands

_FILES = "its dataset is files from the network"
_INDEX = "it needs uv and a package index"
_CARD = "programs_test.py runs it, where the compiler for CUDA is installed"
NOT_RUN = {
  "tests.versions*": _INDEX,
  "experiments.gpu_programs *": _CARD,
  "experiments.slow_link *": "it needs root, to slow a link",
  "experiments.train ... *": "processes_test.py runs both processes at once",
  "experiments.train --preset=gyro-resnet18-imagenet *": _FILES,
  "experiments.prepare_data --dataset=cifar10*": _FILES,
  "experiments.text_results *": _FILES,
  "experiments.accuracy_table --scale=paper --rows=*/ResNet-18": (
    "the smallest scale has no such row"
  ),
  "experiments.train * --dataset=nsl_kdd *": _FILES,
  "experiments.train * --dataset=kddcup99 *": _FILES,
  "experiments.train * --dataset=unsw_nb15 *": _FILES,
}
"""{pattern of printed commands: why they are not run}."""


def why_not(command: commands.Command) -> str | None:
  """Returns why a printed command is not run, or None."""
  text = commands.text(command)
  reasons = (NOT_RUN[p] for p in NOT_RUN if fnmatch.fnmatchcase(text, p))
  return next(reasons, None)


PRINTED = commands.printed()
RUN = commands.once(c for c in PRINTED if why_not(c) is None)
_LEAVE_NOTHING = ("tests.", "experiments.first_screen")


def test_commands_are_found_on_pages_and_in_docstrings():
  places = set(PRINTED.values())
  assert {"README.md", "BUILD_NOTES.md", "docs/guides/papers.md"} <= places
  assert "docs/results/gyro/README.md" in places
  assert any(place.startswith("experiments.") for place in places)
  assert len(RUN) > 60


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_what_is_not_run_is_printed(pattern):
  assert fnmatch.filter(map(commands.text, PRINTED), pattern)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder like a checkout's, but for the code."""
  root = tmp_path_factory.mktemp("commands")
  shutil.copytree(commands.ROOT / "docs", root / "docs")
  (root / "runs" / "given").mkdir(parents=True)
  rng = np.random.default_rng(0)
  for name, shape in commands.DRAWN.items():
    images = rng.integers(0, 256, (256, *shape)).astype(np.uint8)
    labels = np.arange(256, dtype=np.int32) % 10
    info = dataset_lib.Info(name, "image", 10, pixel_max=255)
    dataset = dataset_lib.Dataset(info, images, labels, images, labels)
    exported.write(dataset, root / commands.arrays_of(name))
  return root


def environment(module: str, folder: pathlib.Path) -> dict[str, str]:
  """Returns a shell's: our code, compiled programs shared, and one device.

  And what two commands' texts set before them.
  """
  found = {**os.environ, "PYTHONPATH": str(commands.ROOT)}
  found["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
  if module == "experiments.exchange":
    found["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"
  if module == "tests.ops.interpret":
    found["TRITON_INTERPRET"] = "1"
  found["JAX_COMPILATION_CACHE_DIR"] = str(folder / "programs")
  return found


def files(folder: pathlib.Path) -> dict[pathlib.Path, int]:
  """Returns {file: when it was written}, of results."""
  found = [*folder.glob("runs/**/*"), *folder.glob("docs/**/*")]
  return {p: p.stat().st_mtime_ns for p in found if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN, ids=commands.text)
def test_a_printed_command_runs(command, folder):
  before = files(folder)
  process = subprocess.run(
    [sys.executable, "-m", *command],
    cwd=folder,
    env=environment(command[0], folder),
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=1800,
  )
  assert process.returncode == 0, (process.stdout + process.stderr)[-4000:]
  if "--help" not in command and not command[0].startswith(_LEAVE_NOTHING):
    assert set(files(folder).items()) - set(before.items())
