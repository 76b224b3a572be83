"""Checkpoints are whole, or are noticed not to be."""

import contextlib
import logging
import shutil
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from kdropout_jax.training import checkpoint
from kdropout_jax.training import state


def make_state(value):
  # Large and noisy enough that orbax stores it apart, without a check.
  noise = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
  params = {"w": noise + np.float32(value), "n": np.int32(3)}
  opt_state = optax.adam(1e-3).init({"w": np.zeros((3, 2), np.float32)})
  return state.TrainState(params, {}, opt_state)


def save_two(folder, seed=0):
  with opened(folder, run={"seed": seed}) as checkpoints:
    for step in (1, 2):
      tree = make_state(step + 10 * seed)
      assert checkpoints.save(step, tree, {"half": step / 2})


@contextlib.contextmanager
def opened(folder, **options):
  options = {"run": {"seed": 0}, **options}
  checkpoints = checkpoint.Checkpoints(folder, **options)
  yield checkpoints
  checkpoints.close()


def restore(folder):
  with opened(folder) as checkpoints:
    return checkpoints.restore(make_state(0))


def files_of(folder, step):
  return sorted(p for p in (folder / str(step)).rglob("*") if p.is_file())


def test_the_newest_comes_back_with_its_facts(tmp_path):
  save_two(tmp_path)
  restored = restore(tmp_path)
  assert restored.step == 2 and restored.extra == {"half": 1.0}
  assert restored.damaged == ()
  jax.tree.map(np.testing.assert_array_equal, restored.tree, make_state(2))
  assert jax.tree.structure(restored.tree) == jax.tree.structure(make_state(2))


def test_nothing_saved_is_none(tmp_path):
  assert restore(tmp_path) is None


def test_only_the_newest_stay(tmp_path):
  save_two(tmp_path)
  with opened(tmp_path) as checkpoints:
    checkpoints.save(3, make_state(3))
  assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]


def test_a_flipped_bit_in_any_file_is_noticed_or_harmless(tmp_path):
  """Every file, three places each: never a wrong value, without a word."""
  folder = tmp_path / "run" / "checkpoints"
  save_two(folder)
  originals = {p: p.read_bytes() for p in files_of(folder, 2)}
  fell_back = 0
  for path, content in originals.items():
    for place in {0, len(content) // 2, len(content) - 1}:
      damaged = bytearray(content)
      damaged[place] ^= 4
      path.write_bytes(bytes(damaged))
      restored = restore(folder)
      fell_back += restored.step == 1
      expected = make_state(restored.step)
      jax.tree.map(np.testing.assert_array_equal, restored.tree, expected)
      assert restored.extra == {"half": restored.step / 2}
      if not path.exists():  # It was set aside: put the whole one back.
        for other, whole in originals.items():
          other.parent.mkdir(parents=True, exist_ok=True)
          other.write_bytes(whole)
      path.write_bytes(content)
  assert fell_back >= 5


def flip_value(folder, step):
  """Flips one bit of a stored array, not of its metadata."""
  arrays = [p for p in files_of(folder, step) if p.parent.name == "d"]
  path = max(arrays, key=lambda p: p.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))


def test_a_damaged_newest_is_set_aside_and_said(tmp_path, caplog):
  folder = tmp_path / "checkpoints"
  save_two(folder)
  flip_value(folder, 2)
  with caplog.at_level(logging.WARNING):
    restored = restore(folder)
  assert restored.step == 1 and restored.damaged == (2,)
  assert "checkpoint 2" in caplog.text and "is damaged" in caplog.text
  # Orbax itself read it without a word.
  assert "1 of 6 items differ from their digests" in caplog.text
  assert "of step 1" in caplog.text
  assert (tmp_path / "damaged_checkpoints" / "2").is_dir()
  with opened(folder) as checkpoints:  # Its number is free again.
    checkpoints.save(2, make_state(5))
  assert restore(folder).tree.params["w"][0, 0] > 4


def test_all_damaged_is_an_error(tmp_path):
  save_two(tmp_path)
  for step in (1, 2):
    flip_value(tmp_path, step)
  with pytest.raises(ValueError, match=r"is damaged \(steps \[2, 1\]\)"):
    restore(tmp_path)


_SWAPS = [
  (source, target, item)
  for source in (("own", 1), ("own", 2), ("other", 1), ("other", 2))
  for target in (1, 2, 3)
  for item in ("", "state", "digest")
  if source != ("own", target) and (target < 3 or not item)
]
"""(run, step) of a checkpoint put at a step of one's own, or an item of it."""


def test_a_checkpoint_of_another_step_or_run_is_never_restored(tmp_path):
  assert len(_SWAPS) == 22
  for seed, name in enumerate(("own", "other")):
    save_two(tmp_path / name, seed)
  for number, ((run, step), target, item) in enumerate(_SWAPS):
    folder = tmp_path / f"swap_{number}" / "checkpoints"
    shutil.copytree(tmp_path / "own", folder)
    shutil.rmtree(folder / str(target) / item, ignore_errors=True)
    source = tmp_path / run / str(step)
    shutil.copytree(source / item, folder / str(target) / item)
    restored = restore(folder)
    # The newest one that was left alone.
    assert restored.step == (1 if target == 2 else 2)
    assert restored.damaged == ((target,) if target > 1 else ())
    expected = make_state(restored.step)
    jax.tree.map(np.testing.assert_array_equal, restored.tree, expected)


def test_one_line_says_whose_a_checkpoint_is(tmp_path, caplog):
  save_two(tmp_path)
  (tmp_path / "2").rename(tmp_path / "380")
  with opened(tmp_path, run={"seed": 1}, keep=5) as other:
    other.save(2, {"another": np.zeros(7)})  # A tree of another model.
  (tmp_path / "1").rename(tmp_path / "1000")
  with pytest.raises(checkpoint.DamagedCheckpoints) as error:
    restore(tmp_path)
  assert error.value.damaged == {
    1000: "it was saved as that of step 1",
    380: "it was saved as that of step 2",
    2: "it was saved by another run",
  }
  assert "\n" not in str(error.value)
  assert [r.exc_info for r in caplog.records if r.exc_info] == []


def test_a_run_needs_a_name_that_can_be_kept(tmp_path):
  with pytest.raises(ValueError, match="what JSON can hold: .* type set"):
    checkpoint.Checkpoints(tmp_path, run={1, 2})


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
  save_two(tmp_path)
  with opened(tmp_path) as checkpoints:
    assert not checkpoints.save(3, make_state(np.nan))
  assert restore(tmp_path).step == 2


def test_one_kept_checkpoint_is_too_few(tmp_path):
  with pytest.raises(ValueError, match="keep must be >= 2, got 1"):
    checkpoint.Checkpoints(tmp_path, keep=1)


_DAMAGED = """
import pathlib, sys
from tests.training import checkpoint_test as t
folder = pathlib.Path(sys.argv[1])
for path in t.files_of(folder / "whole", 2):
  for place in (0, 3):
    t.shutil.rmtree(folder / "run", ignore_errors=True)
    t.shutil.copytree(folder / "whole", folder / "run")
    damaged = folder / "run" / path.relative_to(folder / "whole")
    content = bytearray(path.read_bytes())
    content[place * len(content) // 4] ^= 16
    damaged.write_bytes(content)
    print(t.restore(folder / "run").step)
"""


def test_a_damage_leaves_no_traceback_behind(tmp_path):
  """Reads that are under way when one fails are waited for.

  In a process of its own: what wakes a closed event loop writes past Python.
  """
  save_two(tmp_path / "whole")
  done = subprocess.run(
    [sys.executable, "-c", _DAMAGED, tmp_path],
    capture_output=True,
    text=True,
    check=True,
  )
  assert "1" in done.stdout.split() and "is damaged" in done.stderr
  assert "Traceback" not in done.stderr and "Error:" not in done.stderr
