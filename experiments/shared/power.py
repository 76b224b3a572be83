"""How many seeds a difference needs before a verdict can be told."""

import math

from scipy import stats


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
  degrees = num_seeds - 1
  critical = stats.t.ppf((1 + level) / 2, degrees)
  shift = difference / sd * math.sqrt(num_seeds)
  return float(stats.nct.sf(critical, degrees, shift))


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
  if not 0 < power_wanted < 1:
    raise ValueError(f"power_wanted must be in (0, 1), got {power_wanted}")
  high = 2
  while power(difference, sd, high) < power_wanted:
    high *= 2
  low = high // 2
  while high - low > 1:
    middle = (low + high) // 2
    if power(difference, sd, middle) < power_wanted:
      low = middle
    else:
      high = middle
  return high
