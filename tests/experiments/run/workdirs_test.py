"""A folder belongs to one run."""

import json
import subprocess
import sys
import time

import pytest

from experiments.run import workdirs
from tests.experiments import binaries


def contents(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_new_folder_is_claimed_and_kept(tmp_path):
  folder = tmp_path / "a" / "b"
  workdirs.claim(folder, {"m": 2, "drops": (1, 2)})
  before = contents(folder)
  workdirs.claim(folder, {"m": 2, "drops": (1, 2)})
  assert contents(folder) == before
  assert json.loads(before["config.json"]) == {"m": 2, "drops": [1, 2]}


def test_a_folder_of_other_flags_is_refused_and_untouched(tmp_path):
  workdirs.claim(tmp_path, {"m": 2, "rate": 0.4})
  before = contents(tmp_path)
  with pytest.raises(
    ValueError, match=r"other flags \(m: 2 there, 3 here; rate: 0.4 there, def"
  ):
    workdirs.claim(tmp_path, {"m": 3})
  assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["thesis.txt", "config.json"])
def test_a_folder_with_something_else_is_refused(tmp_path, name):
  (tmp_path / name).write_text("mine")
  with pytest.raises(ValueError, match="workdir must be empty or belong to"):
    workdirs.claim(tmp_path, {})
  assert (tmp_path / name).read_text() == "mine"


def test_a_half_written_result_is_no_result(tmp_path):
  assert workdirs.result(tmp_path) is None
  workdirs.write_result(tmp_path, {"steps": 3})
  assert workdirs.result(tmp_path) == {"steps": 3}
  (tmp_path / "result.json").write_text('{"steps"')
  assert workdirs.result(tmp_path) is None


_HOLD = """
import pathlib, sys, time
from experiments.run import workdirs
from tests.experiments import binaries
with workdirs.locked(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(60)
"""


def test_a_folder_in_use_is_refused_until_its_process_is_killed(tmp_path):
  folder = tmp_path / "run"
  with subprocess.Popen(
    [sys.executable, "-c", _HOLD, str(folder)],
    stdout=subprocess.PIPE,
    text=True,
    cwd=binaries.ROOT,
  ) as process:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    began = time.monotonic()
    with pytest.raises(ValueError, match="run is in use by another process: w"):
      with workdirs.locked(folder):
        pass
    assert time.monotonic() - began < 5
    process.kill()
    process.wait()
  with workdirs.locked(folder):  # The lock of the dead is no lock.
    assert (folder / ".lock").exists()


def test_names_in_a_folder_have_locks_of_their_own(tmp_path):
  with workdirs.locked(tmp_path, "sweep-0-of-2"):
    with workdirs.locked(tmp_path, "sweep-1-of-2"):
      with pytest.raises(ValueError, match="to write sweep-0-of-2: wait"):
        with workdirs.locked(tmp_path, "sweep-0-of-2"):
          pass


def test_a_folder_made_for_its_lock_alone_goes_with_it(tmp_path):
  with workdirs.locked(tmp_path / "a"):
    pass
  assert not (tmp_path / "a").exists()
  with workdirs.locked(tmp_path / "a"):
    workdirs.claim(tmp_path / "a", {})
  assert (tmp_path / "a/config.json").exists()
