"""Every wrong flag is refused before anything is traced."""

import dataclasses

import pytest

from experiments.run import config as config_lib
from experiments.run import methods
from experiments.run import optimizers

Config = config_lib.RunConfig

_WRONG = [
  (dict(method="sequential", k=0), "k must be >= 1, got 0"),
  (dict(m=0), "m must be >= 1, got 0"),
  (dict(method="pooled", pool_size=0), "pool_size must be >= 1, got 0"),
  (dict(method="gyro", total=0), "total must be >= 1, got 0"),
  (dict(method="gyro", concurrent=0), "concurrent must be >= 1, got 0"),
  (dict(pattern="blocks", block_size=0), "block_size must be >= 1, got 0"),
  (dict(hidden=0), "hidden must be >= 1, got 0"),
  (dict(num_hidden=0), "num_hidden must be >= 1, got 0"),
  (dict(seeds=0), "seeds must be >= 1, got 0"),
  (dict(num_steps=0), "num_steps must be >= 1, got 0"),
  (dict(epochs=0), "epochs must be >= 1, got 0"),
  (dict(batch_size=0), "batch_size must be >= 1, got 0"),
  (dict(num_devices=0), "num_devices must be >= 1, got 0"),
  (dict(eval_every=0), "eval_every must be >= 1, got 0"),
  (dict(checkpoint_every=-1), "checkpoint_every must be >= 1, got -1"),
  (dict(rate=-0.1), r"rate must be in \[0, 1\], got -0.1"),
  (dict(rate=1.5), r"rate must be in \[0, 1\], got 1.5"),
  (dict(rate=float("nan")), r"rate must be in \[0, 1\], got nan"),
  (dict(valid_fraction=1.0), r"valid_fraction must be in \[0, 1\), got 1.0"),
  (dict(learning_rate=0.0), "learning_rate must be > 0, got 0.0"),
  (dict(learning_rate=float("nan")), "learning_rate must be > 0, got nan"),
  (dict(seed=-1), r"seed must be in \[0, 2\*\*31\), got -1"),
  (dict(optimizer="adma"), "optimizer must be one of .*did you mean adam"),
  (dict(method="poled"), "method must be one of .*did you mean pooled"),
  (dict(model="mpl"), "model must be one of .*'mpl'; did you mean mlp"),
  (dict(pattern="block"), "pattern must be one of .*did you mean blocks"),
  (dict(shuffle="never"), "shuffle must be one of .*'never'"),
  (dict(precision="float8"), "precision must be one of"),
  (dict(lr_schedule="cos"), "lr_schedule must be one of .*cosine"),
  (dict(method="gyro", total=4, concurrent=8), "concurrent must be <= total"),
  (
    dict(method="pooled", pool_size=4, m=8, replacement=False),
    "m must be <= pool_size without replacement",
  ),
  (dict(rescale="never"), "rescale must be one of"),
  (dict(row_layout="odd"), "row_layout must be one of"),
  (
    dict(method="gyro", scheduling="odd"),
    "scheduling must be one of .*'odd'",
  ),
  (dict(epochs=3, num_steps=4), "give epochs or num_steps, not both"),
]


@pytest.mark.parametrize(("fields", "message"), _WRONG)
def test_a_wrong_value_is_refused_by_name(fields, message):
  with pytest.raises(ValueError, match=message):
    Config(**fields)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(method="pooled", k=5), "k=5 has no effect here: it is for method="),
    (dict(method="none", rate=0.4), "rate=0.4 has no effect"),
    (dict(method="standard", m=4), "m=4 has no effect.*sequential or pooled"),
    (dict(method="sequential", pool_size=9), "pool_size=9 has no effect"),
    (dict(method="sequential", total=9), "total=9 has no effect"),
    (dict(method="standard", replacement=True), "replacement=True has no"),
    (dict(block_size=8), "block_size=8 has no effect.*pattern=blocks"),
    (dict(momentum=0.5), "momentum=0.5 has no effect.*sgd or rmsprop"),
    (dict(lr_drops=(3,)), r"lr_drops=\(3,\) has no effect"),
  ],
)
def test_a_flag_without_effect_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    Config(**fields)


def test_unused_flags_at_their_default_are_ignored():
  config = Config(method="none", k=97, pool_size=50, rate=0.5)
  assert config.identity() == {"method": "none"}


def test_the_identity_holds_what_is_not_default():
  config = Config(method="pooled", m=8, seeds=3, snapshot_steps=[2])
  assert config.identity() == {
    "method": "pooled",
    "seeds": 3,
    "snapshot_steps": [2],
  }


def test_the_digest_names_the_configuration():
  same = Config(method="pooled", m=8), Config(method="pooled")
  assert same[0].digest() == same[1].digest()
  assert same[0].digest() != Config(method="pooled", m=9).digest()
  # Golden: folders of old runs keep their names.
  assert Config().digest() == config_lib.digest({})
  assert config_lib.digest({}) == "44136fa355b3"


def test_steps_follow_from_epochs_and_full_batches():
  assert Config(epochs=3, batch_size=100).steps(250) == 6
  assert Config(num_steps=17).steps(250) == 17


def test_every_method_has_a_schedule():
  kinds = {}
  for method in methods.METHODS:
    schedule = methods.schedule(Config(method=method), num_steps=10)
    kinds[method] = type(schedule).__name__
  assert kinds == {
    "none": "NoneType",
    "standard": "Standard",
    "sequential": "Sequential",
    "pooled": "Pooled",
    "gyro": "Gyro",
    "guided": "Guided",
  }


def test_a_method_describes_what_it_uses():
  config = Config(method="pooled", pool_size=9, pattern="blocks", block_size=4)
  assert (
    methods.describe(config)
    == "pool_size=9 m=8 rate=0.5 pattern=blocks block_size=4"
  )
  assert methods.describe(Config(method="none")) == ""


def test_learning_rates_warm_up_drop_and_fade():
  def factor(**fields):
    config = dataclasses.replace(Config(), **fields)
    found = optimizers.lr_factor(config, num_steps=10, steps_per_epoch=2)
    return [round(float(found(step)), 4) for step in (0, 1, 4, 5, 10)]

  assert factor() == [1, 1, 1, 1, 1]
  assert factor(warmup_steps=4) == [0.25, 0.5, 1, 1, 1]
  drops = dict(lr_schedule="drops", lr_drops=(1, 2), lr_drop_factor=0.5)
  assert factor(**drops) == [1, 1, 0.25, 0.25, 0.25]
  # cos(pi / 10) = .9511, cos(4 pi / 10) = .3090.
  cosine = factor(lr_schedule="cosine")
  assert cosine == [1, 0.9755, 0.6545, 0.5, 0]
  assert factor(lr_schedule="linear") == [1, 0.9, 0.6, 0.5, 0]
  # Up to 1 at the end of the warm-up, then down over the 8 steps that are left.
  linear = factor(lr_schedule="linear", warmup_steps=2)
  assert linear == [0.5, 1, 0.75, 0.625, 0]


def test_a_linear_fall_needs_steps_after_the_warm_up():
  config = Config(lr_schedule="linear", warmup_steps=10)
  with pytest.raises(ValueError, match="warmup_steps must be < 10, .* got 10"):
    optimizers.lr_factor(config, num_steps=10, steps_per_epoch=2)
