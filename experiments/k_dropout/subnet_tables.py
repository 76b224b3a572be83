"""Tables of how many subnets a run trains, and for how long each.

Table 1 of the k-dropout paper, with the corrected P = T m / k (the paper's
P = k m / T has the wrong dimension), and what a pool's draws really reach.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax

import kdropout_jax as kd
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import tables
from kdropout_jax.masks import diagnostics


@dataclasses.dataclass(frozen=True)
class Run:
  """The length of a run; a last partial batch of an epoch is dropped.

  Raises:
    ValueError: a number below 1, or a batch larger than the training set.
  """

  num_train: int
  batch_size: int
  epochs: int

  def __post_init__(self):
    for field in dataclasses.fields(self):
      check_positive(field.name, getattr(self, field.name))
    if self.batch_size > self.num_train:
      raise ValueError(
        f"batch_size must be <= num_train, got {self.batch_size} >"
        f" {self.num_train}"
      )

  @property
  def steps_per_epoch(self) -> int:
    """Whole batches in the training set."""
    return self.num_train // self.batch_size

  @property
  def num_steps(self) -> int:
    """T."""
    return self.steps_per_epoch * self.epochs


def check_positive(name: str, value: int) -> None:
  """Raises a ValueError unless `value` >= 1."""
  if value < 1:
    raise ValueError(f"{name} must be >= 1, got {value}")


def parse(
  name: str, values: Sequence[str] | None, default: Sequence[int]
) -> list[int]:
  """Returns a flag's list of positive integers; the default where unset.

  Raises:
    ValueError: a value is no integer >= 1.
  """
  if values is None:
    return list(default)
  try:
    numbers = [int(value) for value in values]
  except ValueError:
    raise ValueError(
      f"{name} must be a list of integers, got {','.join(values)}"
    ) from None
  for number in numbers:
    check_positive(name, number)
  return numbers


def sequential_row(run: Run, k: int, m: int) -> rows_lib.Row:
  """Returns table 1's figures for one k and m."""
  check_positive("k", k)
  if k > run.num_steps:
    raise ValueError(f"k must be <= {run.num_steps} steps of the run, got {k}")
  subnets = kd.Sequential(k=k, m=m).num_subnets(run.num_steps, run.batch_size)
  return {
    "k": k,
    "m": m,
    "epochs_per_subnet": k / run.steps_per_epoch,
    "formula": run.num_steps * m / k,
    # A last window that is short still brings m new subnets.
    "subnets": subnets,
    "fewer_than_standard": run.num_steps * run.batch_size / subnets,
  }


def pooled_row(run: Run, pool_size: int, m: int, seed: int) -> rows_lib.Row:
  """Counts the distinct subnets that a pool's draws reach, and their steps."""
  schedule = kd.Pooled(pool_size=pool_size, m=m)
  num_steps = run.num_steps
  ids, steps = diagnostics.realised_reuse(
    jax.random.key(seed), schedule, num_steps, run.batch_size
  )
  return {
    "pool_size": pool_size,
    "m": m,
    "k": num_steps * m / pool_size,
    "at_most": min(pool_size, num_steps * m),
    "expected": expected_distinct(pool_size, num_steps * m),
    "realised": len(ids),
    # With replacement a subnet can be drawn twice in one step.
    "expected_steps": num_steps * -math.expm1(m * _log_missed(pool_size)),
    "realised_steps": float(steps.sum()) / pool_size,
  }


def expected_distinct(pool_size: int, num_draws: int) -> float:
  """Returns how many of a pool are drawn at least once, on average."""
  return pool_size * -math.expm1(num_draws * _log_missed(pool_size))


SEQUENTIAL: dict[str, columns.Column] = {
  "k": columns.setting("k"),
  "m": columns.setting("m"),
  "epochs per subnet": columns.setting("epochs_per_subnet", "{:.2f}"),
  "T m / k": columns.setting("formula", "{:,.1f}"),
  "subnets trained": columns.setting("subnets", "{:,}"),
  "times fewer than standard": columns.setting(
    "fewer_than_standard", "{:,.0f}"
  ),
}

POOLED: dict[str, columns.Column] = {
  "pool": columns.setting("pool_size", "{:,}"),
  "m": columns.setting("m"),
  "k = T m / P": columns.setting("k", "{:,.4g}"),
  "at most": columns.setting("at_most", "{:,}"),
  "expected": columns.setting("expected", "{:,.1f}"),
  "realised": columns.setting("realised", "{:,}"),
  "steps per subnet, expected": columns.setting("expected_steps", "{:,.4g}"),
  "steps per subnet, realised": columns.setting("realised_steps", "{:,.4g}"),
}


def page(
  sequential: Sequence[rows_lib.Row], pooled: Sequence[rows_lib.Row]
) -> str:
  """Returns both tables."""
  return "\n\n".join(
    [
      "Sequential k-dropout (table 1): P = T m / k",
      tables.text(*columns.table(sequential, ("k", "m"), SEQUENTIAL)),
      "Pooled k-dropout: what the draws, with replacement, reach of a pool",
      tables.text(*columns.table(pooled, ("pool_size", "m"), POOLED)),
    ]
  )


def panel(pooled: Sequence[rows_lib.Row]) -> figures.Panel:
  """Returns realised against nominal pool sizes."""
  groups = sorted(rows_lib.group(pooled, "m").items())
  sizes = sorted({row["pool_size"] for row in pooled})
  return figures.Panel(
    x_label="pool size",
    y_label="distinct subnets trained",
    log_x=True,
    log_y=True,
    lines={
      f"m = {m}": rows_lib.curve(same, "pool_size", "realised")
      for (m,), same in groups
    },
    paper={"the whole pool": (sizes, sizes)},
  )


def _log_missed(pool_size: int) -> float:
  """Log of the chance that one draw misses a given subnet."""
  return math.log1p(-1 / pool_size) if pool_size > 1 else -math.inf
