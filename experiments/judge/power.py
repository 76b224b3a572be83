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
  low, high = 0.0, sd
  while power(high, sd, num_seeds) < power_wanted:
    high *= 2
  while high - low > 1e-6 * sd:
    middle = (low + high) / 2
    if power(middle, sd, num_seeds) < power_wanted:
      low = middle
    else:
      high = middle
  return high


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


def _check_power(power_wanted: float) -> None:
  if not 0 < power_wanted < 1:
    raise ValueError(f"power_wanted must be in (0, 1), got {power_wanted}")
