"""What the runs showed and nobody had claimed, as contrasts a machine judges.

Written down after the runs that they are judged on first, which their source
says: those verdicts describe, and wait for runs on fresh seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.judge.contrasts import Claim
from experiments.report import rows as rows_lib

SOURCE = "after the runs"
LOW = 1 / 300 + 1e-9
"""Largest share of the run, k / T, that counts as a low k."""

_STANDARD = {"method": "standard"}
_POOL_OF_50 = {"method": "pooled", "pool_size": 50}
_FRESH_SEEDS = ("seed", ">=", 5)
_LONG_WINDOWS = ("k_over_T", ">=", 1 / 30 - 1e-9)


def _seen(name: str, text: str, measure: str, **fields: Any) -> Claim:
  return Claim(
    name=name,
    paper="k-dropout",
    source=SOURCE,
    text=text,
    measure=measure,
    **fields,
  )


def _subjects(name: str, text: str, measure: str, a: str, b: str) -> Claim:
  return _seen(name, text, measure, a={"subject": a}, b={"subject": b})


CLAIMS = (
  _seen(
    "low_k_equals_standard",
    "at low k sequential k-dropout equals standard dropout",
    "accuracy",
    a={"method": "sequential"},
    b=_STANDARD,
    where=(("k_over_T", "<=", LOW),),
    settings=("k_over_T", "m"),
    average=("m",),
    same=("shuffle",),
    rule="equivalent",
    margin=1.0,
  ),
  _seen(
    "higher_rate_helps_pools",
    "a pool of 50 is better at rate .7 than at .5",
    "accuracy",
    a=_POOL_OF_50 | {"rate": 0.7},
    b=_POOL_OF_50 | {"rate": 0.5},
    same=("m",),
  ),
  _seen(
    "pool_at_higher_rate_equals_standard",
    "a pool of 50 at rate .7 equals standard dropout at .5",
    "accuracy",
    a=_POOL_OF_50 | {"rate": 0.7},
    b=_STANDARD | {"rate": 0.5},
    rule="equivalent",
    margin=1.0,
  ),
  _seen(
    "pool_equals_standard_at_higher_rate",
    "a pool of 50 equals standard dropout where both drop .7",
    "accuracy",
    a=_POOL_OF_50 | {"rate": 0.7},
    b=_STANDARD | {"rate": 0.7},
    rule="equivalent",
    margin=1.0,
  ),
  _seen(
    "pool_at_its_chosen_rate_equals_standard",
    "a pool of 50 equals standard dropout, each at the rate that held-out"
    " images chose, on fresh seeds",
    "accuracy_at_chosen_rate",
    a=_POOL_OF_50,
    b=_STANDARD,
    rule="equivalent",
    margin=1.0,
  ),
  _seen(
    "reuse_costs_log_loss",
    "a fixed pool of subnets has a higher log loss than standard dropout",
    "test_loss",
    a={"method": "pooled"},
    b=_STANDARD,
    settings=("pool_size",),
    same=("shuffle",),
  ),
  _subjects(
    "pool_costs_log_loss",
    "a network trained on 50 subnets has a higher log loss than standard"
    " dropout's",
    "nll",
    "pooled_network",
    "standard_network",
  ),
  _subjects(
    "pool_costs_calibration",
    "a network trained on 50 subnets is worse calibrated (ECE, points)",
    "ece_points",
    "pooled_network",
    "standard_network",
  ),
  _subjects(
    "independent_ensemble_beats_pooled_ensemble",
    "the independent ensemble beats the ensemble of a pool's subnets",
    "accuracy",
    "independent_ensemble",
    "pooled_ensemble",
  ),
  _subjects(
    "independent_ensemble_beats_random_ensemble",
    "the independent ensemble beats random subnets of standard dropout",
    "accuracy",
    "independent_ensemble",
    "standard_random_ensemble",
  ),
  *(
    _seen(
      f"{arm}_with_{optimizer}",
      f"with {words} subnets trained {which} end better than those between, on"
      " seeds that did not suggest it",
      arm,
      a={"method": "sequential", "m": 1, "optimizer": optimizer},
      where=(_LONG_WINDOWS, _FRESH_SEEDS),
      settings=("k_over_T",),
      average=("k_over_T",),
    )
    for optimizer, words in (
      ("adam", "Adam"),
      ("sgd", "SGD"),
      ("rmsprop", "RMSProp"),
    )
    for arm, which in (("primacy", "first"), ("recency", "last"))
  ),
  _seen(
    "subnets_do_not_oppose",
    "gradients of the subnets of a step do not oppose each other: mean cosine"
    " above -.01 (in hundredths)",
    "cosine_percent",
    a={},
    settings=("k_over_T", "m", "step"),
    average=("step",),
    rule="not_worse",
    margin=1.0,
  ),
)

ARMS_BY_OPTIMIZER = tuple(
  claim.name for claim in CLAIMS if claim.measure in ("primacy", "recency")
)
"""Names of the claims on figure 3's arms, an optimizer at a time."""


def ensembles(numbers: Mapping[str, Any]) -> list[rows_lib.Row]:
  """Returns the rows of `experiments.ensembles` with scores of networks."""
  own = numbers["numbers"]
  scores = {
    (name, seed): values
    for seed, networks in zip(numbers["seeds"], own["whole"])
    for name, values in networks.items()
  }
  found = []
  for row in own["rows"]:
    known = scores.get((row["subject"], row["seed"]))
    more = {}
    if known is not None:
      more = {"nll": known["nll"], "ece_points": 100 * known["ece"]}
    found.append({**row, **more})
  return found


def interference(numbers: Mapping[str, Any]) -> list[rows_lib.Row]:
  """Returns the rows of `experiments.interference`, cosines in hundredths."""
  return opposed(numbers["numbers"]["rows"])


def opposed(rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns the rows with their cosines in hundredths."""
  return [{**row, "cosine_percent": 100 * row["cosine"]} for row in rows]
