"""From the results of the gyro grid's cells to rows that claims read."""

import functools
import math
import pathlib
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import kdropout_jax as kd
from experiments.cells import networks
from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.report import rows as rows_lib
from experiments.run import config as config_lib

INSIDE_TOTAL = (128, 2048)
"""Sigma that the paper calls best."""

ENOUGH = 16
"""Smaller Sigma lose by so many points that they alone would decide."""

INSIDE_CONCURRENT = (4, 16)
"""Tau that the paper calls best."""

_WIDTH = 1024  # of the paper's hidden layers
_NEGLIGIBLE = 1e-6


def rows(cells: sweeps.Cells, folder: pathlib.Path) -> list[rows_lib.Row]:
  """Returns one row a finished cell, in order, its accuracy in points.

  Beyond those of `cells.rows` a row has "dataset" and "model", "method" as
  the paper calls it, "block_of_1024", a block's units had the layer 1024, and
  "num_subnets" as many as did train, with random scheduling by count.
  """
  finished = [c for c in cells if sweeps.result(c, folder) is not None]
  return [
    _row(cell, row)
    for cell, row in zip(finished, cell_rows.rows(finished, folder))
  ]


def _row(cell: config_lib.RunConfig, row: rows_lib.Row) -> rows_lib.Row:
  row |= {"dataset": cell.dataset, "model": cell.model}
  if cell.method == "standard":
    row["method"] = "conventional"
  if cell.method != "gyro":
    return row
  if cell.pattern == "blocks":
    row["method"] = "blockwise"
    row["block_of_1024"] = block_of_1024(cell)
  if cell.scheduling == "random":
    row["num_subnets"] = num_drawn(cell, row["steps"])
  return row


def block_of_1024(cell: config_lib.RunConfig) -> int:
  """Returns the units of a block, had its layer the paper's 1024."""
  return cell.block_size * _WIDTH // (cell.hidden or _WIDTH)


def num_drawn(cell: config_lib.RunConfig, num_steps: int) -> int:
  """Returns how many of Sigma a run with random scheduling draws.

  Counted over the run, unless it is next to certain that it is all of them: a
  step draws tau without replacement and so misses each with 1 - tau / Sigma.

  Args:
    cell: whose seed the draws come from.
    num_steps: steps of the run.
  """
  total, tau = cell.total, cell.concurrent
  missing = total * (1 - tau / total) ** num_steps
  if missing < _NEGLIGIBLE:
    return total
  draw = _draws(total, tau, num_steps, cell.batch_size)
  return len(np.unique(np.asarray(draw(networks.run_key(cell.seed)))))


@functools.lru_cache
def _draws(total: int, tau: int, num_steps: int, batch_size: int):
  """Returns a compiled function of the key: the ids of all steps."""
  schedule = kd.Gyro(
    total=total, concurrent=tau, num_steps=num_steps, scheduling="random"
  )
  steps = jnp.arange(num_steps, dtype=jnp.int32)
  return jax.jit(
    lambda key: jax.vmap(
      lambda step: kd.subnet_ids(step, key, schedule, batch_size)
    )(steps)
  )


def all_trained(row: rows_lib.Row) -> bool:
  """Returns whether all Sigma subnets of a row trained."""
  return row.get("total") is None or row["num_subnets"] >= row["total"]


def entering(found: Iterable[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns the rows that enter claims."""
  return [row for row in found if all_trained(row)]


def of_method(found: Iterable[rows_lib.Row], method: str) -> list[rows_lib.Row]:
  """Returns the rows of a method, as the paper calls it."""
  return [row for row in found if row["method"] == method]


def is_consecutive(row: rows_lib.Row) -> bool:
  """Returns whether a row is gyro dropout proper: not random, no blocks."""
  return row["method"] == "gyro" and row["scheduling"] == "consecutive"


def figure_1(found: Iterable[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns the rows of figure 1: tau = min(256, Sigma)."""
  return [
    row
    for row in found
    if is_consecutive(row) and row["concurrent"] == min(256, row["total"])
  ]


def derived(found: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns rows of values that several cells make together, for each seed."""
  chosen = [row for row in entering(found) if is_consecutive(row)]
  result = []
  groups = rows_lib.group(chosen, "dataset", "model", "seed")
  for (dataset, model, seed), same in groups.items():
    own = {"dataset": dataset, "model": model, "method": "gyro", "seed": seed}
    for name, value in (
      ("total", _best_total([r for r in same if r["total"] >= ENOUGH])),
      ("any_total", _best_total(same)),
      ("concurrent", _best_concurrent(same)),
    ):
      if not math.isnan(value):
        measure = f"accuracy_inside_minus_outside_{name}"
        result.append(own | {measure: value})
  return result


def _best_total(same: Sequence[rows_lib.Row]) -> float:
  """Mean over figure 1's Sigma inside, minus the mean over the others."""
  return _contrast(figure_1(same), "total", INSIDE_TOTAL)


def _best_concurrent(same: Sequence[rows_lib.Row]) -> float:
  """Tau inside minus larger ones, at each Sigma that has both; their mean."""
  low, _ = INSIDE_CONCURRENT
  contrasts = [
    _contrast(
      [row for row in of_total if row["concurrent"] >= low],
      "concurrent",
      INSIDE_CONCURRENT,
    )
    for of_total in rows_lib.group(same, "total").values()
  ]
  told = [value for value in contrasts if not math.isnan(value)]
  return float(np.mean(told)) if told else math.nan


def _contrast(
  same: Sequence[rows_lib.Row], name: str, inside: tuple[int, int]
) -> float:
  """Mean accuracy where `name` is inside minus where not; NaN for one side."""
  low, high = inside
  groups: dict[bool, list[float]] = {True: [], False: []}
  for row in same:
    groups[low <= row[name] <= high].append(row["accuracy"])
  if not groups[True] or not groups[False]:
    return math.nan
  return float(np.mean(groups[True]) - np.mean(groups[False]))
