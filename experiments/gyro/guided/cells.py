"""Cells of guided scheduling and of what it is compared with, and their rows.

Equal Sigma and tau for random, consecutive and guided scheduling, on the gyro
grid's network of the same scale.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import networks
from experiments.cells import sizes
from experiments.gyro.grid import cells as grid_cells
from experiments.report import rows as rows_lib
from experiments.run import config as config_lib
from kdropout_jax.masks import diagnostics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(sizes.Size):
  """A scale's values.

  Attributes:
    pools: pairs of Sigma and tau.
    temperatures: of guided scheduling, in nats.
    num_rows: test images that single subnets are evaluated on.
  """

  pools: tuple[tuple[int, int], ...]
  temperatures: tuple[float, ...]
  num_rows: int


SIZES = {
  "cpu": Size(
    name="cpu",
    seeds=5,
    pools=((256, 16),),
    temperatures=(0.03, 0.1),
    num_rows=5000,
  ),
  "smoke": Size(
    name="smoke",
    seeds=2,
    max_members=64,
    pools=((16, 4),),
    temperatures=(0.1,),
    num_rows=100,
  ),
}


def methods(size: Size) -> list[dict[str, Any]]:
  """Returns the fields of each method, in the table's order."""
  found: list[dict[str, Any]] = [dict(method="none"), dict(method="standard")]
  for total, tau in size.pools:
    pool = dict(total=total, concurrent=tau)
    found += [
      dict(method="gyro", scheduling=name, **pool)
      for name in ("random", "consecutive")
    ]
    found += [
      dict(method="guided", temperature=value, **pool)
      for value in size.temperatures
    ]
  return found


def cells(size: Size, fields: dict[str, Any]) -> list[config_lib.RunConfig]:
  """Returns a method's cells, one a seed, with snapshots of their end."""
  grid = grid_cells.SIZES[size.name]
  (label,) = grid.models
  common = grid.common(label) | fields
  # Every dataset here has full batches of its own; the last step is kept.
  num_train = common["num_train"]
  num_steps = common["epochs"] * (num_train // common["batch_size"])
  return [
    config_lib.RunConfig(**common, snapshot_steps=(num_steps,), seed=seed)
    for seed in range(size.seeds)
  ]


def follow(
  store: experiment.Store, size: Size, fields: dict[str, Any]
) -> tuple[list[rows_lib.Row], list[Bool[np.ndarray, "N"]]]:
  """Trains a method's cells; a row a seed, in points, and its test hits."""
  run = finished.of(store, cells(size, fields))
  images = run.nets.split("test", size.num_rows)
  rows = []
  for cell, result in zip(run.cells, run.results):
    row = fields | {
      "seed": cell.seed,
      "accuracy": 100 * result["test_accuracy"][0],
      "num_subnets": result["num_subnets"],
    }
    if "total" in fields:
      ids = np.arange(cell.total)
      accuracies = 100 * run.nets.subnet_accuracies(
        run.params(cell), cell.seed, ids, *images
      )
      row |= {"subnets": accuracies.tolist(), **spread(accuracies)}
      row["subnet_steps"] = steps_of(cell, result).tolist()
    rows.append(row)
  return rows, [run.hits(cell) for cell in run.cells]


def steps_of(
  cell: config_lib.RunConfig, result: dict[str, Any]
) -> Int[np.ndarray, "Sigma"]:
  """Returns how many steps each subnet trained."""
  if "subnet_steps" in result:
    return np.asarray(result["subnet_steps"][0])
  num_steps = result["steps"]
  schedule: Any = cell.schedule(num_steps)
  key = networks.run_key(cell.seed)
  ids, counts = diagnostics.realised_reuse(
    key, schedule, num_steps, cell.batch_size
  )
  found = np.zeros(cell.total, np.int64)
  found[ids] = counts
  return found


def spread(accuracies: Float[np.ndarray, "n"]) -> dict[str, float]:
  """Returns mean and deviation of subnets, and the means of both ends.

  >>> found = spread(np.array([1.0, 2.0, 3.0, 4.0]))
  >>> found["weakest_subnets"], found["subnet_mean"]
  (1.0, 2.5)
  """
  ranked = np.sort(accuracies)
  end = max(1, len(ranked) // 20)
  return {
    "subnet_mean": float(ranked.mean()),
    "subnet_deviation": float(ranked.std(ddof=1)),
    "weakest_subnets": float(ranked[:end].mean()),
    "strongest_subnets": float(ranked[-end:].mean()),
  }
