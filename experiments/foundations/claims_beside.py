"""Claims on what the notes and the lecture name beside the two papers.

Marginalised dropout, batch normalisation, maps and texts, pretraining: as
`claims`, which has these among its own, fixed before any run. Accuracies in
points, texts in bits a character.
"""

from experiments.judge.contrasts import Claim
from experiments.judge.contrasts import Row

_DROPOUT = "dropout"

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

CLAIMS = (
  *_MARGINALISED,
  *_BATCH_NORM,
  *_SPATIAL,
  *_TEXT,
  *_PRETRAINING,
)
