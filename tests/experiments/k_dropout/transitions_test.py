"""Where windows fall behind, for each length of a run by itself."""

import numpy as np
import pytest

from experiments.k_dropout import sweep
from experiments.k_dropout import transitions


def rows_of(behind_from):
  """Runs of several lengths; {steps: the k from which they lose two points}."""
  rows = []
  for steps, first in behind_from.items():
    for seed in range(3):
      own = {"steps": steps, "seed": seed, "shuffle": "rows", "rate": 0.5}
      noise = 0.1 * seed
      rows.append(own | {"method": "standard", "accuracy": 45 + noise})
      for k in (8, 16, 32):
        value = 45 + noise - 2 * (k >= first)
        rows.append(
          own | {"method": "sequential", "m": 1, "k": k, "accuracy": value}
        )
  return rows


def test_lengths_are_told_apart_in_notes_table_and_figure():
  """Mixed, the shorter runs would move the transition of the longer ones."""
  rows = rows_of({100: 8, 200: 16, 400: np.inf})
  says = transitions.notes(rows)[1:]
  assert len(says) == 3
  assert "100 steps): it cannot be told" in says[0]
  assert "200 steps): k = 16 is the smallest" in says[1]
  assert "400 steps): no k is the smallest" in says[2]
  header, lines = transitions.table(rows)
  assert header[2:] == ["T = 100", "T = 200", "T = 400"]
  assert [line[:2] for line in lines] == [
    ["rows", "standard"], ["rows", "8"], ["rows", "16"], ["rows", "32"]
  ]  # fmt: skip
  assert [cell.split(" ")[0] for cell in lines[2][2:]] == [
    "43.10", "43.10", "45.10"
  ]  # fmt: skip
  (panel,) = transitions.panels(rows, False)
  assert list(panel.lines) == [f"T = {n} steps" for n in (100, 200, 400)]
  assert len(panel.levels) == 3


def test_one_length_needs_no_name():
  (note,) = transitions.notes(rows_of({200: 16}))
  assert note.startswith("Transition (m = 1, batches: rows): k = 16")


@pytest.mark.parametrize("grid", ["transition_fine", "chosen_rate", "steps"])
def test_a_grid_without_a_view_of_its_own_is_a_list(grid):
  view = sweep.view_of(grid)
  assert (view is sweep.view_of("no such grid")) == (grid == "steps")
