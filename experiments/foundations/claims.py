"""The claims of the older sources, as contrasts fixed before any run.

Each experiment's stand in a group of its own. Papers: "dropout" (Srivastava et
al. 2014, and the notes on it) and "dropconnect" (Wan et al. 2013). Accuracies
in points; a paper's difference of errors is one of accuracies, turned.
"""

from experiments.foundations import paper
from experiments.judge import contrasts
from experiments.judge.contrasts import Claim
from experiments.judge.contrasts import Row

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


_MARGINALISED = (
  Claim(
    name="closed_form_is_like_sampling",
    paper=_DROPOUT,
    source="notes, section 0.3",
    text="linear models trained on the expected loss are as accurate as with"
    " masks that are sampled",
    measure="accuracy",
    a={"method": "closed"},
    b={"method": "sampled"},
    settings=("model", "pair"),
    same=("model", "pair"),
    average=("pair",),
    rule="equivalent",
    margin=0.5,
  ),
  Claim(
    name="closed_form_needs_fewer_steps",
    paper=_DROPOUT,
    source="notes, section 0.3; Wang and Manning 2013",
    text="sampled masks need more steps to the same expected loss (in log2)",
    measure="log_steps",
    a={"method": "sampled"},
    b={"method": "closed"},
    settings=("model", "pair"),
    same=("model", "pair"),
    average=("pair",),
  ),
  Claim(
    name="dropout_helps_linear_models",
    paper=_DROPOUT,
    source="notes, section 0.3",
    text="the expected loss of dropout regularizes linear models",
    measure="accuracy",
    a={"method": "closed"},
    b={"method": "none"},
    settings=("model", "pair"),
    same=("model", "pair"),
    average=("pair",),
  ),
)


_LI = "Li et al. 2019; notes, section 1.3"

_BATCH_NORM = (
  Claim(
    name="dropout_before_norm_shifts_variances",
    paper=_DROPOUT,
    source=_LI,
    text="dropout before batch normalisation shifts variances between training"
    " and test (shift, a ratio)",
    measure="shift",
    a={"arm": "before"},
    b={"arm": "norm"},
  ),
  Claim(
    name="dropout_after_all_norms_does_not",
    paper=_DROPOUT,
    source=_LI,
    text="dropout after the last batch normalisation shifts no variance",
    measure="shift",
    a={"arm": "last"},
    b={"arm": "norm"},
    rule="equivalent",
    margin=0.1,
  ),
  Claim(
    name="dropout_after_beats_before_norm",
    paper=_DROPOUT,
    source=_LI,
    text="dropout after all batch normalisations beats dropout before each",
    measure="accuracy",
    a={"arm": "last"},
    b={"arm": "before"},
  ),
  Claim(
    name="dropout_before_norm_loses_to_norm",
    paper=_DROPOUT,
    source=_LI,
    text="dropout before batch normalisations is worse than none there",
    measure="accuracy",
    a={"arm": "norm"},
    b={"arm": "before"},
  ),
)


_TOMPSON = "Tompson et al. 2015; lecture, SpatialDropout"

_SPATIAL = (
  Claim(
    name="units_of_maps_do_nothing",
    paper=_DROPOUT,
    source=_TOMPSON,
    text="dropping units of activation maps has virtually no effect",
    measure="accuracy",
    a={"drops": "units", "schedule": "standard"},
    b={"drops": "none"},
    rule="equivalent",
    margin=0.5,
  ),
  Claim(
    name="channels_beat_units",
    paper=_DROPOUT,
    source=_TOMPSON,
    text="dropping channels beats dropping units",
    measure="accuracy",
    a={"drops": "channels", "schedule": "standard"},
    b={"drops": "units", "schedule": "standard"},
  ),
  Claim(
    name="few_channel_masks_cost_little",
    paper="k-dropout",
    source="future work",
    text="channels dropped for k steps, 8 subnets at a time, are within a point"
    " of fresh ones",
    measure="accuracy",
    a={"drops": "channels"},
    b={"drops": "channels", "schedule": "standard"},
    where=(("schedule", "!=", "standard"),),
    settings=("schedule",),
    rule="not_worse",
    margin=1.0,
  ),
)

_GAL = "Gal and Ghahramani 2016; notes, section 1.3"

_TEXT = (
  Claim(
    name="dropout_helps_texts",
    paper=_DROPOUT,
    source=_GAL,
    text="one mask for all positions lowers the bits a character",
    measure="bits",
    a={"masks": "one", "schedule": "standard"},
    b={"masks": "none"},
    settings=("network",),
    same=("network",),
    reverse=True,
  ),
  Claim(
    name="one_mask_is_no_worse_than_many",
    paper=_DROPOUT,
    source=_GAL,
    text="one mask for all positions costs no more than .05 bits over many",
    measure="bits",
    a={"masks": "one", "schedule": "standard"},
    b={"masks": "many"},
    settings=("network",),
    same=("network",),
    reverse=True,
    rule="not_worse",
    margin=0.05,
  ),
  Claim(
    name="few_masks_of_texts_cost_little",
    paper="k-dropout",
    source="future work",
    text="masks that stand for k steps, 8 subnets at a time, cost no more than"
    " .05 bits over fresh ones",
    measure="bits",
    a={"masks": "one"},
    b={"masks": "one", "schedule": "standard"},
    where=(("schedule", "!=", "standard"),),
    settings=("network", "schedule"),
    same=("network",),
    reverse=True,
    rule="not_worse",
    margin=0.05,
  ),
)


_NOTES = "notes, section 1.2"


def _pretraining(name: str, text: str, a: Row, b: Row, *same: str) -> Claim:
  return Claim(
    name=name,
    paper=_DROPOUT,
    source=_NOTES,
    text=text,
    measure="accuracy",
    a=a,
    b=b,
    where=(("start", "in", ("rbm", "denoising")),),
    settings=("start",),
    same=same,
  )


_SMALL = {"learning_rate": "small"}

_PRETRAINING = (
  _pretraining(
    "pretraining_helps",
    "at a small learning rate pretrained layers beat random ones, with dropout",
    {"dropout": "scaled", **_SMALL},
    {"start": "random", "dropout": "unscaled", **_SMALL},
  ),
  _pretraining(
    "dropout_helps_after_pretraining",
    "at a small learning rate fine-tuning with dropout beats that without",
    {"dropout": "scaled", **_SMALL},
    {"dropout": "none", **_SMALL},
    "start",
  ),
  _pretraining(
    "large_rates_erase_pretraining",
    "with dropout a small learning rate beats a large one after pretraining",
    {"dropout": "scaled", **_SMALL},
    {"dropout": "scaled", "learning_rate": "large"},
    "start",
  ),
  _pretraining(
    "scaling_pretrained_weights_helps",
    "pretrained weights divided by what is kept beat those that are not",
    {"dropout": "scaled", **_SMALL},
    {"dropout": "unscaled", **_SMALL},
    "start",
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
  *_MARGINALISED,
  *_BATCH_NORM,
  *_SPATIAL,
  *_TEXT,
  *_PRETRAINING,
  *_DROP_CONNECT,
)


def named(*names: str) -> list[Claim]:
  """Returns the claims called `names`."""
  return contrasts.select(CLAIMS, names)
