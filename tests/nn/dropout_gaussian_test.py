"""Multiplicative Gaussian noise: its moments, and its subnets' constancy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import kdropout_jax as kd
from tests import tolerance


def test_noise_has_mean_one_and_the_variance_of_rescaled_dropout(key):
  ids = jnp.arange(400, dtype=jnp.uint32)
  for rate in (0.2, 0.5):
    noise = np.asarray(kd.subnet_noise(key, ids, 250, kd.Gaussian(rate)))
    variance, count = rate / (1 - rate), noise.size
    # Four standard errors, of the mean and of the variance of a normal.
    assert abs(noise.mean() - 1) < 4 * (variance / count) ** 0.5
    assert abs(noise.var() - variance) < 4 * variance * (2 / count) ** 0.5
    masks = kd.subnet_masks(key, ids, 250, kd.Bernoulli(rate)).dense()
    spread = np.asarray(masks / (1 - rate)).var()
    assert abs(spread - variance) < 0.05 * variance


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6)])
def test_rows_are_multiplied_by_their_subnets_noise(shape, key):
  layer = kd.linen.Dropout(0.5, pattern=kd.Gaussian, deterministic=False)
  x = jax.random.normal(key, shape)
  ids, rngs = jnp.array([7, 9], jnp.uint32), {"subnets": key}
  y = layer.apply({}, x, subnets=ids, rngs=rngs)
  keys = kd.linen.layer_keys(layer, {}, x, subnets=ids, key=key)
  (layer_key,) = keys.values()
  width = int(np.prod(shape[1:]))
  noise = kd.subnet_noise(layer_key, ids, width, kd.Gaussian(0.5))
  expected = x * jnp.repeat(noise, 2, axis=0).reshape(shape)
  tolerance.assert_sums_close(y, expected, 1)


def test_noise_is_the_same_throughout_a_window_and_new_in_the_next(key):
  model = nn.Sequential([nn.Dropout(0.5, deterministic=False)])
  schedule = kd.Sequential(k=3, m=2)

  @jax.jit
  def at(step):
    return kd.linen.apply(
      model,
      {},
      jnp.ones((4, 8)),
      schedule=schedule,
      step=step,
      key=key,
      pattern=kd.Gaussian,
    )

  found = [np.asarray(at(step)) for step in range(4)]
  np.testing.assert_array_equal(found[0], found[2])
  assert (found[0] != found[3]).all()
  assert (found[0][0] == found[0][1]).all() and (
    found[0][0] != found[0][2]
  ).all()


def test_without_ids_each_row_has_fresh_noise_and_tests_have_none(key):
  layer, x = kd.linen.Dropout(0.5, pattern=kd.Gaussian), jnp.ones((3, 8))
  y = layer.apply({}, x, deterministic=False, rngs={"dropout": key})
  assert len(np.unique(y)) == 24
  np.testing.assert_array_equal(layer.apply({}, x, deterministic=True), x)


def test_what_noise_cannot_do_is_refused(key):
  with pytest.raises(ValueError, match="rate must be < 1 for Gaussian .* 1.0"):
    kd.Gaussian(1.0)
  ids = jnp.arange(2, dtype=jnp.uint32)
  with pytest.raises(kd.UnsupportedError, match="use kd.subnet_noise"):
    kd.subnet_masks(key, ids, 8, kd.Gaussian(0.5))
  with pytest.raises(ValueError, match="pattern must be kd.Gaussian, got Bern"):
    kd.subnet_noise(key, ids, 8, kd.Bernoulli(0.5))
  x, how = jnp.ones((2, 8)), dict(pattern=kd.Gaussian, deterministic=False)
  rngs = {"subnets": key, "dropout": key}
  with pytest.raises(ValueError, match="rescale must be 'expected' with kd.G"):
    kd.linen.Dropout(0.5, rescale="at_test", **how).apply({}, x, rngs=rngs)
  with pytest.raises(kd.UnsupportedError, match="has no masks: give subnets"):
    kd.linen.Dropout(0.5, **how).apply({}, x, masks=x > 0, rngs=rngs)
