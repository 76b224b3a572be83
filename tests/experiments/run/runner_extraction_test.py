"""--subnet_training=extract through the runner: same training, same bits."""

import numpy as np
import pytest

import kdropout_jax as kd
from experiments.run import config as config_lib
from experiments.run import runner
from experiments.run import setup as setup_lib
from kdropout_jax.training import loop
from tests import tolerance

_FIELDS = dict(
  method="sequential",
  k=4,
  m=1,
  pattern="exact",
  num_train=64,
  hidden=8,
  batch_size=16,
  num_steps=9,
  eval_every=3,
  checkpoint_every=2,
  num_devices=1,
  seeds=2,
)

LENGTH = 2 * (64 + 8 + 8 + 10) + 297
"""Terms there and back through the network, and over the largest split."""


def config_of(**fields):
  return config_lib.RunConfig(**{**_FIELDS, **fields})


class Interrupted(Exception):
  """What a kill would be, as seen from inside."""


def interrupt(run):
  del run

  def stop(done, state, window):
    raise Interrupted(done)

  return [loop.Hook(stop, steps=frozenset([7]))]


@pytest.mark.slow
def test_a_run_of_extracted_windows_is_the_masked_run(tmp_path):
  (masked,) = runner.run(config_of(), tmp_path / "a", progress=False)
  extract = config_of(subnet_training="extract")
  (result,) = runner.run(extract, tmp_path / "b", progress=False)
  for name in ("train_loss", "valid_loss", "test_loss"):
    for ours, theirs in zip(result[name], masked[name], strict=True):
      tolerance.assert_sums_close(np.float32(ours), theirs, LENGTH, steps=9)
  # Killed at step 7, continued from 6, both within the second window.
  with pytest.raises(Interrupted):
    runner.run(extract, tmp_path / "c", progress=False, hooks=interrupt)
  (continued,) = runner.run(extract, tmp_path / "c", progress=False)
  assert continued["params_sha256"] == result["params_sha256"]


@pytest.mark.slow
def test_a_run_of_disjoint_networks_is_the_masked_run(tmp_path):
  halves = {"m": 2, "partition": True}
  (masked,) = runner.run(config_of(**halves), tmp_path / "a", progress=False)
  extract = config_of(subnet_training="extract", num_devices=2, **halves)
  (result,) = runner.run(extract, tmp_path / "b", progress=False)
  for name in ("train_loss", "valid_loss", "test_loss"):
    for ours, theirs in zip(result[name], masked[name], strict=True):
      tolerance.assert_sums_close(np.float32(ours), theirs, LENGTH, steps=9)


@pytest.mark.slow
def test_a_run_with_units_in_order_is_the_masked_run(tmp_path):
  """Max-norm, too, asks of no unit where it stands; a kill changes no bit."""
  fields = {"m": 4, "balanced": 4, "max_norm": 3.0}
  masked = config_of(**fields)
  (expected,) = runner.run(masked, tmp_path / "a", progress=False)
  permuted = config_of(subnet_training="permuted", **fields)
  (result,) = runner.run(permuted, tmp_path / "b", progress=False)
  for name in ("train_loss", "valid_loss", "test_loss"):
    for ours, theirs in zip(result[name], expected[name], strict=True):
      tolerance.assert_sums_close(np.float32(ours), theirs, LENGTH, steps=9)
  with pytest.raises(Interrupted):
    runner.run(permuted, tmp_path / "c", progress=False, hooks=interrupt)
  (continued,) = runner.run(permuted, tmp_path / "c", progress=False)
  assert continued["params_sha256"] == result["params_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize(
  "fields",
  [{"m": 2, "max_norm": 3.0}, {"method": "pooled", "pool_size": 4, "k": 97}],
)
def test_a_run_of_small_networks_is_the_masked_run(tmp_path, fields):
  masked = config_of(**fields)
  small = config_of(subnet_training="small", **fields)
  (expected,) = runner.run(masked, tmp_path / "a", progress=False)
  (result,) = runner.run(small, tmp_path / "b", progress=False)
  for name in ("train_loss", "valid_loss", "test_loss"):
    for ours, theirs in zip(result[name], expected[name], strict=True):
      tolerance.assert_sums_close(np.float32(ours), theirs, LENGTH, steps=9)


@pytest.mark.parametrize(
  ("fields", "match"),
  [
    ({"m": 2}, "subnet_training='extract' has no effect here: .* m=1"),
    ({"method": "pooled", "k": 97}, "subnet_training='extract' has no effect"),
    (
      {"subnet_training": "permuted", "m": 2, "balanced": 4},
      "subnet_training='permuted' has no effect here: .* balanced=m",
    ),
    (
      {"subnet_training": "masked", "dropped_weights": "frozen"},
      "dropped_weights='frozen' has no effect here: .*=extract",
    ),
    (
      {"shared_parameters": "window_end"},
      "shared_parameters='window_end' has no effect here: .* m > 1",
    ),
    (
      {"subnet_training": "masked", "pattern": "bernoulli", "partition": True},
      "partition=True has no effect here: .* pattern=exact or blocks",
    ),
    (
      {"subnet_training": "masked", "partition": True, "rate": 0.4},
      "rate must be 1 - 1/P",
    ),
    ({"subnet_training": "tiny"}, "subnet_training must be one of masked"),
    ({"dropped_weights": "cold"}, "dropped_weights must be one of caught_up"),
    ({"max_norm": 0.0}, "max_norm must be > 0, got 0.0"),
  ],
)
def test_flags_that_do_not_fit_are_refused(fields, match):
  with pytest.raises(ValueError, match=match):
    config_of(**{"subnet_training": "extract", **fields})


@pytest.mark.slow
def test_max_norm_is_refused_with_extraction_and_not_without():
  with pytest.raises(kd.UnsupportedError, match="depends on other weights"):
    setup_lib.make([config_of(subnet_training="extract", max_norm=3.0)])
  setup_lib.make([config_of(max_norm=3.0)])
