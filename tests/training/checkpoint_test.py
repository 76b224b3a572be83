"""Checkpoints are whole, or are noticed not to be."""

import contextlib
import logging

import jax
import numpy as np
import optax
import pytest

from kdropout_jax.training import checkpoint
from kdropout_jax.training import state

# Orbax leaves a closed event loop behind where a restore fails.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


def make_state(value):
  # Large and noisy enough that orbax stores it apart, without a check.
  noise = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
  params = {"w": noise + np.float32(value), "n": np.int32(3)}
  opt_state = optax.adam(1e-3).init({"w": np.zeros((3, 2), np.float32)})
  return state.TrainState(params, {}, opt_state)


def save_two(folder):
  with opened(folder) as checkpoints:
    for step in (1, 2):
      assert checkpoints.save(step, make_state(step), {"half": step / 2})


@contextlib.contextmanager
def opened(folder, **options):
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


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
  save_two(tmp_path)
  with opened(tmp_path) as checkpoints:
    assert not checkpoints.save(3, make_state(np.nan))
  assert restore(tmp_path).step == 2


def test_one_kept_checkpoint_is_too_few(tmp_path):
  with pytest.raises(ValueError, match="keep must be >= 2, got 1"):
    checkpoint.Checkpoints(tmp_path, keep=1)
