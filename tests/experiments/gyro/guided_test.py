"""Guided schedules and one subnet a task, from flags to report."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from experiments.gyro.guided import cells as guided_cells
from experiments.gyro.guided import claims
from experiments.gyro.guided import guided
from experiments.gyro.guided import two_tasks
from experiments.report import study
from experiments.run import config as config_lib
from experiments.run import setup

SMALL = two_tasks.Sizes(16, 60, 16, 5e-3, 2)


def test_schedules_are_compared_at_equal_sizes():
  found = guided_cells.methods(guided_cells.SIZES["cpu"])
  pools = {(f.get("total"), f.get("concurrent")) for f in found[2:]}
  assert pools == {(256, 16)}
  assert [f.get("scheduling") for f in found[2:4]] == ["random", "consecutive"]
  cells = [guided_cells.cells("cpu", fields, 1)[0] for fields in found]
  assert len({cell.digest() for cell in cells}) == len(cells)
  own = {"method", "scheduling", "total", "concurrent", "temperature"}
  rest = [
    {k: v for k, v in c.identity().items() if k not in own} for c in cells
  ]
  assert all(one == rest[0] for one in rest)
  assert rest[0]["snapshot_steps"] == [2400]


def test_guided_command_reports_schedules(call, workdir, monkeypatch):
  # One method: each program takes long to compile.
  methods = guided_cells.methods
  monkeypatch.setattr(guided_cells, "methods", lambda sizes: methods(sizes)[4:])
  call(guided.main, part=["schedules"])
  found = json.loads((workdir / "guided.json").read_text())
  rows = found["numbers"]["rows"]
  assert [(r["method"], r["seed"]) for r in rows] == [
    *(("guided", 0), ("guided", 1))
  ]
  for row in rows:
    # 5 epochs of 5 batches, tau = 4 of 16 subnets at each step.
    assert sum(row["subnet_steps"]) == 4 * 25
    assert row["subnet_mean"] == pytest.approx(np.mean(row["subnets"]))
    assert row["weakest_subnets"] == min(row["subnets"])
  assert rows[0]["subnet_steps"] != rows[1]["subnet_steps"]
  names = [v["claim"]["name"] for v in found["verdicts"]]
  assert names == [claim.name for claim in claims.SCHEDULES]
  page = (workdir / "guided.md").read_text()
  assert "| guided " in page and "weakest 5 %" in page
  assert (workdir / "guided.png").read_bytes()[1:4] == b"PNG"


def test_steps_of_each_subnet_are_counted_for_every_schedule():
  random, consecutive, own = guided_cells.methods(guided_cells.SIZES["smoke"])[
    2:5
  ]
  for fields, even in ((random, False), (consecutive, True)):
    (cell,) = guided_cells.cells("smoke", fields, 1)
    steps = guided_cells.steps_of(cell, {"steps": 25})
    # tau = 4 at each of 25 steps; 16 / 4 windows of 7, 6, 6 and 6 steps.
    assert steps.sum() == 4 * 25 and steps.shape == (16,)
    assert (steps.tolist() == [7] * 4 + [6] * 12) == even
  (cell,) = guided_cells.cells("smoke", own, 1)
  found = guided_cells.steps_of(cell, {"steps": 25, "subnet_steps": [[3, 1]]})
  assert found.tolist() == [3, 1]


def test_guided_command_reports_tasks(call, workdir, monkeypatch):
  monkeypatch.setattr(two_tasks, "METHODS", ("shared", "disjoint_subnets"))
  monkeypatch.setitem(two_tasks.SIZES, "smoke", SMALL)
  call(guided.main, part=["tasks"])
  found = json.loads((workdir / "guided_tasks.json").read_text())
  rows = found["numbers"]["rows"]
  assert [r["method"] for r in rows] == [
    *("shared", "shared", "disjoint_subnets", "disjoint_subnets")
  ]
  for shared, apart in zip(rows[:2], rows[2:]):
    # Both learn; the one forgets A, the other cannot touch it.
    assert min(shared["joint"], apart["joint"]) > 50
    assert shared["forgetting"] > 15 > 5 > abs(apart["forgetting"])
    assert apart["after_b_a"] > 50 and apart["after_b_b"] > 50
    assert shared["after_a_b"] < 40
  names = [v["claim"]["name"] for v in found["verdicts"]]
  assert names == [claim.name for claim in claims.TASKS]
  assert (workdir / "guided_tasks.png").exists()


def test_task_subnets_are_fixed_and_disjoint_ones_share_no_unit():
  key = jax.random.key(0)

  def keep(method, step):
    return [
      np.asarray(m.dense())
      for m in two_tasks.masks_at(method, key, step, SMALL)
    ]

  for method in two_tasks.TASK_METHODS:
    for now, later in zip(keep(method, 0), keep(method, 59)):
      np.testing.assert_array_equal(now, later)
      assert now.shape == (2, 16) and (now.sum(axis=1) == 8).all()
    first, second = keep(method, 0)
    assert (first != second).any()
    is_disjoint = (first[0] ^ first[1]).all() and (second[0] ^ second[1]).all()
    assert is_disjoint == (method == "disjoint_subnets")
  rows, later = keep("standard", 0)[0], keep("standard", 1)[0]
  assert rows.shape == (16, 16) and (rows != later).any()
  assert two_tasks.masks_at("shared", key, 0, SMALL) is None


def test_a_task_moves_the_units_of_its_own_subnet_alone():
  data, _ = two_tasks.load()
  key, method = jax.random.key(1), "task_subnets"
  start = two_tasks.init(key, data.x.shape[1], SMALL.hidden)
  of_b = jnp.asarray(np.flatnonzero(np.asarray(data.task) == 1))
  end = two_tasks.train(
    key,
    start,
    data,
    of_b,
    jnp.int32(of_b.size),
    jnp.int32(30),
    jnp.int32(60),
    method=method,
    sizes=SMALL,
  )
  _, run_key = jax.random.split(key)
  masks = two_tasks.masks_at(method, run_key, 0, SMALL)
  own = np.asarray(masks[0].dense())[1]
  moved = np.asarray(start["layer_0"]["kernel"] != end["layer_0"]["kernel"])
  assert not moved[:, ~own].any() and moved[:, own].any(axis=0).sum() >= 6


def rows_of(method, accuracies, **fields):
  return [
    {"method": method, "seed": i, "total": 8, "concurrent": 2, **fields}
    | {"accuracy": value, "weakest_subnets": value, "subnet_deviation": value}
    for i, value in enumerate(accuracies)
  ]


def test_claims_pair_guided_with_each_schedule_at_its_own_sizes():
  better = [51.0, 51.2, 50.9, 51.1, 51.0]
  worse = [50.0, 50.1, 50.0, 49.9, 50.0]
  rows = [
    *rows_of("guided", better, temperature=0.1),
    *rows_of("gyro", worse, scheduling="random"),
    *rows_of("gyro", better, scheduling="random", total=16),
    *rows_of("gyro", [52.0] * 5, scheduling="consecutive"),
  ]
  said = {
    v.claim.name: v for v in study.judge(claims.SCHEDULES, rows, scale="cpu")
  }
  assert said["guided_beats_random"].outcome == "holds"
  assert said["guided_lifts_the_weakest"].outcome == "holds"
  # A larger deviation is a wider spread.
  assert said["guided_narrows_the_spread"].outcome == "does not hold"
  assert said["guided_beats_consecutive"].outcome == "does not hold"
  (label,) = said["guided_beats_random"].findings
  assert label == "concurrent=2 temperature=0.1 total=8"


def test_wrong_uses_are_refused(call):
  with pytest.raises(ValueError, match="scale must be cpu or smoke.*'paper'"):
    call(guided.main, scale="paper")
  with pytest.raises(ValueError, match="temperature=0.2 has no effect here"):
    config_lib.RunConfig(method="gyro", temperature=0.2)
  with pytest.raises(ValueError, match=r"explore must be in \(0, 1\], got 0"):
    config_lib.RunConfig(method="guided", explore=0.0)
  own = config_lib.RunConfig(
    method="guided", total=32, num_devices=1, num_train=320, batch_size=32
  )
  with pytest.raises(kd.UnsupportedError, match="one device.*num_devices=2"):
    setup.make([dataclasses.replace(own, num_devices=2)])
  with pytest.raises(kd.UnsupportedError, match="guided .* on the device"):
    setup.make([dataclasses.replace(own, data_placement="stream")])
