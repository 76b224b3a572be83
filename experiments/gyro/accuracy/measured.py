"""From the cells of a row of tables 4 and 5 to what the tables say of it."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.cells import sweeps
from experiments.gyro.accuracy import settings
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.run import config as config_lib

CONVENTIONAL = "conventional"


@dataclasses.dataclass(frozen=True)
class Found:
  """What is there of a row.

  Attributes:
    row: the row.
    rows: {method: one measured row a seed}; a method may have none.
    cells: the cells of `rows`, in their order.
  """

  row: settings.TableRow
  rows: Mapping[str, Sequence[rows_lib.Row]]
  cells: Sequence[config_lib.RunConfig]

  @property
  def measured(self) -> list[rows_lib.Row]:
    """All measured rows, in the order of `cells`."""
    return [row for same in self.rows.values() for row in same]

  def values(self, method: str, name: str) -> Float[np.ndarray, "S"]:
    """Returns a value of each seed."""
    return np.array([row[name] for row in self.rows[method]], np.float64)

  def differences(self, method: str, name: str) -> Float[np.ndarray, "S"]:
    """Returns a value minus conventional's, of each seed that both have."""
    conventional = self.rows.get(CONVENTIONAL, ())
    return rows_lib.differences(self.rows[method], conventional, name)


def minus_conventional(found: Found, method: str, name: str) -> str:
  """Returns a value's paired difference to conventional dropout, as text."""
  if method == CONVENTIONAL:
    return ""
  return columns.paired(found.differences(method, name))


def find(row: settings.TableRow, folder: pathlib.Path) -> Found:
  """Returns what the finished cells of a row say."""
  found, cells = {}, []
  for method, wanted in row.all_cells().items():
    finished = [c for c in wanted if sweeps.result(c, folder) is not None]
    cells += finished
    found[method] = [_measured(row, method, cell, folder) for cell in finished]
  return Found(row, {m: rows for m, rows in found.items() if rows}, cells)


def _measured(
  row: settings.TableRow,
  method: str,
  cell: config_lib.RunConfig,
  folder: pathlib.Path,
) -> rows_lib.Row:
  """Returns a row that `claims` read, accuracies and gaps in points."""
  result: Any = sweeps.result(cell, folder)
  curve = sweeps.curve(cell, folder)
  accuracy = 100 * result["test_accuracy"][0]
  # The training set as an evaluation sees it: nothing dropped, no augmentation.
  train = 100 * result["train_accuracy"][0]
  # As the steps since the evaluation before the last saw it.
  in_training = 100 * curve[-1]["train_accuracy"]
  return {
    **row.names,
    "method": method,
    "seed": cell.seed,
    "steps": result["steps"],
    "accuracy": accuracy,
    "train_accuracy": train,
    "generalization_gap": train - accuracy,
    "train_mode_error": 100 - in_training,
    "train_mode_gap": in_training - accuracy,
    "best_accuracy": 100 * max(record["test_accuracy"] for record in curve),
    "num_evaluations": len(curve),
    "num_subnets": result["num_subnets"],
    "total": cell.total if cell.method == "gyro" else None,
    "dataset_note": result["dataset_note"],
  }
