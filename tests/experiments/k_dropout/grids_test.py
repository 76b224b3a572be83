"""The cells of every sweep, counted by hand."""

import numpy as np
import pytest

from experiments.gyro.grid import cells as grid_cells
from experiments.k_dropout import chosen
from experiments.k_dropout import derived as derived_lib
from experiments.k_dropout import grids
from experiments.k_dropout import image_counts
from experiments.k_dropout import sizes as sizes_lib

ALL = [(name, scale) for name in grids.GRIDS for scale in sizes_lib.SCALES]


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_cells_differ_and_have_one_seed(name, scale):
  cells = grids.get(name, sizes_lib.SCALES[scale])
  assert len({cell.digest() for cell in cells}) == len(cells) > 0
  assert {cell.seeds for cell in cells} == {1}


@pytest.mark.parametrize("scale", sizes_lib.SCALES.values(), ids=str)
def test_the_last_window_is_the_whole_run(scale):
  assert scale.ks[-1] == scale.num_steps
  if scale.common.get("num_train"):
    steps = scale.config().steps(scale.common["num_train"])
    assert steps == scale.num_steps


def test_the_cpu_scale_is_the_one_that_was_fixed():
  scale = sizes_lib.CPU
  cell = scale.config()
  assert scale.num_steps == 2400
  assert (cell.dataset, cell.mean_pool, cell.num_train) == ("cifar10", 2, 5120)
  assert (cell.hidden, cell.num_hidden, cell.batch_size) == (256, 2, 128)
  assert (cell.epochs, cell.learning_rate, cell.rate) == (60, 5e-4, 0.5)
  assert cell.init == "torch_linear" and cell.pixels == "signed"


def test_the_paper_scale_is_the_papers():
  cell = sizes_lib.PAPER.config(num_hidden=3)
  assert sizes_lib.PAPER.num_steps == 29_100
  assert (cell.hidden, cell.batch_size, cell.epochs) == (2000, 512, 300)
  assert cell.num_train is None and cell.valid_fraction == 0.0


def test_sequential_counts():
  cells = grids.get("sequential", sizes_lib.CPU)
  # every_epoch and once: 9 k x 4 m; rows: the 6 k >= 40 x 4 m; 3 x 2 lines.
  assert len(cells) == 5 * (2 * 36 + 24 + 6)
  rows = {
    c.k for c in cells if c.shuffle == "rows" and c.method == "sequential"
  }
  assert rows == {40, 80, 200, 400, 800, 2400}


def test_pooled_has_pools_as_large_as_sequential_runs_have_subnets():
  cells = grids.get("pooled", sizes_lib.CPU)
  pools = {c.pool_size for c in cells if c.method == "pooled" and c.m == 1}
  assert {2400 // k for k in sizes_lib.CPU.windows} <= pools
  assert {1, 10, 20, 50, 200, 1000, 50_000} <= pools


def test_the_deep_grid_has_24_cells_of_three_seeds():
  cells = grids.get("deep", sizes_lib.CPU)
  assert len(cells) == 24 * 3
  assert {c.num_hidden for c in cells} == {3}


def test_the_deep_grid_at_paper_scale():
  cells = grids.get("deep", sizes_lib.PAPER)
  found = {(c.k, c.m) for c in cells if c.method == "sequential"}
  assert found == {(k, m) for k in (97, 485, 29_100) for m in (1, 512)}
  assert {c.shuffle for c in cells} == {"every_epoch", "once"}
  assert len(cells) == 5 * 2 * (3 * 2 + 2)


def test_the_transition_runs_twice_as_long():
  cells = grids.get("transition", sizes_lib.CPU)
  assert {c.steps(5120) for c in cells} == {4800}


def test_gyro_schedules_meet_at_equal_cells():
  """Table 6: every random cell has a consecutive one of the same size."""
  for sizes in grid_cells.SIZES.values():
    settings = grid_cells.settings(sizes)
    random = [s for s in settings if s.get("scheduling") == "random"]
    assert random
    for own in random:
      partner = {k: v for k, v in own.items() if k != "scheduling"}
      assert partner in settings


def test_wrong_names_are_refused():
  with pytest.raises(ValueError, match="grid must be one of .*did you mean"):
    grids.get("sequentiall", sizes_lib.CPU)


def row(method, seed, accuracy, **fields):
  own = {"shuffle": "once", "rate": 0.5, "method": method, "seed": seed}
  return own | {"accuracy": accuracy, "num_subnets": 60} | fields


def test_slopes_by_hand():
  """60, 59, 57 at m = 1, 2, 8: log2 m = 0, 1, 3, all on a slope of -1."""
  rows = [
    row("sequential", 0, a, m=m, k_over_T=0.1, k=10)
    for m, a in ((1, 60.0), (2, 59.0), (8, 57.0))
  ]
  (found,) = [
    r for r in derived_lib.derived(rows) if "slope_per_doubling_of_m" in r
  ]
  assert found["slope_per_doubling_of_m"] == pytest.approx(-1.0)
  assert (found["k_over_T"], found["seed"]) == (0.1, 0)


def test_equal_subnets_and_transition_by_hand():
  rows = [
    row("standard", 0, 60.0),
    row("sequential", 0, 59.5, m=1, k=97, k_over_T=0.1),
    row("sequential", 0, 58.0, m=1, k=485, k_over_T=0.5, num_subnets=7),
    row("pooled", 0, 59.0, m=1, pool_size=60),
  ]
  derived = derived_lib.derived(rows)
  name = "accuracy_minus_pooled_at_equal_subnets"
  (equal,) = [r for r in derived if name in r]
  assert equal[name] == pytest.approx(0.5)
  (at,) = [r for r in derived if "log2_transition_over_485" in r]
  assert at["log2_transition_over_485"] == 0.0
  assert derived_lib.transition(rows, "once").k == 485
  assert derived_lib.transition(rows, "rows") is None


def test_a_rate_is_chosen_on_held_out_images_and_scored_on_fresh_seeds():
  rows = [
    {"method": "pooled", "pool_size": 50, "m": 8, "rate": rate, "seed": seed}
    | {"valid_accuracy": valid, "accuracy": test}
    for rate, seed, valid, test in (
      *((0.5, seed, 40.0, 99.0) for seed in (0, 1)),
      *((0.7, seed, 41.0, 10.0) for seed in (0, 1)),
      # Held-out accuracies of the fresh seeds choose nothing.
      *((0.5, seed, 99.0, 50.0) for seed in (2, 3)),
      *((0.7, seed, 1.0, 42.0 + seed) for seed in (2, 3)),
    )
  ]
  found = chosen.scored(rows)
  assert [(r["seed"], r["rate"], r[chosen.MEASURE]) for r in found] == [
    (2, 0.7, 44.0),
    (3, 0.7, 45.0),
  ]
  assert "| pooled   | 0.7" in chosen.notes(rows)[1]


def test_the_transition_is_looked_for_below_where_rows_began():
  cells = grids.transition_fine(sizes_lib.CPU)
  ours = [c for c in cells if c.method == "sequential" and c.shuffle == "rows"]
  assert min(c.k for c in ours) == 1 and max(c.k for c in ours) == 40
  assert {c.steps(5120) for c in ours} == {1200, 2400, 4800}


@pytest.mark.parametrize(("lowest", "told"), [(0.0, True), (-9.0, False)])
def test_no_transition_is_told_where_the_first_window_is_behind(lowest, told):
  own = {"shuffle": "rows", "rate": 0.5}
  rows = [
    own
    | {"method": "sequential", "m": 1, "k": k, "seed": s, "accuracy": a}
    | {"k_over_T": k / 2400, "num_subnets": 2400 // k}
    for k, a in ((40, 50.0 + lowest), (400, 40.0))
    for s in (0, 1)
  ]
  rows += [
    own | {"method": "standard", "seed": s, "accuracy": 50.0} for s in (0, 1)
  ]
  found = [
    r for r in derived_lib.derived(rows) if "log2_transition_over_485" in r
  ]
  assert bool(found) == told


def test_slopes_of_the_deficit_are_those_that_made_it():
  """Of a deficit a + b log2(m / N) + c log2(N), with another a a seed."""
  rows = [
    {"method": "standard", "images": images, "seed": seed, "accuracy": 50.0}
    for images in (128, 512)
    for seed in (0, 1)
  ]
  rows += [
    {"method": "sequential", "images": images, "seed": seed, "m": m}
    | {"accuracy": 50.0 - (seed + 1.5 * np.log2(m / images) + 0.25 * octaves)}
    for octaves, images in ((7, 128), (9, 512))
    for m in (1, 4, 8, 32)
    for seed in (0, 1)
  ]
  for row in rows:
    if row.get("m") == 1:
      row["accuracy"] = 0.0  # has another cause, and is not in the fit
  found = image_counts.slopes(image_counts.with_deficits(rows))
  assert [row["seed"] for row in found] == [0, 1]
  for row in found:
    assert row["deficit_per_halving_of_images_a_mask"] == pytest.approx(1.5)
    assert row["deficit_per_doubling_of_images"] == pytest.approx(0.25)


def test_runs_on_few_and_many_images_have_one_window_and_equal_epochs():
  cells = grids.image_counts(sizes_lib.CPU)
  ours = [c for c in cells if c.method == "sequential"]
  assert all(c.k == c.steps(c.num_train) for c in ours)
  assert {c.shuffle for c in cells} == {"once"}
  assert len({c.epochs for c in cells}) == 1
  assert {c.num_train for c in ours} == {1280, 5120, 20_480}
