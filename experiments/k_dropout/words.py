"""What the pages and figures of k-dropout call things, and lines they share."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.report import rows as rows_lib

ORDERS: dict[Any, str] = {
  "every_epoch": "batches reshuffled each epoch",
  "once": "frozen batches, as in the authors' code",
  "rows": "frozen batches, rows permuted",
}
"""{order of the batches: in words}."""

LEVELS = {"none": "no dropout", "standard": "standard dropout"}
"""{method: in words}, the lines that every panel has."""

STEPS = "steps k that a subnet trains"


def levels(rows: Sequence[rows_lib.Row]) -> dict[str, float]:
  """Returns the means of no and standard dropout, where they ran."""
  return {
    words: float(np.mean([row["accuracy"] for row in same]))
    for name, words in LEVELS.items()
    if (same := [row for row in rows if row["method"] == name])
  }
