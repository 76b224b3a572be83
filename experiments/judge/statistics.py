"""The statistics behind a verdict: intervals, tests, Holm, the bootstrap.

All take paired differences, one a seed: two arms of a seed share their
initialisation, data subset and batch order. The methods are scipy's and
statsmodels', but for the crossed bootstrap, which neither has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

BOOTSTRAP_SEED = 0  # the interval of a data set is one number, not a draw


class Interval(NamedTuple):
  """An estimate and the interval around it."""

  estimate: float
  low: float
  high: float


def t_interval(
  differences: Float[np.ndarray, "S"], level: float = 0.95
) -> Interval:
  """Returns the mean and its two-sided Student's t interval.

  Args:
    differences: [S], one a seed.
    level: of confidence.

  Raises:
    ValueError: fewer than two seeds, or a difference that is not finite.
  """
  values = _check_differences(differences)
  if not 0 < level < 1:
    raise ValueError(f"level must be in (0, 1), got {level}")
  mean, error = float(values.mean()), stats.sem(values)
  if error == 0.0:  # all seeds agree to the last bit
    return Interval(mean, mean, mean)
  low, high = stats.t.interval(level, values.size - 1, mean, error)
  return Interval(mean, float(low), float(high))


def p_above(
  differences: Float[np.ndarray, "S"], threshold: float = 0.0
) -> float:
  """Returns the one-sided p value against "the mean is at most `threshold`".

  It is below .025 exactly where the 95 % t interval lies above.
  """
  values = _check_differences(differences)
  if stats.sem(values) == 0.0:
    return 0.0 if values.mean() > threshold else 1.0
  _, p = stats.ttest_1samp(values, threshold, alternative="greater")
  return float(p)  # pyright: ignore[reportArgumentType]


def p_equivalent(differences: Float[np.ndarray, "S"], margin: float) -> float:
  """Returns the p value of two one-sided tests (TOST; Schuirmann 1987).

  It is below .05 exactly where the 90 % t interval lies inside
  ``(-margin, margin)``.

  Raises:
    ValueError: the margin is not positive.
  """
  if not margin > 0:
    raise ValueError(f"margin must be > 0, got {margin}")
  values = _check_differences(differences)
  return max(p_above(values, -margin), p_above(-values, -margin))


def holm(p_values: Sequence[float]) -> Float[np.ndarray, "n"]:
  """Returns Holm's adjusted p values (Holm 1979), in the given order.

  The i-th smallest of n, from 0, is multiplied by n - i; none is below a
  smaller one's, none above 1. By hand: statsmodels' collects all garbage of
  the process at each call, up to a second.

  Raises:
    ValueError: a value outside [0, 1].
  """
  p = np.asarray(p_values, np.float64)
  if p.size and not ((p >= 0) & (p <= 1)).all():
    raise ValueError(f"p_values must be in [0, 1], got {p.tolist()}")
  order = np.argsort(p, kind="stable")
  scaled = np.minimum(p[order] * (p.size - np.arange(p.size)), 1.0)
  adjusted = np.empty_like(p)
  adjusted[order] = np.maximum.accumulate(scaled)
  return adjusted


def bootstrap(
  differences: Float[np.ndarray, "S N"],
  level: float = 0.95,
  num_resamples: int = 2000,
) -> Interval:
  """Returns the mean and a percentile interval over seeds and test images.

  Both are drawn again with replacement, crossed: all seeds of a resample see
  the same images, as they do in truth.

  Args:
    differences: [S, N]; for accuracies, the difference of two arms' hits
      (-1, 0 or 1) on each image.
    level: of confidence.
    num_resamples: how many.

  Raises:
    ValueError: not two axes, or an empty one.
  """
  values = np.asarray(differences, np.float64)
  if values.ndim != 2 or 0 in values.shape:
    raise ValueError(
      f"differences must be [seeds, images], got shape {values.shape}"
    )
  random = np.random.default_rng(BOOTSTRAP_SEED)
  num_seeds, num_images = values.shape
  means = np.empty(num_resamples)
  for i in range(num_resamples):
    images = random.multinomial(num_images, np.full(num_images, 1 / num_images))
    seeds = random.integers(num_seeds, size=num_seeds)
    means[i] = (values @ images)[seeds].mean() / num_images
  tail = (1 - level) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return Interval(float(values.mean()), float(low), float(high))


def _check_differences(differences) -> np.ndarray:
  values = np.asarray(differences, np.float64)
  if values.ndim != 1 or values.size < 2:
    raise ValueError(
      f"differences must be [S] with S >= 2 seeds, got shape {values.shape}"
    )
  if not np.isfinite(values).all():
    raise ValueError(f"differences must be finite, got {values.tolist()}")
  return values
