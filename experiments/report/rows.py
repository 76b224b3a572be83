"""Measured rows: grouped, averaged, paired by seed. Pure, and light to import.

A row has the settings of a cell, its "seed" and measured values.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

Row = dict[str, Any]


def group(found: Iterable[Row], *names: str) -> dict[tuple, list[Row]]:
  """Returns {values of the fields: rows}, in the order of the first."""
  groups: dict[tuple, list[Row]] = {}
  for row in found:
    groups.setdefault(tuple(row.get(n) for n in names), []).append(row)
  return groups


def means(
  found: Iterable[Row], *names: str, measure: str = "accuracy"
) -> dict[tuple, float]:
  """Returns {values of the fields: mean of a measure}."""
  return {
    key: float(np.mean([row[measure] for row in same]))
    for key, same in group(found, *names).items()
  }


def curve(
  found: Iterable[Row], by: str, measure: str = "accuracy"
) -> tuple[list, Float[np.ndarray, "n S"]]:
  """Returns the values of a field, ascending, and a measure's at each.

  Returns:
    x [n], and values [n, S], NaN where x has fewer rows than another.
  """
  places = {key[0]: same for key, same in group(found, by).items()}
  x = sorted(places)
  width = max(map(len, places.values()), default=0)
  values = np.full((len(x), width), np.nan)
  for i, place in enumerate(x):
    values[i, : len(places[place])] = [row[measure] for row in places[place]]
  return x, values


def differences(
  first: Iterable[Row], second: Iterable[Row], measure: str = "accuracy"
) -> Float[np.ndarray, "S"]:
  """Returns first minus second, one for each seed that both have."""
  other = {row["seed"]: row[measure] for row in second}
  return np.array(
    [
      row[measure] - other[row["seed"]] for row in first if row["seed"] in other
    ],
    np.float64,
  )
