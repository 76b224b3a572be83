"""From the results of finished cells to rows that claims and figures read."""

import pathlib
from typing import Any

import numpy as np

from experiments.cells import sweeps
from experiments.report import rows as rows_lib
from experiments.run import config as config_lib
from experiments.run import methods

_FIELDS = ("shuffle", "num_hidden", "rate")


def rows(cells: sweeps.Cells, folder: pathlib.Path) -> list[rows_lib.Row]:
  """Returns one row a finished cell, its accuracy in points."""
  found = []
  for cell in cells:
    result = sweeps.result(cell, folder)
    if result is not None:
      found.append(_row(cell, result))
  return found


def hits(cells: sweeps.Cells, folder: pathlib.Path) -> dict[int, np.ndarray]:
  """Returns {row number: hits [N]} for the rows of `rows`."""
  finished = [c for c in cells if sweeps.result(c, folder) is not None]
  return {i: sweeps.hits(cell, folder) for i, cell in enumerate(finished)}


def _row(cell: config_lib.RunConfig, result: dict[str, Any]) -> rows_lib.Row:
  num_steps = result["steps"]
  row: rows_lib.Row = {name: getattr(cell, name) for name in _FIELDS}
  row |= {
    "method": cell.method,
    "seed": cell.seed,
    "steps": num_steps,
    "accuracy": 100 * result["test_accuracy"][0],
    "train_accuracy": 100 * result["train_accuracy"][0],
    "num_subnets": result["num_subnets"],
    "examples_per_second": result["examples_per_second"],
  }
  return row | methods.METHODS[cell.method].columns(cell, num_steps)
