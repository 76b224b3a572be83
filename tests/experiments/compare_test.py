"""The comparison of all schedules, at smoke scale."""

import json

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import compare


@pytest.fixture(autouse=True)
def parsed():
  if not absl_flags.FLAGS.is_parsed():
    absl_flags.FLAGS(["compare"])


def test_it_ends_with_table_figure_and_numbers(tmp_path, capsys, monkeypatch):
  """Two of the seven methods: each is a program of its own to compile."""
  chosen = {k: compare.METHODS[k] for k in ("no dropout", "gyro, block-wise")}
  monkeypatch.setattr(compare, "METHODS", chosen)
  with flagsaver.flagsaver(
    scale="smoke", progress=False, workdir=str(tmp_path)
  ):
    compare.main([])
  said = capsys.readouterr().out
  table = (tmp_path / "table.txt").read_text()
  assert table in said and str(tmp_path) in said
  for word in ("no dropout", "block_size=16", "test accuracy", "drawn by"):
    assert word in table
  for name in ("curves.png", "compare.png"):
    assert (tmp_path / name).read_bytes()[1:4] == b"PNG"
  results = json.loads((tmp_path / "results.json").read_text())
  assert {len(r["test_accuracy"]) for r in results.values()} == {2}
  assert (tmp_path / "gyro-block-wise" / "result.json").exists()


def test_the_methods_differ_in_nothing_but_the_method():
  found = compare.configs()
  assert len(found) == 7
  for config in found.values():
    assert (config.seeds, config.num_train, config.num_steps) == (5, 1000, 1000)


def test_every_subnet_of_the_table_can_train():
  """Gyro's count is its total: each window has the steps for all its own."""

  for label in ("gyro", "gyro, block-wise"):
    config = compare.configs()[label]
    schedule = config.schedule(config.num_steps)
    trained = schedule.num_subnets(config.num_steps, config.batch_size)
    assert trained == config.total


def test_an_unknown_scale_is_refused():
  with pytest.raises(
    ValueError, match="scale must be one of full, smoke, cifar10"
  ):
    compare.configs("large")


def test_rates_are_those_between_evaluations(tmp_path):
  """Means since the start, of 10 steps a second and then of 20."""
  folder = tmp_path / "gyro"
  folder.mkdir()
  lines = [
    {"step": 10, "examples_per_second": 10.0},
    {"step": 30, "examples_per_second": 15.0},
    {"step": 50, "examples_per_second": 50 / 3.0},
  ]
  (folder / "metrics.jsonl").write_text(
    "".join(f"{json.dumps(x)}\n" for x in lines)
  )
  found = compare.rates(tmp_path, "gyro", {"examples_per_second": 1.0})
  np.testing.assert_allclose(found, [20.0, 20.0])
  (folder / "metrics.jsonl").write_text("")
  found = compare.rates(tmp_path, "gyro", {"examples_per_second": 7.0})
  assert found.tolist() == [7.0, 7.0]
