"""How many seeds a difference needs before a verdict can be told."""

import math
from typing import Any

import numpy as np

_TAIL = 0.025  # of the 95 % interval


def power(
  difference: float, sd: float, num_seeds: int, level: float = 0.95
) -> float:
  """Returns the chance that the t interval of n paired seeds lies above 0.

  Args:
    difference: the true mean difference, > 0.
    sd: standard deviation of the paired differences over seeds.
    num_seeds: n.
    level: of the interval.
  """
  if num_seeds < 2:
    return 0.0
  tail = (1 - level) / 2
  return float(
    _tests().power(difference / sd, num_seeds, tail, alternative="larger")
  )


def smallest_difference(
  sd: float, num_seeds: int, power_wanted: float = 0.9
) -> float:
  """Returns the smallest difference that n paired seeds tell with that power.

  Args:
    sd: standard deviation of the paired differences over seeds.
    num_seeds: n, at least 2.
    power_wanted: the chance.

  Raises:
    ValueError: a deviation that is not positive, too few seeds, or a power
      outside (0, 1).

  >>> f"{smallest_difference(sd=0.25, num_seeds=10):.2f}"
  '0.29'
  """
  if not (sd > 0 and num_seeds >= 2):
    raise ValueError(
      f"sd must be > 0 and num_seeds >= 2, got {sd} and {num_seeds}"
    )
  _check_power(power_wanted)
  return sd * _solve(nobs=num_seeds, power=power_wanted)


def seeds_needed(
  difference: float, sd: float, power_wanted: float = 0.9
) -> int:
  """Returns the smallest number of paired seeds with that power.

  Raises:
    ValueError: a difference or deviation that is not positive, or a power
      outside (0, 1).
  """
  if not (difference > 0 and sd > 0):
    raise ValueError(
      f"difference and sd must be > 0, got {difference} and {sd}"
    )
  _check_power(power_wanted)
  if power(difference, sd, 2) >= power_wanted:
    return 2
  return math.ceil(_solve(effect_size=difference / sd, power=power_wanted))


def _solve(**known: float) -> float:
  """Returns what is left open: the effect's size or the number of seeds."""
  found = _tests().solve_power(alpha=_TAIL, alternative="larger", **known)
  return float(np.squeeze(found))


def _tests() -> Any:
  # Imported where it is used: statsmodels takes seconds.
  from statsmodels.stats import power as of_tests

  return of_tests.TTestPower()


def _check_power(power_wanted: float) -> None:
  if not 0 < power_wanted < 1:
    raise ValueError(f"power_wanted must be in (0, 1), got {power_wanted}")
