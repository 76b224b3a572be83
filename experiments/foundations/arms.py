"""The arms of a comparison, trained and read as rows."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from experiments.cells import experiment
from experiments.cells import rows as cell_rows
from experiments.cells import sizes
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.run import config as config_lib

ACCURACIES = {
  "training accuracy": columns.spread("train_accuracy"),
  "test accuracy": columns.spread("accuracy"),
}


@dataclasses.dataclass(frozen=True)
class Arms:
  """Arms that have been trained.

  Attributes:
    rows: one a cell, with its seed and the fields of its arm.
    hits: {number of a row: bool [N]} of test images.
    cells: one a row.
  """

  rows: list[rows_lib.Row]
  hits: dict[int, Bool[np.ndarray, "N"]]
  cells: list[config_lib.RunConfig]


def train(
  store: experiment.Store,
  scale: sizes.Scale,
  arms: Mapping[str, Mapping[str, Any]],
  *,
  key: str = "method",
  **common: Any,
) -> Arms:
  """Trains what is not there yet of all arms, a cell a seed.

  Args:
    store: where cells live.
    scale: the size.
    arms: {label: fields of its runs}.
    key: the field of a row that holds its label.
    **common: further fields of all runs, and rows.
  """
  labelled = [
    (label, scale.config(**(common | dict(fields)), seed=seed))
    for label, fields in arms.items()
    for seed in range(scale.seeds)
  ]
  store.results([cell for _, cell in labelled])
  rows, kept = [], []
  for label, cell in labelled:
    for row in cell_rows.rows([cell], store.folder):  # None if it diverged.
      rows.append({**row, **common, key: label})
      kept.append(cell)
  return Arms(rows, cell_rows.hits(kept, store.folder), kept)
