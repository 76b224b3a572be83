"""Every wrong flag is refused before anything is traced."""

import dataclasses

import jax
import pytest
from absl import flags

import kdropout_jax as kd
from experiments.run import config as config_lib
from experiments.run import flags as flags_lib
from experiments.run import methods
from experiments.run import optimizers
from experiments.run import shown

Config = config_lib.RunConfig

_WRONG = [
  (dict(method="sequential", k=0), "k must be >= 1, got 0"),
  (dict(m=0), "m must be >= 1, got 0"),
  (dict(method="pooled", pool_size=0), "pool_size must be >= 1, got 0"),
  (dict(method="gyro", total=0), "total must be >= 1, got 0"),
  (dict(method="gyro", concurrent=0), "concurrent must be >= 1, got 0"),
  (dict(pattern="blocks", block_size=0), "block_size must be >= 1, got 0"),
  (dict(hidden=0), "hidden must be >= 1, got 0"),
  (dict(num_hidden=0), r"num_hidden must be in \[1, 1000\], got 0"),
  (dict(seeds=0), "seeds must be >= 1, got 0"),
  (dict(num_steps=0), "num_steps must be >= 1, got 0"),
  (dict(epochs=0), "epochs must be >= 1, got 0"),
  (dict(batch_size=0), "batch_size must be >= 1, got 0"),
  (dict(num_devices=0), "num_devices must be >= 1, got 0"),
  (dict(eval_every=0), "eval_every must be >= 1, got 0"),
  (dict(checkpoint_every=-1), "checkpoint_every must be >= 1, got -1"),
  (dict(rate=-0.1), r"rate must be in \[0, 1\], got -0.1"),
  (dict(method="gaussian", rate=1.0), "rate must be < 1 for Gaussian noise"),
  (dict(pattern="gaussian", rate=1.0), "rate must be < 1 for Gaussian noise"),
  (
    dict(pattern="gaussian", rescale="at_test"),
    "rescale must be 'expected' with pattern=gaussian.*got 'at_test'",
  ),
  (
    dict(method="sequential", drops="weights", pattern="gaussian"),
    "pattern must be one of masks where drops=weights, got 'gaussian'",
  ),
  (dict(max_norm=0.0), "max_norm must be > 0, got 0.0"),
  (dict(l1=-1.0), "l1 must be >= 0, got -1.0"),
  (dict(input_rate=1.5), r"input_rate must be in \[0, 1\], got 1.5"),
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
    (dict(method="none", input_rate=0.2), "input_rate=0.2 has no effect"),
    (
      dict(method="gaussian", pattern="exact"),
      "pattern='exact' has no effect here: it is for any method but none and ga",
    ),
    (
      dict(method="drop_connect", drops="weights"),
      "drops='weights' has no effect here.*but none and drop_connect",
    ),
    (
      dict(sparsity_target=0.1),
      "sparsity_target=0.1 has no effect.*sparsity > 0",
    ),
    (dict(l1_from=0.5), "l1_from=0.5 has no effect here: it is for l1 > 0"),
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


# Taken before a run held schedules: folders of old runs keep their names.
_GOLDEN = {
  "ee9112191eeb": dict(method="none", num_hidden=3, shuffle="once"),
  "59bc05155579": dict(method="standard", rate=0.7),
  "7e769c01d221": dict(method="sequential", k=485, m=512, seed=4),
  "e3cf12c707d8": dict(
    method="sequential",
    k=40,
    m=1,
    subnet_training="extract",
    dropped_weights="frozen",
  ),
  "abe4428b8978": dict(method="sequential", k=29_100, m=10, assignment="label"),
  "9cdd5afbb3c2": dict(
    method="pooled", pool_size=1_000_000, m=128, row_layout="tiled"
  ),
  "dff08d9af37f": dict(
    method="pooled", pool_size=20, m=8, replacement=False, per_layer=True
  ),
  "2ce6cc406891": dict(
    method="gyro", total=256, concurrent=16, scheduling="random"
  ),
  "021d5b7bcdd2": dict(
    method="gyro", rows_per_subnet=128, pattern="blocks", block_size=16
  ),
  "485b03e77d9f": dict(
    method="gyro", replacement=True, per_layer=True, rescale="realised"
  ),
  "554b53a9c925": dict(
    method="guided", total=256, concurrent=16, temperature=0.03, explore=0.5
  ),
  "bd81ded82827": dict(
    method="pooled", pattern="exact", snapshot_steps=(3, 9), channels=(2, 3)
  ),
}


@pytest.mark.parametrize("digest", _GOLDEN)
def test_digests_stay(digest):
  assert Config(**_GOLDEN[digest]).digest() == digest


@pytest.mark.parametrize(
  ("other", "is_shared"),
  [
    (dict(seed=3, seeds=2, learning_rate=0.1), True),
    (dict(pool_size=7), True),
    (dict(m=4), False),
    (dict(replacement=False), False),
    (dict(per_layer=True), False),
    (dict(rate=0.4), False),
    (dict(pattern="exact"), False),
    (dict(hidden=9), False),
    (dict(method="standard"), False),
  ],
)
def test_runs_share_a_program_where_only_data_differs(other, is_shared):
  one = Config(method="pooled")
  same = one.program_key() == dataclasses.replace(one, **other).program_key()
  assert same == is_shared


def test_guided_runs_share_a_program_over_what_is_traced():
  first = Config(method="guided")
  key = first.program_key()
  for other in (dict(temperature=0.3), dict(explore=0.5)):
    assert dataclasses.replace(first, **other).program_key() == key
  assert dataclasses.replace(first, total=64).program_key() != key


def test_a_new_method_is_one_entry(monkeypatch):
  own = methods.Method(
    lambda c, num_steps: kd.Sequential(k=num_steps, m=c.m), shown=("m",)
  )
  monkeypatch.setitem(methods.METHODS, "fixed", own)
  run = Config(method="fixed", m=3)
  assert run.schedule(num_steps=9) == kd.Sequential(k=9, m=3)
  assert shown.describe(run) == "m=3 rate=0.5"
  with pytest.raises(ValueError, match="k=5 has no effect here"):
    Config(method="fixed", k=5)


def test_help_names_the_methods_and_the_choices():
  flags_lib.define_config()
  told = {f.name: flags.FLAGS[f.name].help for f in dataclasses.fields(Config)}
  assert told["method"].startswith("<none|standard|sequential|pooled|gyro|")
  assert told["optimizer"].startswith("<adam|sgd|rmsprop>")
  assert told["k"].startswith("sequential: ")
  assert methods.users("m") == ("sequential", "pooled")


def test_steps_follow_from_epochs_and_full_batches():
  assert Config(epochs=3, batch_size=100).steps(250) == 6
  assert Config(num_steps=17).steps(250) == 17


def test_every_method_has_a_schedule():
  kinds = {}
  for method in methods.METHODS:
    schedule = Config(method=method).schedule(num_steps=10)
    kinds[method] = type(schedule).__name__
  assert kinds == {
    "none": "NoneType",
    "standard": "Standard",
    "sequential": "Sequential",
    "pooled": "Pooled",
    "gyro": "Gyro",
    "guided": "Guided",
    "gaussian": "Standard",
    "drop_connect": "Standard",
  }


def test_a_method_describes_what_it_uses():
  config = Config(method="pooled", pool_size=9, pattern="blocks", block_size=4)
  assert (
    shown.describe(config)
    == "pool_size=9 m=8 rate=0.5 pattern=blocks block_size=4"
  )
  assert shown.describe(Config(method="none")) == ""


@pytest.mark.parametrize(
  ("fields", "num_steps"),
  [
    (dict(method="sequential", k=7, m=2), 50),
    (dict(method="gyro", total=20, concurrent=4), 53),
    (dict(method="gyro", total=18, concurrent=4), 10),
  ],
)
def test_windows_start_where_the_ids_change(fields, num_steps):
  config = Config(**fields)
  schedule, key = config.schedule(num_steps), jax.random.key(0)
  ids = [
    tuple(kd.subnet_ids(step, key, schedule, batch_size=16).tolist())
    for step in range(num_steps)
  ]
  changes = [s for s in range(1, num_steps) if ids[s] != ids[s - 1]]
  assert list(shown.window_starts(config, num_steps)) == changes != []


def test_windows_that_nobody_could_see_have_no_starts():
  for fields in (
    dict(method="sequential", k=1),
    dict(method="pooled"),
    dict(method="gyro", total=2**31 - 1, concurrent=1),
  ):
    assert not shown.window_starts(Config(**fields), 1000)


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
