"""The claims of section 3.2, on subnets during and after training."""

import numpy as np

from experiments.judge import curves
from experiments.judge.contrasts import Claim
from experiments.k_dropout import paper

_PAPER = "k-dropout"
_SEQUENTIAL = {"method": "sequential"}


def _smallest_arm(arm: int) -> float:
  """Returns the smallest primacy (0) or recency (1) of the paper's runs."""
  arms = [
    float(curves.arms(np.array([values]))[arm][0])
    for values in paper.FIGURE_3.values()
  ]
  return round(min(arms), 1)


_LARGE_WINDOWS = (("k_over_T", ">=", 1 / 60 - 1e-9), ("k_over_T", "<=", 0.17))

_FIGURE_3_WINDOWS = (
  ("k_over_T", ">=", 1 / 12 - 1e-9),
  ("k_over_T", "<=", 1 / 6 + 1e-9),
)

_ACCURACY = (
  *(
    Claim(
      name=name,
      paper=_PAPER,
      source="figure 3",
      text=f"subnets trained {which} end better than those between",
      measure=name,
      a=_SEQUENTIAL | {"m": 1, "optimizer": "adam"},
      where=_FIGURE_3_WINDOWS,
      settings=("k_over_T",),
      paper_difference=_smallest_arm(arm),
    )
    for arm, (name, which) in enumerate(
      (("primacy", "first"), ("recency", "last"))
    )
  ),
  Claim(
    name="first_subnet_keeps",
    paper=_PAPER,
    source="section 3.2",
    text="the first subnet keeps the accuracy of its window's end",
    measure="retention_of_first",
    a=_SEQUENTIAL | {"m": 1},
    where=_LARGE_WINDOWS,
    settings=("k_over_T",),
    rule="not_worse",
    margin=1.0,
  ),
  Claim(
    name="later_subnets_lose",
    paper=_PAPER,
    source="section 3.2",
    text="later subnets, but for the last, lose accuracy after their window",
    measure="loss_of_later",
    a=_SEQUENTIAL | {"m": 1},
    where=_LARGE_WINDOWS,
    settings=("k_over_T",),
  ),
  Claim(
    name="several_first_keep",
    paper=_PAPER,
    source="section 3.2",
    text="at k = T / 30 the first three subnets keep their accuracy",
    measure="retention_of_first_three",
    a=_SEQUENTIAL | {"m": 1, "k_over_T": 1 / 30},
    rule="not_worse",
    margin=1.0,
  ),
  Claim(
    name="trained_minus_random_grows",
    paper=_PAPER,
    source="figure 5",
    text="trained minus random subnets grows with k, a doubling",
    measure="slope_of_trained_minus_random",
    a=_SEQUENTIAL | {"m": 1},
    paper_difference=1.1,
  ),
  Claim(
    name="trained_stay_flat",
    paper=_PAPER,
    source="figure 5",
    text="the accuracy of trained subnets does not fall with k, a doubling",
    measure="slope_of_trained",
    a=_SEQUENTIAL | {"m": 1},
    rule="equivalent",
    margin=0.5,
  ),
)

_CONNECTIVITY = (
  *(
    Claim(
      name=name,
      paper=_PAPER,
      source="section 3.2, hypothesis",
      text="the first subnet stays linearly connected: error rises by less than"
      f" 2 points over {words}",
      measure=measure,
      reverse=True,
      a=_SEQUENTIAL | {"m": 1},
      where=_LARGE_WINDOWS,
      settings=("k_over_T",),
      rule="not_worse",
      margin=2.0,  # Frankle et al. 2020 call less than 2 % of error stable
    )
    for name, words, measure in (
      (
        "early_subnets_stay_connected",
        "the straight line of the ends (Entezari et al. 2022)",
        "error_barrier_of_first",
      ),
      (
        "early_subnets_stay_stable",
        "the mean of the ends (Frankle et al. 2020)",
        "error_over_mean_of_first",
      ),
    )
  ),
  Claim(
    name="independent_runs_are_not_connected",
    paper=_PAPER,
    source="positive control",
    text="networks of two independent runs have a barrier of over 2 points, so"
    " that the measure can see one",
    measure="control_barrier_over_2",
    a={"method": "standard"},
  ),
)

CLAIMS = (*_ACCURACY, *_CONNECTIVITY)

OF_ACCURACY = tuple(claim.name for claim in _ACCURACY)
OF_CONNECTIVITY = tuple(claim.name for claim in _CONNECTIVITY)
"""Names of the claims, by the experiment that tells them."""
