"""Reports: numbers that JSON can hold, claims on planted data."""

import numpy as np
import pytest

from experiments.k_dropout import claims
from experiments.k_dropout import sweep
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import study


def rows_of(pooled, standard):
  own = {"shuffle": "once", "m": 8, "pool_size": 200, "method": "pooled"}
  found = []
  for seed, (a, b) in enumerate(zip(pooled, standard)):
    found.append(own | {"seed": seed, "accuracy": a})
    other = {"method": "standard", "shuffle": "once"}
    found.append(other | {"seed": seed, "accuracy": b})
  return found


@pytest.mark.parametrize(
  ("difference", "outcome"),
  [(0.0, "holds"), (-4.0, "does not hold"), (-1.0, "cannot be told")],
)
def test_planted_differences_are_judged(difference, outcome):
  standard = np.array([50.0, 51.0, 49.0, 50.5, 49.5])
  noise = np.array([0.1, -0.1, 0.2, -0.2, 0.0])
  rows = rows_of(standard + difference + noise, standard)
  (verdict,) = study.judge(claims.named("pool_200_is_equal"), rows, scale="cpu")
  assert verdict.outcome == outcome


def test_a_bootstrap_over_images_stands_beside(monkeypatch):
  """Every network is right on the same images, but one in a hundred."""
  hits = {}
  rows = rows_of([49.0] * 5, [50.0] * 5)
  for i, row in enumerate(rows):
    hits[i] = np.arange(100) < (49 if row["method"] == "pooled" else 50)
  (verdict,) = study.judge(
    claims.named("pool_200_is_equal"), rows, scale="cpu", hits=hits
  )
  (finding,) = verdict.findings.values()
  low, high = finding.bootstrap
  assert low < -1.0 < high <= 0.0  # Some resamples miss that one image.


def test_every_claim_of_a_sweep_is_known():
  for names in claims.TOLD.values():
    for name in names:
      assert claims.named(name)[0].paper == "k-dropout"


def test_points():
  assert columns.points([40.0, 50.0, 60.0]) == "50.00 +- 10.00"
  assert columns.points([40.0]) == "40.00"
  assert columns.points([]) == "-"


def test_a_table_has_a_line_for_each_setting():
  rows = [
    {"k": 1000, "rate": None, "seed": 0, "loss": 1.0, "accuracy": 40.0},
    {"k": 2, "rate": 0.5, "seed": 0, "loss": 3.0, "accuracy": 44.0},
    {"k": 1000, "rate": None, "seed": 1, "loss": 2.0},
  ]
  found = columns.table(
    rows,
    ("k", "rate"),
    {
      "k": columns.setting("k", "{:,}"),
      "rate": columns.setting("rate"),
      "loss": columns.mean("loss"),
      "accuracy": columns.spread("accuracy"),
    },
  )
  assert found == (
    ["k", "rate", "loss", "accuracy"],
    [["1,000", "-", "1.500", "40.00"], ["2", "0.5", "3.000", "44.00"]],
  )


def test_a_curve_ascends_and_has_nan_where_a_place_has_fewer_seeds():
  rows = [{"k": k, "accuracy": v} for k, v in ((8, 3.0), (2, 1.0), (8, 4.0))]
  x, values = rows_lib.curve(rows, "k")
  assert x == [2, 8]
  np.testing.assert_array_equal(values, [[1.0, np.nan], [3.0, 4.0]])
  assert rows_lib.curve([], "k")[1].shape == (0, 0)


def test_minutes_add_up(tmp_path):
  assert study.add_minutes(tmp_path, "x", 60) == 1
  assert study.add_minutes(tmp_path, "y", 30) == 0.5
  assert study.add_minutes(tmp_path, "x", 60) == 2


def test_a_table_over_rates_has_one_column_a_method():
  base = {"shuffle": "every_epoch", "seed": 0, "m": 1}
  rows = [
    base | {"method": "none", "rate": 0.5, "accuracy": 40.0},
    base | {"method": "standard", "rate": 0.5, "accuracy": 44.0, "m": None},
    base | {"method": "sequential", "k": 2, "rate": 0.1, "accuracy": 41.0},
    base | {"method": "sequential", "k": 2, "rate": 0.5, "accuracy": 42.0},
    base | {"method": "sequential", "k": 2, "rate": 0.5, "accuracy": 43.0},
  ]
  header, lines = sweep.view_of("rate").table(rows)
  assert header == ["drop rate", "none m=1", "standard", "sequential k=2 m=1"]
  assert lines == [
    ["0", "40.00", "", ""],
    ["0.1", "", "", "41.00"],
    ["0.5", "", "44.00", "42.50 +- 0.71"],
  ]
