"""MC dropout: a streamed mean against all samples at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import kdropout_jax as kd
from kdropout_jax.analysis import mc_dropout
from tests import tolerance


def noisy(key):
  return 3.0 * jax.random.normal(key, (6, 4))


def test_it_agrees_with_all_samples_at_once(key):
  got = jax.jit(lambda k: mc_dropout.predict(noisy, k, 9))(key)
  logits = np.stack([noisy(k) for k in jax.random.split(key, 9)])
  probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  # Exponentials of logits up to 9: an error of a logit is one of its power.
  length, size = 4 + 9, np.abs(logits).max()
  close = functools.partial(
    tolerance.assert_sums_close, length=length, magnitude=size
  )
  close(np.exp(got.log_probs), probs.mean(0))
  entropy = stats.entropy(probs.mean(0), axis=-1)
  close(got.entropy, entropy)
  shared = entropy - stats.entropy(probs, axis=-1).mean(0)
  assert shared.min() > 0.1
  close(got.mutual_information, shared)


def test_a_certain_network_has_nothing_to_disagree_about(key):
  fixed = lambda key: jnp.array([[1.0, 2.0, 3.0]])  # noqa: E731
  got = mc_dropout.predict(fixed, key, 5)
  close = functools.partial(
    tolerance.assert_sums_close, length=3 + 5, magnitude=3.0
  )
  close(got.log_probs, jax.nn.log_softmax(fixed(key)))
  close(got.mutual_information, [0.0])


def test_a_mean_of_fresh_masks_is_the_whole_linear_layer(key):
  """In a linear two-class net small logits average to the full network's."""
  w = 0.1 * jax.random.normal(key, (64, 2))
  x = jnp.ones((1, 64))

  def logits_fn(sample_key):
    masks = kd.subnet_masks(sample_key, jnp.arange(1), 64, kd.Bernoulli(0.5))
    return kd.dropout(x, masks, rate=0.5) @ w * 0.1

  got = mc_dropout.predict(logits_fn, key, 800)
  # Bernoulli masks: sd of a logit .01 * 8, of its mean a thirtieth of it.
  expected = jax.nn.log_softmax(0.1 * x @ w)
  np.testing.assert_allclose(got.log_probs, expected, atol=0.02)


def test_keys_of_other_implementations_are_taken():
  got = mc_dropout.predict(noisy, jax.random.key(0, impl="rbg"), 2)
  assert got.entropy.shape == (6,)


def test_wrong_number_of_samples(key):
  with pytest.raises(ValueError, match="num_samples must be >= 1, got 0"):
    mc_dropout.predict(noisy, key, 0)
