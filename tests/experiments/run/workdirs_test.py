"""A folder belongs to one run."""

import json

import pytest

from experiments.run import workdirs


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
