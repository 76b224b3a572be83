"""Diversity against loops over pairs, and numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdropout_jax.analysis import diversity
from tests import tolerance


@pytest.fixture
def features(key):
  features_key, keep_key = jax.random.split(key)
  features = jax.nn.relu(jax.random.normal(features_key, (4, 9, 12)))
  return features, jax.random.bernoulli(keep_key, 0.6, (4, 12))


def loop_distance(features, keep):
  features, keep = np.asarray(features, np.float64), np.asarray(keep)
  found = np.zeros((len(features),) * 2)
  for i, a in enumerate(features):
    for j, b in enumerate(features):
      both = keep[i] & keep[j]
      difference = np.abs(a[:, both] - b[:, both]).sum(axis=1).mean()
      norms = [np.abs(f[:, both]).sum(axis=1).mean() for f in (a, b)]
      found[i, j] = difference / np.mean(norms)
  return found


def test_feature_distance_agrees_with_a_loop(features):
  got = jax.jit(diversity.feature_distance)(*features)
  expected = loop_distance(*features)
  assert expected.max() > 0.5
  tolerance.assert_sums_close(got, expected, 9 * 12)


def test_feature_distance_by_hand():
  # Shared units: 0 and 1. Distances 1 + 0, norms 1 + 2 and 2 + 2: 1 / 3.5.
  features = jnp.array([[[1.0, 2.0, 9.0]], [[2.0, 2.0, 0.0]]])
  keep = jnp.array([[True, True, True], [True, True, False]])
  got = diversity.feature_distance(features, keep)
  tolerance.assert_sums_close(got[0, 1], 1 / 3.5, 3)
  assert got[0, 0] == 0.0


def test_feature_distance_ignores_scale_and_dropped_units(features):
  values, keep = features
  expected = diversity.feature_distance(values, keep)
  noisy = jnp.where(keep[:, None, :], 3.0 * values, 100.0)
  got = diversity.feature_distance(noisy, keep)
  tolerance.assert_sums_close(got, expected, 9 * 12)


def test_feature_sums_add_up_over_batches(features):
  values, keep = features
  whole = diversity.feature_sums(values, keep)
  parts = [
    diversity.feature_sums(part, keep)
    for part in (values[:, :4], values[:, 4:])
  ]
  for total, first, second in zip(whole, *parts):
    tolerance.assert_sums_close(total, first + second, 9 * 12)


def test_a_pair_without_shared_units_is_nan_and_left_out():
  features = jnp.ones((3, 2, 2))
  keep = jnp.array([[True, False], [False, True], [True, True]])
  got = diversity.feature_distance(2.0 * features, keep)
  assert np.isnan(got[0, 1])
  assert diversity.mean_over_pairs(got) == 0.0


def test_disagreement_agrees_with_a_loop(key):
  predictions = np.asarray(jax.random.randint(key, (5, 40), 0, 3))
  got = diversity.disagreement(jnp.asarray(predictions))
  expected = [[(a != b).mean() for b in predictions] for a in predictions]
  tolerance.assert_sums_close(got, expected, 1)  # Counts, over 40.


def test_error_correlation_agrees_with_numpy(key):
  correct = jax.random.bernoulli(key, 0.7, (5, 50))
  got = diversity.error_correlation(correct)
  tolerance.assert_sums_close(got, np.corrcoef(~np.asarray(correct)), 50)


def test_error_correlation_of_a_faultless_member_is_nan():
  correct = jnp.array([[True, True], [True, False]])
  got = diversity.error_correlation(correct)
  assert np.isnan(got[0]).all()
  tolerance.assert_sums_close(got[1, 1], 1.0, 2)


def test_double_fault_agrees_with_a_loop(key):
  correct = np.asarray(jax.random.bernoulli(key, 0.4, (4, 30)))
  got = diversity.double_fault(jnp.asarray(correct))
  expected = [[(~a & ~b).mean() for b in correct] for a in correct]
  tolerance.assert_sums_close(got, expected, 1)  # Counts, over 30.


def test_mean_over_pairs_leaves_the_diagonal_and_nan_out():
  values = jnp.array(
    [[9.0, 1.0, jnp.nan], [2.0, 9.0, 3.0], [jnp.nan, 6.0, 9.0]]
  )
  assert diversity.mean_over_pairs(values) == 3.0
  assert np.isnan(diversity.mean_over_pairs(jnp.ones((1, 1))))


def test_wrong_arguments():
  with pytest.raises(ValueError, match=r"features must have shape \[M, B, F\]"):
    diversity.feature_distance(jnp.ones((2, 3)))
  with pytest.raises(ValueError, match="features must be floating point"):
    diversity.feature_distance(jnp.ones((2, 3, 4), int))
  with pytest.raises(ValueError, match="keep and members and units must have"):
    diversity.feature_distance(jnp.ones((2, 3, 4)), jnp.ones((2, 3), bool))
  for fn, name in (
    (diversity.disagreement, "predictions"),
    (diversity.error_correlation, "correct"),
    (diversity.double_fault, "correct"),
    (diversity.mean_over_pairs, "values"),
  ):
    with pytest.raises(ValueError, match=f"{name} must have shape"):
      fn(jnp.ones(3))
