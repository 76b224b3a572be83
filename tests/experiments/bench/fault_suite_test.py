"""The suite of faults counts, and sees what is silent or lost."""

import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.bench import fault_files
from experiments.bench import fault_runs as runs
from experiments.bench import fault_suite
from tests.experiments import binaries


def test_the_suite_is_as_large_as_it_says():
  counts = {kind: one[1] for kind, one in fault_suite.KINDS.items()}
  assert sum(counts.values()) >= 200 and len(counts) == 11
  assert min(counts.values()) >= 8


@pytest.mark.parametrize("seed", range(20))
def test_a_damage_changes_the_file(tmp_path, seed):
  path = tmp_path / "x"
  path.write_bytes(b"content")
  said = fault_files.damage(path, np.random.default_rng(seed))
  assert said.startswith("x ")
  assert not path.exists() or path.read_bytes() != b"content"


def test_one_line_is_one_line():
  ended = runs.Ended(2, "", "ValueError: no\n")
  assert runs.one_line(ended) == "ValueError: no"
  for other in (
    runs.Ended(1, "", "ValueError: no\n"),
    runs.Ended(2, "", "ValueError: no\nand more\n"),
    runs.Ended(2, "", ""),
    runs.Ended(None, "", "ValueError: no\n"),
  ):
    assert runs.one_line(other) is None


_NATIVE = """
import os, pathlib, sys
from experiments.bench import fault_runs as runs
root = pathlib.Path(sys.argv[1])
with runs.written_to(root / "one.err"):
  os.write(2, b"Traceback (most recent call last):")
print(runs.with_traces(runs.Outcome(runs.RECOVERED, "said"), root).kind)
print(runs.with_traces(runs.Outcome(runs.RECOVERED, "said"), root).kind)
"""


def test_a_traceback_beside_a_right_result_is_seen(tmp_path):
  """Also where native code writes it; what the next fault wrote is its own."""
  done = subprocess.run(
    [sys.executable, "-c", _NATIVE, tmp_path],
    cwd=binaries.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == [runs.TRACEBACK, runs.RECOVERED]
  assert not done.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_smoke_of_the_suite_has_no_silent_and_no_lost_fault(tmp_path):
  """A process of its own, which forks: this one has devices already."""
  subprocess.run(
    [sys.executable, "-m", "experiments.fault_suite", "--smoke"]
    + [f"--workdir={tmp_path}"],
    cwd=binaries.ROOT,
    check=True,
    timeout=900,
  )
  found = json.loads((tmp_path / "trust.json").read_text())
  for kind, one in found["kinds"].items():
    assert one["tried"] == 2 == one["refused"] + one["recovered"], kind
  assert "| all " in (tmp_path / "trust.md").read_text()
