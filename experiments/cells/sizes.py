"""`Size`: how large an experiment is; `Scale`: what its runs share, too."""

import dataclasses
from typing import Any

from experiments.run import config as config_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
  """One of an experiment's sizes, to which it adds what it needs.

  Attributes:
    name: paper, cpu or smoke.
    seeds: seeds of a cell.
    max_members: runs that train side by side in one program, at most.
  """

  name: str
  seeds: int
  max_members: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale(Size):
  """What the experiments of a paper share at one size; a paper adds its own.

  Attributes:
    common: fields of `RunConfig` that all its runs share.
    batches: B / batch_size, steps of an epoch.
    num_points: steps at which subnets are evaluated during a run.
  """

  common: dict[str, Any]
  batches: int
  num_points: int

  @property
  def num_steps(self) -> int:
    """Steps T of a run."""
    return self.batches * self.common["epochs"]

  @property
  def points(self) -> tuple[int, ...]:
    """Steps at which subnets are looked at during a run."""
    every = max(1, self.num_steps // self.num_points)
    return tuple(range(every, self.num_steps + 1, every))

  def config(self, **fields: Any) -> config_lib.RunConfig:
    """Returns a run of this scale with `fields` of its own."""
    # One evaluation, at the end: a sweep reads nothing before it.
    steps: dict[str, Any] = {
      "eval_every": self.num_steps,
      "checkpoint_every": self.num_steps,
    }
    # Where a checkpoint may be: one is due after some minutes (`sweeps`).
    if self.name == "paper":
      steps["checkpoint_every"] = self.num_steps // 30
    elif self.name == "cpu":
      steps["checkpoint_every"] = self.num_steps // 2
    return config_lib.RunConfig(**{**steps, **self.common, **fields})
