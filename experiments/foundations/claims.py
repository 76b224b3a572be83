"""The claims of the older sources, as contrasts fixed before any run.

Each experiment's stand in a group of its own. Papers: "dropout" (Srivastava et
al. 2014, and the notes on it) and "dropconnect" (Wan et al. 2013). Accuracies
in points; a paper's difference of errors is one of accuracies, turned.
"""

from experiments.foundations import claims_beside
from experiments.foundations import paper
from experiments.judge import contrasts
from experiments.judge.contrasts import Claim

_DROPOUT = "dropout"
_WAN = "dropconnect"


def _gain(better: str, worse: str) -> float:
  """Returns by how many points a row of table 9 beats another."""
  return round(paper.TABLE_9[worse] - paper.TABLE_9[better], 2)


_CLASSIC = (
  Claim(
    name="scaling_at_test_is_like_inverted",
    paper=_DROPOUT,
    source="lecture, the standard variant in use",
    text="weights scaled at test are like activations scaled in training",
    measure="accuracy",
    a={"method": "at_test"},
    b={"method": "inverted"},
    rule="equivalent",
    margin=0.5,
  ),
  Claim(
    name="classic_dropout_beats_none",
    paper=_DROPOUT,
    source="notes, introduction",
    text="classic dropout (keep .8 of inputs, .5 of units) beats none",
    measure="accuracy",
    a={"method": "at_test"},
    b={"method": "none"},
  ),
)

_AVERAGING = (
  Claim(
    name="scaling_is_like_averaging",
    paper=_DROPOUT,
    source="notes, section 1.3, inference-time approximation",
    text="the scaled network is as accurate as the mean of sampled subnets",
    measure="accuracy",
    a={"predictor": "scaled"},
    b={"predictor": "arithmetic"},
    rule="equivalent",
    margin=0.3,
  ),
  Claim(
    name="geometric_is_like_arithmetic",
    paper=_DROPOUT,
    source="lecture, equally weighted geometric mean",
    text="the geometric mean of subnets is as accurate as the arithmetic",
    measure="accuracy",
    a={"predictor": "geometric"},
    b={"predictor": "arithmetic"},
    rule="equivalent",
    margin=0.3,
  ),
)

_NOISE = (
  Claim(
    name="dropout_makes_gradients_noisy",
    paper=_DROPOUT,
    source="notes, section 1.3, noisy gradient estimates",
    text="dropout raises the variance of a batch's gradient (in log10)",
    measure="log_variance",
    a={"method": "standard"},
    b={"method": "none"},
  ),
  Claim(
    name="dropout_takes_longer",
    paper=_DROPOUT,
    source="notes, section 1.3, increased training time",
    text="dropout needs more steps to the same training loss (in log2)",
    measure="log_steps",
    a={"method": "standard"},
    b={"method": "none"},
  ),
)


def _table_9(better: str, worse: str, text: str) -> Claim:
  return Claim(
    name=f"{better}_beats_{worse}",
    paper=_DROPOUT,
    source="table 9",
    text=text,
    measure="accuracy",
    a={"regularizer": better},
    b={"regularizer": worse},
    paper_difference=_gain(better, worse),
  )


# The first three rows of table 9 lie within .07 points of each other, and one
# row's binomial error is .13: no claim is made of their order.
_REGULARIZERS = (
  _table_9("max_norm", "l2", "max-norm beats L2"),
  _table_9("dropout_l2", "l2", "dropout helps beside L2"),
  _table_9("dropout_max_norm", "max_norm", "dropout helps beside max-norm"),
  _table_9(
    "dropout_max_norm", "dropout_l2", "beside dropout max-norm beats L2"
  ),
)

_FEATURES = (
  Claim(
    name="dropout_lowers_the_mean_activation",
    paper=_DROPOUT,
    source="section 7.2",
    text="hidden units of an autoencoder are less active with dropout",
    measure="mean_activation",
    a={"method": "none"},
    b={"method": "standard"},
  ),
  Claim(
    name="dropout_makes_units_sparse",
    paper=_DROPOUT,
    source="section 7.2",
    text="more of an autoencoder's activations are near 0 with dropout",
    measure="share_near_zero",
    a={"method": "standard"},
    b={"method": "none"},
  ),
)

_EFFECTS = (
  Claim(
    name="half_is_close_to_optimal",
    paper=_DROPOUT,
    source="lecture, introduction",
    text="a drop rate of .5 is within half a point of the best rate",
    measure="accuracy_minus_the_best_rate",
    a={"rate": 0.5},
    rule="not_worse",
    margin=0.5,
  ),
)


def _wan(name: str, text: str, a: str, b: str, difference: float) -> Claim:
  return Claim(
    name=name,
    paper=_WAN,
    source="table 3",
    text=text,
    measure="accuracy",
    a={"method": a, "schedule": "standard"},
    b={"method": b},
    settings=("network",),
    same=("network",),
    paper_difference=difference,
  )


_PLAIN = dict(
  zip(paper.METHODS, (mean for mean, _ in paper.WAN_TABLE_3["plain"]))
)

_DROP_CONNECT = (
  _wan(
    "drop_connect_beats_none",
    "DropConnect beats no dropout",
    "drop_connect",
    "none",
    round(_PLAIN["none"] - _PLAIN["drop_connect"], 2),
  ),
  _wan(
    "unit_dropout_beats_none",
    "dropout of units beats no dropout",
    "dropout",
    "none",
    round(_PLAIN["none"] - _PLAIN["dropout"], 2),
  ),
  Claim(
    name="moments_are_like_the_mean_network",
    paper=_WAN,
    source="section 3.2",
    text="the Gaussian of the moments infers no better than the mean network",
    measure="moments_minus_mean",
    a={"method": "drop_connect"},
    settings=("network", "schedule"),
    rule="equivalent",
    margin=0.3,
  ),
  Claim(
    name="five_networks_vote_better",
    paper=_WAN,
    source="table 3",
    text="a vote of five networks beats one of them",
    measure="vote_minus_one",
    a={},
    settings=("network", "method", "schedule"),
    paper_difference=0.06,  # DropConnect, plain images: .63 and .57.
  ),
)

CLAIMS = (
  *_CLASSIC,
  *_AVERAGING,
  *_NOISE,
  *_REGULARIZERS,
  *_FEATURES,
  *_EFFECTS,
  *_DROP_CONNECT,
  *claims_beside.CLAIMS,
)


def named(*names: str) -> list[Claim]:
  """Returns the claims called `names`."""
  return contrasts.select(CLAIMS, names)
