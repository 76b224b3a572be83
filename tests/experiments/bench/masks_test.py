"""The benchmark of masks, at a size that proves that it runs."""

import json

import jax
import pytest
from absl.testing import flagsaver

import kdropout_jax as kd
from experiments.bench import masks as bench_masks
from experiments.bench import steps

NET = steps.Network("n", 512, 2, True, inputs=8, batch_size=256)


def test_the_binary_writes_a_row_for_every_candidate(tmp_path, capsys):
  values = dict(batch_size=16, width=32, inputs=8, steps=3, rounds=2)
  saved = flagsaver.save_flag_values(bench_masks.FLAGS)
  bench_masks.FLAGS.mark_as_parsed()
  for name, value in {**values, "out": str(tmp_path)}.items():
    bench_masks.FLAGS[name].value = value
  try:
    bench_masks.main(["bench_masks"])
  finally:
    flagsaver.restore_flag_values(saved, bench_masks.FLAGS)
  rows = json.loads((tmp_path / "bench_masks.json").read_text())
  names = [row["candidate"] for row in rows]
  assert names[0] == "flax"
  assert {"T=8 ExactCount", "Standard Bernoulli"} <= set(names)
  assert all(row["sampling_us"] > 0 and row["step_ms"] > 0 for row in rows)
  assert rows[0]["step_speedup"] == [1.0, 1.0, 1.0]
  assert "| T=1 Bernoulli " in capsys.readouterr().out


def test_fewer_masks_take_less_memory_than_one_a_row():
  def temporaries(schedule, pattern):
    return bench_masks.step_program(schedule, pattern, NET, 2).temp_bytes

  reused = temporaries(kd.Sequential(k=9, m=8), kd.Bernoulli)
  assert reused < temporaries(None, None)


def test_the_sampled_masks_are_not_optimised_away():
  """The last step's masks come out of the scan, and are those of the op."""
  run = bench_masks.sampling_program(
    kd.Sequential(k=2, m=3), kd.Bernoulli, 8, 16, num_steps=5
  )
  step, masks = run()
  ids = kd.subnet_ids(4, jax.random.key(0), kd.Sequential(k=2, m=3), 8)
  want = kd.subnet_masks(jax.random.key(0), ids, 16, kd.Bernoulli(0.5)).keep
  assert int(step) == 5
  assert (masks == want).all()
  with pytest.raises(TypeError):
    run("another argument")
