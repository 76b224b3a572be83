"""The two arms of figure 3's U: what the first and the last subnets keep.

Pooled, a recency of some points hides that there is no primacy. So each arm is
judged by itself, at the shares of the run that the paper's figure has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.judge import curves
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import tables

CLAIMS = ("primacy", "recency")
NAME = "subnet_dynamics"
"""The experiment whose numbers these are."""


def rows(
  label: str,
  k: int,
  share: float,
  seeds: Sequence[int],
  trained: Float[np.ndarray, "S n"],
) -> list[rows_lib.Row]:
  """Returns both arms of each seed, in points.

  Args:
    label: the optimizer, in words.
    k: steps of a window.
    share: of the run, k / T.
    seeds: [S].
    trained: final accuracies of all subnets by their index, as shares.
  """
  if trained.shape[1] < 3:
    return []
  own = {"method": "sequential", "m": 1, "k": k, "k_over_T": share}
  return [
    {
      **own,
      "optimizer": label,
      "seed": seed,
      "primacy": 100 * float(first),
      "recency": 100 * float(last),
    }
    for seed, first, last in zip(seeds, *curves.arms(trained))
  ]


def of_numbers(found: Mapping[str, Any]) -> list[rows_lib.Row]:
  """Returns the arms of an experiment that left its numbers."""
  seeds = found["seeds"]
  return [
    row
    for label, many in found["numbers"].get("followed", {}).items()
    for one in many
    for row in rows(
      label,
      one["k"],
      one["k"] / one["steps"][-1],
      seeds,
      np.array(one["trained"]),
    )
  ]


def table(found: Sequence[rows_lib.Row]) -> str:
  """Returns a line an optimizer and window: both arms with t intervals."""
  return tables.text(
    *columns.table(
      found,
      ("optimizer", "k"),
      {
        "optimizer": columns.setting("optimizer"),
        "k": columns.setting("k", "{:,}"),
        "k / T": columns.setting("k_over_T", "{:.4g}"),
        "first sixth minus middle": _paired("primacy"),
        "last sixth minus middle": _paired("recency"),
      },
    )
  )


def _paired(name: str) -> columns.Column:
  return lambda same: columns.paired([row[name] for row in same])
