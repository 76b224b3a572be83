"""experiments.sweep and experiments.restarts, from flags to report."""

import json

import numpy as np
import pytest

from experiments import sweep
from experiments.cells import sweeps
from experiments.k_dropout import grids
from experiments.k_dropout import restarts


@pytest.fixture
def one_order(monkeypatch, tiny):
  """Only the cells of one m: two lines and one program beside them."""

  def cells(scale, depth=2):
    del depth
    found = grids.lines(scale, 2, ("every_epoch",))
    found += [scale.config(method="sequential", m=8, k=k) for k in (10, 30)]
    return grids.with_seeds(found, scale.seeds)

  monkeypatch.setitem(grids.GRIDS, "sequential", cells)
  return cells(tiny)


def test_a_dry_run_trains_nothing(call, tmp_path, capsys):
  call(sweep.main, grid="sequential", dry_run=True, workdir=str(tmp_path))
  said = capsys.readouterr().out
  # 2 k x 2 m, 2 lines; 2 seeds; 120 steps each.
  assert "12 cells in 6 programs; 12 cells and 1,440 steps are left" in said
  assert "minutes (a guess: none finished)" in said
  assert not list(tmp_path.iterdir())


def test_a_sweep_ends_with_table_figure_numbers_and_verdicts(
  call, workdir, one_order, tmp_path, capsys
):
  call(sweep.main, grid="sequential", publish=str(tmp_path))
  page = (workdir / "sequential.md").read_text()
  assert page in capsys.readouterr().out
  for word in (
    "## Verdicts",
    "No verdicts: one needs 5 paired seeds",
    "k / T",
    "m = 8",
  ):
    assert word in page
  numbers = json.loads((workdir / "sequential.json").read_text())
  rows = numbers["numbers"]["rows"]
  assert len(rows) == len(one_order) == 8
  # The table's mean is that of the cells' own results.
  own = [
    sweeps.result(cell, workdir)["test_accuracy"][0]
    for cell in one_order
    if cell.method == "none"
  ]
  assert f"{100 * np.mean(own):.2f} +- " in page
  assert {v["outcome"] for v in numbers["verdicts"]} == {"cannot be told"}
  assert (workdir / "sequential.png").read_bytes()[1:4] == b"PNG"
  assert {p.suffix for p in tmp_path.iterdir()} == {".md", ".png", ".json"}


def test_a_shard_writes_no_report(call, one_order, tmp_path, capsys):
  own = {"workdir": str(tmp_path), "grid": "sequential", "shard": "2/3"}
  call(sweep.main, **own)
  assert "shard 2/3 is done; 6 of 8 cells are left" in capsys.readouterr().out
  assert not (tmp_path / "sequential.md").exists()


def test_restarts_show_each_run(call, workdir, monkeypatch, one_order):
  monkeypatch.setattr(grids, "restarts", lambda scale, depth: one_order)
  call(restarts.main)
  numbers = json.loads((workdir / "restarts.json").read_text())["numbers"]
  assert set(numbers["points"]) == {
    *("none", "standard", "sequential k=10 m=8", "sequential k=30 m=8")
  }
  assert all(len(values) == 2 for values in numbers["points"].values())
  assert (workdir / "restarts.png").exists()
