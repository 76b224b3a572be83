"""Tables as text, and numbers as JSON."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tabulate

from kdropout_jax.training import files

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The header of a table, and its lines."""


def text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a Markdown table whose columns are aligned.

  >>> print(text(("method", "n"), [("none", "1")]))
  | method   | n   |
  |----------|-----|
  | none     | 1   |
  """
  return tabulate.tabulate(rows, header, "github", disable_numparse=True)


def mean_and_deviation(values: npt.ArrayLike, digits: int = 4) -> str:
  """Returns mean and sample standard deviation, as ``0.9012 +- 0.0034``.

  Args:
    values: of any shape; "-" stands for none, and one has no deviation.
    digits: after the point.
  """
  array = np.asarray(values, np.float64)
  if array.size == 0:
    return "-"
  if array.size == 1:
    return f"{array.mean():.{digits}f}"
  return f"{array.mean():.{digits}f} +- {array.std(ddof=1):.{digits}f}"


def write_json(path: pathlib.Path, values: Any) -> None:
  """Writes `values` as JSON, whole or not at all."""
  files.write_atomically(
    path, json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
  )
