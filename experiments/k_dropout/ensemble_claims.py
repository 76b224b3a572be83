"""The claims of the k-dropout paper on ensembles, fixed before any run."""

from experiments.judge.contrasts import Claim
from experiments.k_dropout import paper

_PAPER = "k-dropout"
_SUBJECTS = paper.FIGURE_6 | paper.FIGURE_7


def _ensemble(name: str, text: str, a: str, b: str) -> Claim:
  return Claim(
    name=name,
    paper=_PAPER,
    source="figures 6 and 7",
    text=text,
    measure="accuracy",
    a={"subject": a},
    b={"subject": b},
    paper_difference=round(_SUBJECTS[a] - _SUBJECTS[b], 1),
  )


CLAIMS = (
  _ensemble(
    "pooled_subnets_beat_random",
    "pooled subnets beat random subnets of standard dropout",
    "pooled_subnets",
    "standard_random_subnets",
  ),
  Claim(
    name="pooled_subnets_equal_independent",
    paper=_PAPER,
    source="figure 6",
    text="pooled subnets equal independently trained half-size networks",
    measure="accuracy",
    a={"subject": "pooled_subnets"},
    b={"subject": "independent_networks"},
    rule="equivalent",
    margin=1.0,
  ),
  _ensemble(
    "independent_ensemble_beats_pooled",
    "the independent ensemble beats the pooled network",
    "independent_ensemble",
    "pooled_network",
  ),
  _ensemble(
    "independent_ensemble_beats_standard",
    "the independent ensemble beats the standard network",
    "independent_ensemble",
    "standard_network",
  ),
  _ensemble(
    "random_ensemble_beats_pooled",
    "random subnets of standard dropout beat pooled ones as an ensemble",
    "standard_random_ensemble",
    "pooled_ensemble",
  ),
)
