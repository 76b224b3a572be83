"""Presets hold what the papers say, in flags that exist."""

import dataclasses

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import data
from experiments import models
from experiments.run import config as config_lib
from experiments.run import flags as flags_lib
from experiments.run import methods
from experiments.run import presets

_FIELDS = {field.name for field in dataclasses.fields(config_lib.RunConfig)}


@pytest.mark.parametrize("name", presets.names())
@pytest.mark.parametrize(
  ("method", "pattern"),
  [(m, "bernoulli") for m in methods.METHODS] + [("gyro", "blocks")],
)
def test_each_preset_is_a_run_of_each_method(name, method, pattern):
  run = config_lib.RunConfig(**presets.flags(name, method, pattern))
  assert (run.method, run.model in models.names()) == (method, True)
  assert run.dataset in data.names()


@pytest.mark.parametrize("name", presets.names())
def test_what_is_assumed_is_a_setting_of_the_preset(name):
  preset = presets.get(name)
  assert set(preset.assumed) <= set(preset.flags) <= _FIELDS
  assert preset.source


# Models of experiments that no paper's table has.
_ALONE = ("char_", "cnn_channels", "cnn_units", "mlp_norm_")


def test_every_model_has_a_preset():
  have = {preset.flags["model"] for preset in presets.PRESETS.values()}
  wanted = {n for n in models.names() if not n.startswith(_ALONE)}
  assert have == wanted - {"mlp"}


@pytest.mark.parametrize("name", presets.names())
def test_all_methods_of_a_preset_have_equal_subnets(name):
  preset, gyro = presets.get(name), presets.flags(name, "gyro")
  if preset.total is not None:
    pooled = presets.flags(name, "pooled")
    assert (gyro["total"], gyro["concurrent"]) == (
      *(pooled["pool_size"], pooled["m"]),
    )


def test_the_papers_own_numbers():
  gyro = presets.flags("gyro-alexnet-cifar10", "gyro")
  expected = {
    "learning_rate": 0.007,
    "lr_drops": (40, 80),
    "epochs": 100,
    "batch_size": 256,
    "crop": 24,
    "pixels": "standardise",
    "rate": 0.5,
  }
  assert {flag: gyro[flag] for flag in expected} == expected
  bert = presets.flags("gyro-bert-mrpc")
  assert (bert["rate"], bert["lr_schedule"]) == (0.1, "linear")
  # 3 epochs of 3,668 pairs by 32, a tenth of them.
  assert bert["warmup_steps"] == 3 * (3668 // 32) // 10
  kdropout = presets.flags("kdropout-mlp")
  assert (kdropout["num_hidden"], kdropout["hidden"]) == (3, 2000)
  assert (kdropout["batch_size"], kdropout["epochs"]) == (512, 300)
  assert "rate" not in presets.flags("kdropout-mlp", "none")


def test_blocks_are_128_rows_by_32_units():
  found = presets.flags("gyro-mlp1-svhn", "gyro", "blocks")
  assert (found["rows_per_subnet"], found["block_size"]) == (128, 32)
  assert "rows_per_subnet" not in presets.flags("gyro-mlp1-svhn", "standard")


def test_an_unknown_preset_has_its_nearest_names():
  with pytest.raises(
    ValueError, match="got 'gyro-lenet'; did you mean gyro-le"
  ):
    presets.get("gyro-lenet")


@pytest.fixture
def parse():
  flags_lib.define_run()

  def run(*argv):
    with flagsaver.flagsaver():  # What is given once is not given again.
      flags.FLAGS(["prog", *argv])
      return flags_lib.run_config()

  return run


def test_flags_that_are_given_override_the_preset(parse):
  run = parse("--preset=gyro-lenet-cifar10", "--method=gyro", "--batch_size=64")
  assert (run.model, run.total, run.batch_size) == ("lenet", 256, 64)
  assert run.lr_drops == (40, 80)


def test_steps_take_the_place_of_a_presets_epochs(parse):
  run = parse("--preset=kdropout-mlp", "--method=none", "--num_steps=7")
  assert (run.num_steps, run.hidden) == (7, 2000)


def test_legacy_is_what_it_stands_for(parse):
  gyro = ("--preset=gyro-lenet-cifar10", "--method=gyro")
  by_hand = ("--replacement", "--per_layer", "--rescale=realised")
  legacy = parse(*gyro, "--legacy=authors")
  assert (legacy.replacement, legacy.per_layer) == (True, True)
  assert legacy.rescale == "realised"
  assert legacy.digest() == parse(*gyro, *by_hand).digest()
  plain = parse(*gyro)
  assert plain.digest() == parse(*gyro, "--legacy=none").digest()
  assert plain.digest() != legacy.digest()


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (("--legacy=author",), "legacy must be one of .*did you mean authors"),
    (("--legacy=authors",), "is for method=gyro, got method='standard'"),
    (
      ("--legacy=authors", "--method=gyro", "--rescale=at_test"),
      "rescale must be realised or left alone with legacy='authors', got at_te",
    ),
    (
      ("--legacy=authors", "--method=gyro", "--noreplacement"),
      "replacement must be True or left alone",
    ),
  ],
)
def test_a_wrong_legacy_is_refused(parse, argv, message):
  with pytest.raises((ValueError, flags.Error), match=message):
    parse(*argv)
