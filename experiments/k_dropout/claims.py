"""The claims of the k-dropout paper, as contrasts fixed before any run.

Differences are in points of accuracy (100 times a share) unless `measure`
says otherwise. A row of a sweep has the fields of its cell (method, k, m,
pool_size, shuffle, ...), "k_over_T" (k over the number of steps), "seed", and
"accuracy". Values that are not a plain accuracy are computed for each seed
and go into rows of their own, named by `measure`. Paper differences are those
of `figure 1` to `figure 7`, read off; where a claim covers several settings,
the smallest of them.

What counts as low and large k, as shares of the T steps: low is at most
T / 300 (k = 97 of 29,100), large at least T / 12 (k = 2,425). A pool's size
does not scale with T, so 50 and 200 are told at any scale; k = 485 and "60
subnets" are absolute.
"""

from collections.abc import Iterable

from experiments.judge import contrasts
from experiments.judge.contrasts import Claim
from experiments.k_dropout import disjoint_claims
from experiments.k_dropout import dynamics_claims
from experiments.k_dropout import ensemble_claims
from experiments.k_dropout import future_claims
from experiments.k_dropout import image_claims
from experiments.k_dropout import paper
from experiments.k_dropout import seen

_PAPER = "k-dropout"
_LOW, _LARGE = seen.LOW, 1 / 12 - 1e-9
_SHUFFLES = ("every_epoch", "once", "rows")
_STANDARD = {"method": "standard"}
_NONE = {"method": "none"}
_POOLED = {"method": "pooled"}
_SEQUENTIAL = {"method": "sequential"}
_NONE_ACCURACY = paper.FIGURE_1_LINES["none"]
_STANDARD_ACCURACY = paper.FIGURE_1_LINES["standard"]
_AT_LARGE_K = [
  # Accuracies of one subnet at a time, and of many, of the same k.
  (paper.FIGURE_1_SEQUENTIAL[1][i], paper.FIGURE_1_SEQUENTIAL[m][i])
  for i, k in enumerate(paper.FIGURE_1_KS)
  for m in paper.FIGURE_1_SEQUENTIAL
  if k >= _LARGE * paper.FIGURE_1_KS[-1] and m >= 32
]


def _smallest(differences: Iterable[float]) -> float:
  return round(min(differences), 1)


_NO_MATTER = 0.15  # points a doubling of m: one point from 1 to 128

_POOLS = (
  Claim(
    name="pool_50_is_close",
    paper=_PAPER,
    source="section 3.1",
    text="pools of 50 and more are within 1.5 points of standard dropout",
    measure="accuracy",
    a=_POOLED,
    b=_STANDARD,
    where=(("pool_size", ">=", 50),),
    settings=("pool_size", "m"),
    average=("m",),
    same=("shuffle",),
    rule="equivalent",
    margin=1.5,
  ),
  Claim(
    name="pool_200_is_equal",
    paper=_PAPER,
    source="section 3.1",
    text="pools of 200 and more equal standard dropout",
    measure="accuracy",
    a=_POOLED,
    b=_STANDARD,
    where=(("pool_size", ">=", 200),),
    settings=("pool_size", "m"),
    average=("m",),
    same=("shuffle",),
    rule="equivalent",
    margin=1.0,
  ),
  Claim(
    name="every_pool_helps",
    paper=_PAPER,
    source="section 3.1",
    text="every pool of more than one subnet beats no dropout",
    measure="accuracy",
    a=_POOLED,
    b=_NONE,
    where=(("pool_size", ">", 1),),
    settings=("pool_size", "m"),
    average=("m",),
    same=("shuffle",),
    paper_difference=_smallest(
      value - _NONE_ACCURACY
      for row in paper.FIGURE_1_POOLED.values()
      for value in row[1:]
    ),
  ),
  Claim(
    name="m_does_not_matter_to_pools",
    paper=_PAPER,
    source="section 3.1",
    text="m has no effect on pooled k-dropout",
    measure="slope_per_doubling_of_m",
    a=_POOLED,
    where=(("pool_size", ">", 1),),  # m copies of one subnet are one
    settings=("pool_size",),
    same=("shuffle",),
    rule="equivalent",
    margin=_NO_MATTER,
  ),
)

_SEQUENTIALS = (
  Claim(
    name="sixty_subnets_suffice",
    paper=_PAPER,
    source="abstract",
    text="60 subnets, 248,000 times fewer, lose nothing to standard dropout",
    measure="accuracy",
    a=_SEQUENTIAL | {"k": 485, "m": 1},
    b=_STANDARD,
    same=("shuffle",),
    rule="equivalent",
    margin=1.0,
    absolute=True,
  ),
  Claim(
    name="large_k_falls_behind",
    paper=_PAPER,
    source="figure 1",
    text="one subnet for the whole run is below standard dropout",
    measure="accuracy",
    a=_SEQUENTIAL | {"m": 1, "k_over_T": 1.0},
    b=_STANDARD,
    reverse=True,
    same=("shuffle",),
    paper_difference=_smallest(
      [_STANDARD_ACCURACY - paper.FIGURE_1_SEQUENTIAL[1][-1]]
    ),
  ),
  Claim(
    name="transition_at_485",
    paper=_PAPER,
    source="section 3.1",
    text="the transition lies at k = 485, to a factor of 2 (m = 1)",
    measure="log2_transition_over_485",
    a=_SEQUENTIAL | {"m": 1},
    same=("shuffle",),
    rule="equivalent",
    margin=1.0,
    absolute=True,
  ),
  Claim(
    name="sequential_is_like_pooled",
    paper=_PAPER,
    source="section 3.1",
    text="sequential and pooled k-dropout are alike at equal pools (m = 1)",
    measure="accuracy_minus_pooled_at_equal_subnets",
    a=_SEQUENTIAL | {"m": 1},
    where=(("k_over_T", "<", 1),),  # k = T and P = 1 are one run
    settings=("k_over_T",),
    same=("shuffle",),
    rule="equivalent",
    margin=1.0,
  ),
  Claim(
    name="m_does_not_matter_at_low_k",
    paper=_PAPER,
    source="section 3.1",
    text="m has no effect on sequential k-dropout at low k",
    measure="slope_per_doubling_of_m",
    a=_SEQUENTIAL,
    where=(("k_over_T", "<=", _LOW),),
    settings=("k_over_T",),
    same=("shuffle",),
    rule="equivalent",
    margin=_NO_MATTER,
  ),
  *(
    Claim(
      name=f"large_m_hurts_at_large_k_{shuffle}",
      paper=_PAPER,
      source="section 3.1",
      text=f"at large k, m >= 32 is below m = 1 (batches: {shuffle})",
      measure="accuracy",
      a=_SEQUENTIAL | {"shuffle": shuffle},
      b=_SEQUENTIAL | {"m": 1},
      reverse=True,
      same=("shuffle", "k_over_T"),
      where=(("k_over_T", ">=", _LARGE), ("m", ">=", 32)),
      settings=("k_over_T", "m"),
      average=("m",),
      paper_difference=_smallest(one - many for one, many in _AT_LARGE_K),
    )
    for shuffle in _SHUFFLES
  ),
  *(
    Claim(
      name=f"large_m_is_below_none_{shuffle}",
      paper=_PAPER,
      source="section 3.1",
      text=f"at large k, m >= 32 is below no dropout (batches: {shuffle})",
      measure="accuracy",
      a=_SEQUENTIAL | {"shuffle": shuffle},
      b=_NONE,
      reverse=True,
      same=("shuffle",),
      where=(("k_over_T", ">=", _LARGE), ("m", ">=", 32)),
      settings=("k_over_T", "m"),
      average=("m",),
      paper_difference=_smallest(
        _NONE_ACCURACY - many for _, many in _AT_LARGE_K
      ),
    )
    for shuffle in _SHUFFLES
  ),
)

CLAIMS = (
  *_POOLS,
  *_SEQUENTIALS,
  *dynamics_claims.CLAIMS,
  *ensemble_claims.CLAIMS,
  *disjoint_claims.CLAIMS,
  *image_claims.CLAIMS,
  *future_claims.CLAIMS,
  *seen.CLAIMS,
)

_BY_ORDER = (
  *(f"large_m_hurts_at_large_k_{order}" for order in _SHUFFLES),
  *(f"large_m_is_below_none_{order}" for order in _SHUFFLES),
)
_POOL_NAMES = ("pool_50_is_close", "pool_200_is_equal", "every_pool_helps")

TOLD = {
  "sequential": (
    "sixty_subnets_suffice",
    "large_k_falls_behind",
    "transition_at_485",
    "m_does_not_matter_at_low_k",
    *_BY_ORDER,
    "low_k_equals_standard",
  ),
  "pooled": (
    *_POOL_NAMES,
    "m_does_not_matter_to_pools",
    "sequential_is_like_pooled",
  ),
  "rate": (
    "higher_rate_helps_pools",
    "pool_at_higher_rate_equals_standard",
    "pool_equals_standard_at_higher_rate",
  ),
  "chosen_rate": ("pool_at_its_chosen_rate_equals_standard",),
  "subnet_dynamics": (
    *dynamics_claims.OF_ACCURACY,
    *seen.ARMS_BY_OPTIMIZER,
  ),
  "connectivity": dynamics_claims.OF_CONNECTIVITY,
  "ensembles": (
    *(claim.name for claim in ensemble_claims.CLAIMS),
    "pool_costs_log_loss",
    "pool_costs_calibration",
    "independent_ensemble_beats_pooled_ensemble",
    "independent_ensemble_beats_random_ensemble",
  ),
  "disjoint": tuple(claim.name for claim in disjoint_claims.CLAIMS),
  "image_counts": tuple(claim.name for claim in image_claims.CLAIMS),
  "mc_dropout": tuple(claim.name for claim in future_claims.MC),
  "tickets": tuple(claim.name for claim in future_claims.TICKETS),
  "interference": ("subnets_do_not_oppose",),
  # Not the transition: those cells start at k = 485.
  "paper_scale": (
    "sixty_subnets_suffice",
    "large_k_falls_behind",
    *_BY_ORDER,
    *_POOL_NAMES,
    "reuse_costs_log_loss",
  ),
}
"""{experiment: names of the claims that its runs tell}."""


def named(*names: str) -> list[Claim]:
  """Returns the claims called `names`."""
  return contrasts.select(CLAIMS, names)
