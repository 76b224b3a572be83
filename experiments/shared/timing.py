"""Fair timings: candidates take turns in one process; ratios and spreads.

Single calls measure the dispatch, and a machine drifts: so each candidate is
one compiled program of many steps, all are called in turn, round after round,
and a ratio is taken within a round before the median over rounds.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds of one candidate in each round.

  Attributes:
    seconds: float64 [rounds], per call.
  """

  seconds: np.ndarray

  @property
  def median(self) -> float:
    """Median seconds per call."""
    return float(np.median(self.seconds))

  def speedup_over(self, other: "Timing") -> tuple[float, float, float]:
    """Returns median, lowest and highest of other / self, round by round.

    A value of 2 says that this candidate takes half the other's time.
    """
    ratios = other.seconds / self.seconds
    return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def interleave(
  candidates: Mapping[str, Callable[[], object]],
  rounds: int = 5,
  on_round: Callable[[int], None] | None = None,
) -> dict[str, Timing]:
  """Times candidates in turn; the first, untimed round compiles.

  Args:
    candidates: {name: function of nothing that returns arrays}.
    rounds: timed rounds.
    on_round: called with the number of rounds done, for a progress bar.

  Returns:
    {name: `Timing`}, in the order of `candidates`.
  """
  for run in candidates.values():
    jax.block_until_ready(run())
  seconds = {name: [] for name in candidates}
  for done in range(rounds):
    for name, run in candidates.items():
      start = time.perf_counter()
      jax.block_until_ready(run())
      seconds[name].append(time.perf_counter() - start)
    if on_round is not None:
      on_round(done + 1)
  return {name: Timing(np.array(s)) for name, s in seconds.items()}
