"""MC dropout and pruning of finished networks, against counting by hand."""

import itertools
import types

import numpy as np
import pytest

from experiments.k_dropout import mc_dropout


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
  rng = np.random.default_rng(0)
  doubt = rng.integers(0, 5, 40).astype(float)  # with ties
  wrong = rng.random(40) < 0.3
  pairs = itertools.product(doubt[wrong], doubt[~wrong])
  by_hand = np.mean(
    [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]
  )
  assert mc_dropout.area_under_roc(doubt, wrong) == pytest.approx(by_hand)
  assert np.isnan(mc_dropout.area_under_roc(doubt, np.zeros(40, bool)))


def test_predictors_that_agree_say_what_one_says_and_doubt_nothing():
  logits = np.random.default_rng(1).normal(size=(1, 30, 4)).astype(np.float32)
  labels = np.arange(30) % 4
  alone = mc_dropout.scores(logits, labels)
  group = mc_dropout.scores(np.repeat(logits, 3, axis=0), labels)
  for name in ("accuracy", "nll", "ece"):
    assert group[name] == pytest.approx(alone[name], abs=1e-4)


def test_two_predictors_that_contradict_each_other_doubt_the_wrong_rows():
  """Right where they agree; where they do not, the mean is wrong."""
  sure = np.full((2, 10, 3), -20.0, np.float32)
  sure[:, :, 0] = 0.0
  sure[1, 5:, 0], sure[1, 5:, 1] = -20.0, 1.0
  labels = np.array([0] * 5 + [2] * 5)
  found = mc_dropout.scores(sure, labels)
  assert found["accuracy"] == 50.0 and found["auroc"] == 100.0


@pytest.mark.parametrize(
  ("fields", "wanted"),
  [
    (dict(method="pooled", pool_size=3), [0, 1, 2]),
    (dict(method="pooled", pool_size=900), list(range(5))),
    (dict(method="sequential", k=10), [0, 2, 4, 7, 9]),
    (dict(method="sequential", k=60), [0, 1]),
    (dict(method="standard"), []),
  ],
)
def test_subnets_that_were_trained_are_spread_over_the_run(fields, wanted):
  run = types.SimpleNamespace(
    cells=[types.SimpleNamespace(**fields)],
    nets=types.SimpleNamespace(num_steps=95),
  )
  assert mc_dropout.trained_ids(run, 5).tolist() == wanted  # pyright: ignore[reportArgumentType]
