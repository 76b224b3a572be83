"""Tables of measured rows: what each column says of the rows of a line."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.judge import statistics
from experiments.report import rows as rows_lib
from experiments.report import tables

Column = Callable[[list[rows_lib.Row]], str]
"""From the rows of a line, one a seed, to the words of its cell."""


def table(
  rows: Sequence[rows_lib.Row],
  by: Sequence[str],
  columns: Mapping[str, Column],
) -> tables.Table:
  """Returns a line for each value of the fields `by`, in the rows' order.

  Args:
    rows: what was measured, one a cell and seed.
    by: fields that tell one line from another.
    columns: {heading: what the column says of a line's rows}.
  """
  lines = [
    [column(same) for column in columns.values()]
    for same in rows_lib.group(rows, *by).values()
  ]
  return list(columns), lines


def setting(name: str, form: str = "{}", none: str = "-") -> Column:
  """Returns a column of a field of a line's rows; `none` where it has none."""

  def column(same: list[rows_lib.Row]) -> str:
    value = same[0].get(name)
    return none if value is None else form.format(value)

  return column


def mean(name: str, digits: int = 3) -> Column:
  """Returns a column of means."""
  return lambda same: f"{np.mean(_values(same, name)):.{digits}f}"


def spread(name: str, digits: int = 2) -> Column:
  """Returns a column of means and deviations of the rows that have a value."""
  return lambda same: tables.mean_and_deviation(_values(same, name), digits)


def points(values: npt.ArrayLike) -> str:
  """Returns the mean and deviation of points: ``40.12 +- 0.31``.

  >>> points([39.0, 40.0, 41.0])
  '40.00 +- 1.00'
  """
  return tables.mean_and_deviation(values, 2)


def paired(differences: npt.ArrayLike) -> str:
  """Returns paired differences as their mean and 95 % t interval.

  >>> paired([0.1, 0.3, 0.2])
  '+0.20 [-0.05, +0.45]'
  """
  values = np.asarray(differences, np.float64)
  if values.size == 0:
    return "-"
  if values.size == 1:
    return f"{values[0]:+.2f}"
  return interval(statistics.t_interval(values))


def interval(found: statistics.Interval) -> str:
  """Returns an estimate and its interval: ``+0.20 [-0.05, +0.45]``."""
  return f"{found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _values(same: list[rows_lib.Row], name: str) -> Any:
  return np.array([row[name] for row in same if name in row], np.float64)
