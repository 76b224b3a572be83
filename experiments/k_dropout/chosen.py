"""Each method at the drop rate that held-out images chose, on fresh seeds.

The first half of the seeds chooses: the rate whose mean held-out accuracy is
highest. The other half is scored at it, on the test set, once. So no number
was both chosen and scored on the same images or the same seeds.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.cells import sweeps
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import tables
from experiments.run import config as config_lib

MEASURE = "accuracy_at_chosen_rate"

_METHOD = ("method", "k", "pool_size", "m")


def with_held_out(
  rows: Sequence[rows_lib.Row], cells: sweeps.Cells, folder: pathlib.Path
) -> list[rows_lib.Row]:
  """Returns the rows of finished cells with their held-out accuracies.

  Args:
    rows: one a finished cell, in order.
    cells: of the grid.
    folder: of the sweep.
  """
  finished = [c for c in cells if sweeps.result(c, folder) is not None]
  return [
    {**row, "valid_accuracy": 100 * _held_out(cell, folder)}
    for row, cell in zip(rows, finished, strict=True)
  ]


def _held_out(cell: config_lib.RunConfig, folder: pathlib.Path) -> float:
  return sweeps.curve(cell, folder)[-1]["valid_accuracy"]


def scored(rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns a row a method and fresh seed, at the method's chosen rate.

  Args:
    rows: of all rates and seeds, with "valid_accuracy".
  """
  choosing = _choosing({row["seed"] for row in rows})
  found = []
  for same in rows_lib.group(rows, *_METHOD).values():
    means = rows_lib.means(
      [row for row in same if row["seed"] in choosing],
      "rate",
      measure="valid_accuracy",
    )
    (rate,) = max(means, key=lambda key: means[key])
    found += [
      {**row, MEASURE: row["accuracy"]}
      for row in same
      if row["rate"] == rate and row["seed"] not in choosing
    ]
  return found


def notes(rows: Sequence[rows_lib.Row]) -> list[str]:
  """Returns how it was chosen, and a table of what was, with its score."""
  found = scored(rows)
  lines = [
    [
      same[0]["method"],
      f"{same[0]['rate']:g}",
      str(len(same)),
      columns.points([row[MEASURE] for row in same]),
    ]
    for same in rows_lib.group(found, *_METHOD).values()
  ]
  header = ("method", "rate chosen", "fresh seeds", "test accuracy")
  return [
    "The rate is that of the highest mean held-out accuracy over seeds"
    f" {', '.join(map(str, sorted(_choosing({r['seed'] for r in rows}))))}; the"
    " score is of the other seeds alone.",
    tables.text(header, lines),
  ]


def _choosing(seeds: set[int]) -> set[int]:
  ordered = np.array(sorted(seeds))
  return set(ordered[: len(ordered) // 2].tolist())
