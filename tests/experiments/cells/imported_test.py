"""Runs of another machine: finished cells, or refused with the reason."""

import base64
import json
import pathlib

import numpy as np
import pytest

from experiments.cells import imported
from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.run import config as config_lib

COMMITTED = pathlib.Path("docs/results/k-dropout/paper_depth3.jsonl")
COUNT = 12
HITS = np.arange(COUNT) % 3 > 0  # 8 of 12


def line(seed, **changed):
  cell = config_lib.RunConfig(method="pooled", pool_size=7, m=2, seed=seed)
  result = {
    "num_subnets": 7,
    "steps": 30,
    "test_accuracy": [float(np.float32(8 / 12))],
    "train_accuracy": [0.9],
    "examples_per_second": 100.0,
  }
  hits = base64.b64encode(np.packbits(HITS).tobytes()).decode()
  own = {"cell": cell.identity(), "result": result, "hits": hits}
  return own | changed


def write(folder, *lines, **every):
  made = {"made": {"num_images": COUNT, "every_run": every}}
  path = folder / "runs.jsonl"
  path.write_text("".join(json.dumps(x) + "\n" for x in (made, *lines)))
  return path


def test_imported_runs_are_finished_cells(tmp_path):
  found = imported.read(write(tmp_path, line(0), line(1), device="far"))
  cells = found.cells()
  folder = tmp_path / "sweep"
  assert imported.add(found, folder) == 2
  assert sweeps.unfinished(cells, folder) == ()
  assert (sweeps.result(cells[0], folder) or {})["device"] == "far"
  rows = cell_rows.rows(cells, folder)
  assert [row["seed"] for row in rows] == [0, 1]
  assert rows[0]["accuracy"] == pytest.approx(200 / 3)
  np.testing.assert_array_equal(cell_rows.hits(cells, folder)[1], HITS)
  assert imported.add(found, folder) == 0


@pytest.mark.parametrize(
  ("changed", "words"),
  [
    ({"cell": {"method": "standard", "m": 8}}, "cell of runs.jsonl, line 2"),
    ({"hits": "AAA="}, "must be the hits', 0 of 12, got 0.66"),
    ({"hits": "AAAA"}, "hits of runs.jsonl, line 2 must be of 12 images"),
  ],
)
def test_what_does_not_agree_is_refused(tmp_path, changed, words):
  with pytest.raises(ValueError, match=words):
    imported.read(write(tmp_path, line(0, **changed)))


def test_a_run_counts_once(tmp_path):
  with pytest.raises(ValueError, match="each run once, got 2"):
    imported.read(write(tmp_path, line(0), line(0)))


def test_the_committed_runs_agree_with_their_names_and_hits():
  found = imported.read(COMMITTED)
  assert len(found.runs) == 105
  gaps = [run.gap for run in found.runs]
  assert gaps.count(0) == 102 and set(gaps) == {0, 1}
