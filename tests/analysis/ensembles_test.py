"""Ensembles: an ensemble of one is its member; curves against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdropout_jax.analysis import calibration
from kdropout_jax.analysis import ensembles
from tests import tolerance


@pytest.fixture
def members(key):
  logits_key, labels_key = jax.random.split(key)
  logits = 2.0 * jax.random.normal(logits_key, (7, 60, 4))
  return logits, jax.random.randint(labels_key, (60,), 0, 4)


def test_an_ensemble_of_one_is_its_member(members):
  logits, labels = members
  one = logits[:1]
  tolerance.assert_sums_close(
    ensembles.average(one), jax.nn.log_softmax(one[0]), 4
  )
  np.testing.assert_array_equal(ensembles.vote(one), jnp.argmax(one[0], -1))
  curve = ensembles.curve(one, labels)
  alone = calibration.scores(one[0], labels)
  assert curve.accuracy[0] == curve.vote_accuracy[0] == alone.accuracy
  tolerance.assert_sums_close(curve.nll[0], alone.nll, 4 + 60)


def test_the_average_is_of_probabilities_not_of_logits(members):
  logits = np.asarray(members[0], np.float64)
  powers = np.exp(logits)
  probs = (powers / powers.sum(-1, keepdims=True)).mean(axis=0)
  # An error of a logit is one of its power.
  tolerance.assert_sums_close(
    np.exp(ensembles.average(members[0])),
    probs,
    4 + 7,
    magnitude=np.abs(logits).max(),
  )


def test_curve_agrees_with_each_size_by_itself(members):
  logits, labels = members
  curve = jax.jit(ensembles.curve)(logits, labels)
  for size in range(1, 8):
    average = ensembles.average(logits[:size])
    expected = calibration.scores(average, labels)
    votes = ensembles.vote(logits[:size])
    assert curve.accuracy[size - 1] == expected.accuracy
    assert curve.vote_accuracy[size - 1] == jnp.mean(votes == labels)
    for name in ("nll", "brier", "ece"):
      tolerance.assert_sums_close(
        getattr(curve, name)[size - 1],
        getattr(expected, name),
        4 + 7 + 60,
        magnitude=jnp.abs(logits).max(),
      )


def test_the_order_decides_the_way_but_not_the_end(members):
  logits, labels = members
  order = jnp.array([6, 5, 4, 3, 2, 1, 0])
  forward = ensembles.curve(logits, labels)
  backward = ensembles.curve(logits, labels, order)
  assert forward.nll[0] != backward.nll[0]
  tolerance.assert_sums_close(forward.nll[-1], backward.nll[-1], 4 + 7 + 60)
  turned = ensembles.curve(logits[::-1], labels)
  tolerance.assert_sums_close(backward.nll, turned.nll, 4 + 7 + 60)


def test_orders_are_vmapped(members):
  logits, labels = members
  orders = jnp.stack([jnp.arange(7), jnp.arange(7)[::-1]])
  many = jax.vmap(ensembles.curve, (None, None, 0))(logits, labels, orders)
  assert many.accuracy.shape == (2, 7)


def test_a_vote_by_hand():
  # Two members say 1, weakly; one says 0, strongly: vote 1, average 0.
  logits = jnp.log(jnp.array([[[0.4, 0.6]], [[0.4, 0.6]], [[0.99, 0.01]]]))
  assert ensembles.vote(logits).tolist() == [1]
  assert jnp.argmax(ensembles.average(logits), -1).tolist() == [0]


def test_a_tied_vote_goes_to_the_more_probable_class():
  logits = jnp.log(jnp.array([[[0.6, 0.4]], [[0.1, 0.9]]]))
  assert ensembles.vote(logits).tolist() == [1]


def test_a_class_without_votes_never_wins():
  # Class 2 has the largest mean probability, and nobody's vote.
  first = [0.45, 0.15, 0.40]
  second = [0.15, 0.45, 0.40]
  logits = jnp.log(jnp.array([[first], [second]]))
  assert jnp.argmax(ensembles.average(logits), -1).tolist() == [2]
  assert ensembles.vote(logits).tolist() == [0]


def test_wrong_arguments(members):
  logits, labels = members
  with pytest.raises(ValueError, match=r"logits must have shape \[M, B, C\]"):
    ensembles.average(logits[0])
  with pytest.raises(ValueError, match="at least one member"):
    ensembles.vote(logits[:0])
  with pytest.raises(ValueError, match="must be floating point"):
    ensembles.average(logits.astype(int))
  with pytest.raises(ValueError, match="60 rows of logits"):
    ensembles.curve(logits, labels[:5])
  with pytest.raises(ValueError, match=r"same shape, got \[3\] and \[7\]"):
    ensembles.curve(logits, labels, jnp.arange(3))


def every_subnet(key, scale_inputs):
  """All 2**6 subnets of a hidden layer, and the network scaled by its rate.

  Returns logits [64, B, C] of the subnets and [B, C] of weights halved.
  """
  keys = jax.random.split(key, 3)
  x = jax.random.normal(keys[0], (5, 6))
  first, last = (2 * jax.random.normal(k, (6, 6)) for k in keys[1:])
  masks = (np.arange(64)[:, None] >> np.arange(6)) & 1
  masks = jnp.asarray(masks[:, None], jnp.float32)
  if scale_inputs:  # Inputs are dropped, ahead of the ReLU.
    return jax.nn.relu((masks * x[None]) @ first) @ last, (
      jax.nn.relu((x / 2) @ first) @ last
    )
  hidden = jax.nn.relu(x @ first)
  return (masks * hidden[None]) @ last, (hidden / 2) @ last


def test_the_geometric_mean_over_all_masks_is_weight_scaling(key):
  """Exactly, for one hidden layer whose units are dropped, and a softmax."""
  subnets, scaled = every_subnet(key, scale_inputs=False)
  tolerance.assert_sums_close(
    ensembles.geometric(subnets),
    jax.nn.log_softmax(scaled),
    64 + 6 + 6,
    magnitude=jnp.abs(subnets).max(),
  )
  # The arithmetic mean is another, and so is that of masks ahead of a ReLU.
  apart = jnp.abs(ensembles.average(subnets) - jax.nn.log_softmax(scaled))
  assert apart.max() > 0.1
  subnets, scaled = every_subnet(key, scale_inputs=True)
  apart = jnp.abs(ensembles.geometric(subnets) - jax.nn.log_softmax(scaled))
  assert apart.max() > 0.1


def test_a_class_that_one_member_rules_out_is_out(members):
  logits = members[0].at[3, :, 1].set(-jnp.inf)
  log_probs = ensembles.geometric(logits)
  assert jnp.isneginf(log_probs[:, 1]).all()
  tolerance.assert_sums_close(
    jnp.exp(log_probs).sum(-1), jnp.ones(log_probs.shape[0]), 4
  )
  with pytest.raises(ValueError, match="at least one member"):
    ensembles.geometric(logits[:0])
