"""Shapes of curves as one number a seed, so that a t interval judges them.

The U of the k-dropout paper's figure 3, its phase transition, and how much a
setting matters: the slope a doubling.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.judge import statistics


def u_shape(accuracies: Float[np.ndarray, "S n"]) -> Float[np.ndarray, "S"]:
  """Returns first and last sixth minus the middle, one number a seed.

  The k-dropout paper, figure 3: positive where the subnets trained first and
  last are better than those between. A sixth is at least one subnet.

  Args:
    accuracies: [S, n], final accuracy of each subnet by its index, n >= 3.

  Raises:
    ValueError: fewer than three subnets.
  """
  first, last = arms(accuracies)
  return (first + last) / 2  # The ends are equally many.


def arms(
  accuracies: Float[np.ndarray, "S n"],
) -> tuple[Float[np.ndarray, "S"], Float[np.ndarray, "S"]]:
  """Returns the two arms of the U apart, each minus the middle.

  Primacy, the first sixth minus the middle, and recency, the last sixth minus
  it, one number a seed each.

  Args:
    accuracies: [S, n], final accuracy of each subnet by its index, n >= 3.

  Raises:
    ValueError: fewer than three subnets.
  """
  values = np.asarray(accuracies, np.float64)
  num_subnets = values.shape[-1]
  if values.ndim != 2 or num_subnets < 3:
    raise ValueError(
      f"accuracies must be [S, n] with n >= 3, got shape {values.shape}"
    )
  sixth = max(1, num_subnets // 6)
  middle = values[:, sixth:-sixth].mean(axis=1)
  first, last = values[:, :sixth], values[:, -sixth:]
  return first.mean(axis=1) - middle, last.mean(axis=1) - middle


def slope_per_doubling(
  settings: Float[np.ndarray, "n"], values: Float[np.ndarray, "S n"]
) -> Float[np.ndarray, "S"]:
  """Returns how much a value grows a doubling of the setting, per seed.

  The least-squares slope of each seed's values against log2 of the setting.

  Args:
    settings: [n], positive, at least two different ones.
    values: [S, n].

  Raises:
    ValueError: shapes differ, or a setting is not positive or alone.
  """
  x, y = np.asarray(settings, np.float64), np.asarray(values, np.float64)
  if y.ndim != 2 or y.shape[1:] != x.shape:
    raise ValueError(
      f"values must be [S, {x.size}], one a setting, got shape {y.shape}"
    )
  if (x <= 0).any() or np.unique(x).size < 2:
    raise ValueError(f"settings must be > 0 and at least two, got {x.tolist()}")
  centred = np.log2(x) - np.log2(x).mean()
  return y @ centred / (centred @ centred)


class Transition(NamedTuple):
  """The smallest k that falls behind, and where a bootstrap puts it.

  Attributes:
    k: by the means over all seeds; infinity where none falls behind.
    low: lower end of the 95 % percentile interval.
    high: upper end.
    found: share of the resamples in which some k falls behind.
  """

  k: float
  low: float
  high: float
  found: float


def transition(
  ks: Float[np.ndarray, "n"],
  accuracies: Float[np.ndarray, "S n"],
  standard: Float[np.ndarray, "S"],
  *,
  drop: float = 0.01,
  num_resamples: int = 2000,
) -> Transition:
  """Finds the smallest k whose mean is over `drop` below standard dropout's.

  Args:
    ks: [n], in any order.
    accuracies: [S, n].
    standard: [S], of the same seeds.
    drop: one point, by the rule.
    num_resamples: of the bootstrap over seeds.

  Raises:
    ValueError: shapes differ.
  """
  ks = np.asarray(ks, np.float64)
  gaps = np.asarray(standard)[:, None] - np.asarray(accuracies)
  if gaps.shape != (np.size(standard), ks.size):
    raise ValueError(
      f"accuracies must be [{np.size(standard)}, {ks.size}], seeds by ks, got"
      f" shape {np.shape(accuracies)}"
    )
  order = np.argsort(ks)
  ks, gaps = np.append(ks[order], np.inf), gaps[:, order]

  def first(seeds):
    behind = np.append(gaps[seeds].mean(axis=0) > drop, True)
    return ks[np.argmax(behind)]

  random = np.random.default_rng(statistics.BOOTSTRAP_SEED)
  draws = random.integers(len(gaps), size=(num_resamples, len(gaps)))
  found = np.sort([first(seeds) for seeds in draws])
  # Not interpolated: infinity is among the values, and every end a real k.
  low = found[math.floor(0.025 * (num_resamples - 1))]
  high = found[math.ceil(0.975 * (num_resamples - 1))]
  return Transition(
    float(first(np.arange(len(gaps)))),
    float(low),
    float(high),
    float(np.isfinite(found).mean()),
  )
