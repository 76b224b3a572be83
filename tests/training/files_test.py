"""Files that are whole or absent, and plain data."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from kdropout_jax.training import files


def test_atomic_writes_leave_no_temporary_file(tmp_path):
  files.write_atomically(tmp_path / "a.json", json.dumps([1]))
  files.write_atomically(tmp_path / "a.json", json.dumps([2]))
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
  assert json.loads((tmp_path / "a.json").read_text()) == [2]


def test_until_a_file_is_whole_the_old_one_stays(tmp_path):
  path = tmp_path / "a.npz"
  path.write_bytes(b"old")
  with files.opened_atomically(path, "wb") as file:
    np.savez(file, x=np.arange(3))
    assert path.read_bytes() == b"old"
  with np.load(path) as saved:
    assert saved["x"].tolist() == [0, 1, 2]


def test_a_failure_while_writing_changes_nothing(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("old")
  with pytest.raises(KeyboardInterrupt):
    with files.opened_atomically(path) as file:
      file.write("ne")
      raise KeyboardInterrupt
  assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
  assert path.read_text() == "old"


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    (
      {1: {"x": np.inf}, "y": (np.bool_(True),)},
      {"1": {"x": None}, "y": [True]},
    ),
    (jnp.array([0.5, jnp.nan], jnp.bfloat16), [0.5, None]),
    (np.int64(3), 3),
    ("text", "text"),
    (None, None),
  ],
)
def test_plain_data_is_what_json_holds(value, expected):
  found = files.plain(value)
  assert found == expected
  assert json.loads(json.dumps(found, allow_nan=False)) == expected


def test_nothing_is_written_through_a_link(tmp_path):
  """Neither at the name itself nor at the temporary one beside it."""
  mine = tmp_path / "mine"
  mine.write_text("mine")
  for name in ("a.txt", f".{os.getpid()}.a.txt"):
    (tmp_path / name).symlink_to(mine)
  files.write_atomically(tmp_path / "a.txt", "ours")
  assert mine.read_text() == "mine"
  assert not (tmp_path / "a.txt").is_symlink()
  assert (tmp_path / "a.txt").read_text() == "ours"


def test_a_writer_of_names_replaces_too(tmp_path):
  with files.replacing(tmp_path / "a.png") as whole:
    assert whole.suffix == ".png" and whole.parent == tmp_path
    whole.write_bytes(b"1")
    assert not (tmp_path / "a.png").exists()
  assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
