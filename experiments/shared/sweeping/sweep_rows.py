"""From the results of cells to rows that claims and figures read."""

import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.shared import config as config_lib
from experiments.shared.judging import trends
from experiments.shared.sweeping import sweeps

Row = dict[str, Any]

_PAPER_TRANSITION = 485
_FIELDS = ("shuffle", "num_hidden", "rate")


def rows(cells: sweeps.Cells, folder: pathlib.Path) -> list[Row]:
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


def _row(cell: config_lib.RunConfig, result: dict[str, Any]) -> Row:
  num_steps = result["steps"]
  row: Row = {name: getattr(cell, name) for name in _FIELDS}
  row |= {
    "method": cell.method,
    "seed": cell.seed,
    "steps": num_steps,
    "accuracy": 100 * result["test_accuracy"][0],
    "train_accuracy": 100 * result["train_accuracy"][0],
    "num_subnets": result["num_subnets"],
    "examples_per_second": result["examples_per_second"],
  }
  if cell.method in ("sequential", "pooled"):
    row["m"] = cell.m
  if cell.method == "sequential":
    row |= {"k": cell.k, "k_over_T": cell.k / num_steps}
    row["epochs_per_window"] = cell.k * cell.epochs / num_steps
  if cell.method == "pooled":
    row["pool_size"] = cell.pool_size
    # Errata K5: P = T m / k, so that a pool's subnets train k steps each.
    row["k"] = num_steps * cell.m / cell.pool_size
  if cell.method == "gyro":
    row |= {
      "total": cell.total,
      "concurrent": cell.concurrent,
      "scheduling": cell.scheduling,
      "rows_per_subnet": cell.rows_per_subnet,
      "block_size": cell.block_size if cell.pattern == "blocks" else None,
    }
  return row


def derived(found: Sequence[Row]) -> list[Row]:
  """Returns rows of values that several cells make together, for each seed."""
  return [
    *_slopes(found, "sequential", "k_over_T"),
    *_slopes(found, "pooled", "pool_size"),
    *_at_equal_subnets(found),
    *_transitions(found),
  ]


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


def _slopes(found, method: str, setting: str) -> list[Row]:
  """The slope of accuracy per doubling of m, at each setting and seed."""
  chosen = [row for row in found if row["method"] == method]
  result = []
  for key, same in group(chosen, "shuffle", setting, "seed").items():
    if len({row["m"] for row in same}) < 2:
      continue
    slope = trends.slope_per_doubling(
      np.array([row["m"] for row in same]),
      np.array([[row["accuracy"] for row in same]]),
    )
    values = dict(zip(("shuffle", setting, "seed"), key))
    own = {"method": method, "slope_per_doubling_of_m": float(slope[0])}
    result.append(values | own)
  return result


def _at_equal_subnets(found) -> list[Row]:
  """Sequential minus pooled where both train as many subnets, at m = 1."""
  pooled = {
    (row["shuffle"], row["pool_size"], row["seed"]): row["accuracy"]
    for row in found
    if row["method"] == "pooled" and row["m"] == 1
  }
  result = []
  for row in found:
    if row["method"] != "sequential" or row["m"] != 1:
      continue
    partner = (row["shuffle"], row["num_subnets"], row["seed"])
    if partner in pooled:
      difference = row["accuracy"] - pooled[partner]
      kept = {n: row[n] for n in ("method", "m", "shuffle", "k_over_T", "seed")}
      name = "accuracy_minus_pooled_at_equal_subnets"
      result.append(kept | {name: difference})
  return result


def _transitions(found) -> list[Row]:
  """The smallest k that is a point below standard, for each order and seed."""
  standard = {
    (row["shuffle"], row["seed"]): row["accuracy"]
    for row in found
    if row["method"] == "standard" and row["rate"] == 0.5
  }
  chosen = [r for r in found if r["method"] == "sequential" and r["m"] == 1]
  result = []
  for (shuffle, seed), same in group(chosen, "shuffle", "seed").items():
    behind = [
      row["k"]
      for row in same
      if (shuffle, seed) in standard
      and row["accuracy"] < standard[shuffle, seed] - 1.0
    ]
    if behind:
      value = math.log2(min(behind) / _PAPER_TRANSITION)
      own = {"method": "sequential", "m": 1, "shuffle": shuffle, "seed": seed}
      result.append(own | {"log2_transition_over_485": value})
  return result


def transition(found: Sequence[Row], shuffle: str) -> trends.Transition | None:
  """Returns where sequential windows at m = 1 fall behind, over all seeds."""
  chosen = [
    r
    for r in found
    if r["method"] == "sequential" and r["m"] == 1 and r["shuffle"] == shuffle
  ]
  standard = {
    r["seed"]: r["accuracy"]
    for r in found
    if r["method"] == "standard"
    and r["shuffle"] == shuffle
    and r["rate"] == 0.5
  }
  ks = sorted({r["k"] for r in chosen})
  cells = {(r["k"], r["seed"]): r["accuracy"] for r in chosen}
  seeds = [s for s in sorted(standard) if all((k, s) in cells for k in ks)]
  if not ks or not seeds:
    return None
  accuracies = np.array([[cells[k, s] for k in ks] for s in seeds])
  return trends.transition(
    np.array(ks), accuracies, np.array([standard[s] for s in seeds]), drop=1.0
  )
