"""Scores against hand-worked numbers, numpy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from kdropout_jax.analysis import calibration
from tests import tolerance

LENGTH = 5 + 200
"""Classes of a softmax of logits that reach 8, and rows of a mean."""


@pytest.fixture
def data(key):
  logits_key, labels_key = jax.random.split(key)
  logits = 2.0 * jax.random.normal(logits_key, (200, 5))
  return logits, jax.random.randint(labels_key, (200,), 0, 5)


def softmax(logits):
  powers = np.exp(np.asarray(logits, np.float64))
  return powers / powers.sum(axis=1, keepdims=True)


def test_scores_agree_with_scikit_learn(data):
  logits, labels = data
  probs = softmax(logits)
  scores = jax.jit(calibration.scores)(logits, labels)
  hits = metrics.accuracy_score(labels, probs.argmax(axis=1))
  tolerance.assert_sums_close(scores.accuracy, hits, 1)  # A count, over 200.
  loss = metrics.log_loss(labels, probs)
  tolerance.assert_sums_close(scores.nll, loss, LENGTH, magnitude=8.0)
  onehot = np.eye(5)[np.asarray(labels)]
  brier = ((probs - onehot) ** 2).sum(axis=1).mean()
  tolerance.assert_sums_close(scores.brier, brier, LENGTH, magnitude=8.0)


def loop_ece(probs, labels, num_bins):
  """The definition of Guo et al., bin by bin."""
  confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
  total = 0.0
  for b in range(num_bins):
    inside = (confidence > b / num_bins) & (confidence <= (b + 1) / num_bins)
    if inside.any():
      gap = abs(hit[inside].mean() - confidence[inside].mean())
      total += inside.mean() * gap
  return total


@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_ece_agrees_with_a_loop_over_bins(data, num_bins):
  logits, labels = data
  expected = loop_ece(softmax(logits), np.asarray(labels), num_bins)
  got = calibration.expected_calibration_error(logits, labels, num_bins)
  assert expected > 0.01
  tolerance.assert_sums_close(got, expected, LENGTH, magnitude=8.0)


def test_ece_by_hand():
  # Confidences .6 (right), .6 (wrong) and .9 (right), in two of ten bins:
  # (2 * |.5 - .6| + 1 * |1 - .9|) / 3 = .1
  probs = jnp.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]])
  labels = jnp.array([0, 1, 1])
  got = calibration.expected_calibration_error(jnp.log(probs), labels, 10)
  tolerance.assert_sums_close(got, 0.1, 2 + 3, magnitude=1.0)


def test_a_bin_holds_its_upper_edge():
  # Of two bins the first is (0, .5]: confidence .5, right; the second holds
  # .9, wrong. (|1 - .5| + |0 - .9|) / 2 = .7; in one bin it would be .2.
  logits = jnp.log(jnp.array([[0.5, 0.5], [0.1, 0.9]]))
  got = calibration.expected_calibration_error(logits, jnp.array([0, 0]), 2)
  tolerance.assert_sums_close(got, 0.7, 2 + 3, magnitude=1.0)


def test_certain_and_right_is_perfect():
  scores = calibration.scores(100.0 * jnp.eye(3), jnp.arange(3))
  assert [float(s) for s in scores] == [1.0, 0.0, 0.0, 0.0]


def test_low_precision_is_scored_in_float32(data):
  logits, labels = data
  scores = calibration.scores(logits.astype(jnp.bfloat16), labels)
  assert all(s.dtype == jnp.float32 for s in scores)


@pytest.mark.parametrize(
  ("logits", "labels", "message"),
  [
    (jnp.ones(3), jnp.ones(3, int), r"logits must have shape \[B, C\]"),
    (jnp.ones((3, 2), int), jnp.ones(3, int), "must be floating point"),
    (jnp.ones((3, 2)), jnp.ones(3), "labels must be integers, got float32"),
    (jnp.ones((3, 2)), jnp.ones(2, int), "each of the 3 rows.*got 2"),
    (jnp.ones((0, 2)), jnp.ones(0, int), "at least one, got 0"),
    (jnp.ones((3, 2)), jnp.ones((3, 1), int), r"labels must have shape \[B\]"),
  ],
)
def test_wrong_arguments(logits, labels, message):
  with pytest.raises(ValueError, match=message):
    calibration.scores(logits, labels)


def test_wrong_number_of_bins():
  with pytest.raises(ValueError, match="num_bins must be >= 1, got 0"):
    calibration.expected_calibration_error(
      jnp.ones((1, 2)), jnp.zeros(1, int), 0
    )
