"""Values that several cells of a sweep make together, for each seed."""

import math
from collections.abc import Sequence

import numpy as np

from experiments.judge import curves
from experiments.report import rows as rows_lib

_PAPER_TRANSITION = 485


def derived(found: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns rows of values that several cells make together, for each seed."""
  return [
    *_slopes(found, "sequential", "k_over_T"),
    *_slopes(found, "pooled", "pool_size"),
    *_at_equal_subnets(found),
    *_transitions(found),
  ]


def _slopes(found, method: str, setting: str) -> list[rows_lib.Row]:
  """The slope of accuracy per doubling of m, at each setting and seed."""
  chosen = [row for row in found if row["method"] == method]
  result = []
  for key, same in rows_lib.group(chosen, "shuffle", setting, "seed").items():
    if len({row["m"] for row in same}) < 2:
      continue
    slope = curves.slope_per_doubling(
      np.array([row["m"] for row in same]),
      np.array([[row["accuracy"] for row in same]]),
    )
    values = dict(zip(("shuffle", setting, "seed"), key))
    own = {"method": method, "slope_per_doubling_of_m": float(slope[0])}
    result.append(values | own)
  return result


def _at_equal_subnets(found) -> list[rows_lib.Row]:
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


def _transitions(found) -> list[rows_lib.Row]:
  """The smallest k that is a point below standard, for each order and seed.

  None of an order whose smallest k is behind in the mean: there the transition
  lies below what ran.
  """
  standard = {
    (row["shuffle"], row["seed"]): row["accuracy"]
    for row in found
    if row["method"] == "standard" and row["rate"] == 0.5
  }
  chosen = [r for r in found if r["method"] == "sequential" and r["m"] == 1]
  result = []
  for (shuffle, seed), same in rows_lib.group(
    chosen, "shuffle", "seed"
  ).items():
    behind = [
      row["k"]
      for row in same
      if (shuffle, seed) in standard
      and row["accuracy"] < standard[shuffle, seed] - 1.0
    ]
    if behind and not _starts_behind(found, shuffle):
      value = math.log2(min(behind) / _PAPER_TRANSITION)
      own = {"method": "sequential", "m": 1, "shuffle": shuffle, "seed": seed}
      result.append(own | {"log2_transition_over_485": value})
  return result


def _starts_behind(found: Sequence[rows_lib.Row], shuffle: str) -> bool:
  at = transition(found, shuffle)
  ks = [
    row["k"]
    for row in found
    if (row["method"], row.get("m"), row["shuffle"])
    == ("sequential", 1, shuffle)
  ]
  return at is not None and at.k == min(ks)


def transition(
  found: Sequence[rows_lib.Row], shuffle: str
) -> curves.Transition | None:
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
  return curves.transition(
    np.array(ks), accuracies, np.array([standard[s] for s in seeds]), drop=1.0
  )
