"""Closed forms of dropout against all masks, quadrature and samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax.analysis import marginalised
from tests import tolerance

_WIDTH = 6
_RATE = 0.3


@pytest.fixture
def regression(key):
  """Inputs of unequal sizes, and what is to be told from them."""
  x_key, noise_key = jax.random.split(key)
  sizes = jnp.array([[0.1, 0.5, 1.0, 1.0, 2.0, 4.0]])
  x = sizes * jax.random.normal(x_key, (20, _WIDTH))
  noise = jax.random.normal(noise_key, (20,))
  return x, x @ jnp.linspace(-1.0, 1.0, _WIDTH) + noise


def drop(x, mask, rate=_RATE):
  return kd.dropout(x, mask[None] > 0, rate=rate)


@pytest.mark.parametrize("rate", [0.0, _RATE, 0.8])
def test_the_closed_error_is_the_mean_over_all_masks(regression, rate):
  x, targets = regression
  weights = jnp.linspace(0.5, -1.0, _WIDTH)
  exact = marginalised.expectation(
    lambda mask: jnp.mean((drop(x, mask, rate) @ weights - targets) ** 2),
    _WIDTH,
    rate,
  )
  found = marginalised.squared_error(x, targets, weights, rate)
  # Sums over inputs, rows and masks; a mask's error may be the largest.
  tolerance.assert_sums_close(found, exact, _WIDTH + 20 + 2**_WIDTH)


def test_ridge_is_where_the_mean_over_all_masks_is_least(regression):
  """Its normal equations, from the masks alone, in numpy's float64."""
  x, targets = regression
  found = marginalised.ridge(x, targets, _RATE)
  x, targets = (np.asarray(v, np.float64) for v in regression)
  gram, pull = np.zeros((_WIDTH, _WIDTH)), np.zeros(_WIDTH)
  for number in range(2**_WIDTH):
    mask = np.array([number >> j & 1 for j in range(_WIDTH)])
    weight = np.prod(np.where(mask, 1 - _RATE, _RATE))
    dropped = x * mask / (1 - _RATE)
    gram += weight * dropped.T @ dropped
    pull += weight * dropped.T @ targets
  expected = np.linalg.solve(gram, pull)
  scaled = gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
  # An error of the equations is one of their solution, times the condition.
  tolerance.assert_sums_close(
    found,
    expected,
    20 + _WIDTH,
    magnitude=np.linalg.cond(scaled) * np.abs(expected).max(),
  )
  assert np.abs(found - expected).max() < 1e-5


def test_ridge_is_the_minimum_of_the_closed_error(regression):
  x, targets = regression

  def loss(weights):
    return marginalised.squared_error(x, targets, weights, _RATE)

  weights = marginalised.ridge(x, targets, _RATE)
  slope = jax.grad(loss)(weights)
  size = jnp.abs(jax.grad(loss)(jnp.zeros(_WIDTH))).max()
  tolerance.assert_sums_close(slope, np.zeros(_WIDTH), 40, magnitude=size)
  # Large inputs are held back most: not the ridge of one strength.
  plain = jnp.linalg.solve(x.T @ x + 3.0 * jnp.eye(_WIDTH), x.T @ targets)
  assert loss(weights) < loss(plain)


def test_an_input_that_is_never_there_has_no_weight():
  x = jnp.array([[1.0, 0.0], [2.0, 0.0]])
  assert marginalised.ridge(x, jnp.ones(2), 0.5)[1] == 0.0


def test_moments_are_those_of_all_masks(regression):
  x, _ = regression
  weights = jnp.linspace(0.5, -1.0, _WIDTH)
  mean, variance = marginalised.moments(x, weights, _RATE, bias=0.25)
  sums = lambda mask: drop(x, mask) @ weights + 0.25  # noqa: E731
  expected = marginalised.expectation(sums, _WIDTH, _RATE)
  tolerance.assert_sums_close(mean, expected, _WIDTH + 2**_WIDTH)
  spread = marginalised.expectation(
    lambda mask: (sums(mask) - mean) ** 2, _WIDTH, _RATE
  )
  tolerance.assert_sums_close(variance, spread, _WIDTH + 2**_WIDTH)


def quadrature(fn, mean, variance):
  """Means of a Gaussian, by numpy in float64."""
  points, weights = np.polynomial.hermite_e.hermegauss(120)
  at = mean[:, None] + np.sqrt(variance)[:, None] * points
  return fn(at) @ weights / np.sqrt(2 * np.pi)


def test_the_formulas_are_as_near_to_the_gaussian_as_they_say():
  grid = np.linspace(-20, 20, 81), np.linspace(0, 8, 33) ** 2
  mean, variance = (v.ravel() for v in np.meshgrid(*grid))
  sigmoid = quadrature(lambda z: 1 / (1 + np.exp(-z)), mean, variance)
  args = jnp.asarray(mean, jnp.float32), jnp.asarray(variance, jnp.float32)
  error = np.abs(marginalised.expected_sigmoid(*args) - sigmoid)
  assert error.max() < 0.02 and error[variance == 0].max() < 1e-6
  softplus = quadrature(lambda z: np.logaddexp(0, z), mean, variance)
  zeros = jnp.zeros(mean.shape, jnp.int32)
  found = np.asarray(marginalised.expected_log_loss(*args, zeros), float)
  widening = np.sqrt(1 + np.pi / 8 * variance)
  above = (found - softplus) / widening
  rounding = tolerance.of_sums(jnp.float32, 4, np.abs(mean).max())
  assert -rounding < above.min() and 0.05 < above.max() < 0.06
  # The loss of a 1 is that of a 0 whose mean is turned.
  ones = marginalised.expected_log_loss(-args[0], args[1], zeros + 1)
  np.testing.assert_array_equal(ones, found)


def test_fast_dropout_is_near_to_all_masks_and_to_samples(key):
  """Twelve inputs are few for a Gaussian, and weigh unequally here."""
  width, rows, rate = 12, 30, 0.5
  x_key, w_key, mask_key = jax.random.split(key, 3)
  x = jax.random.normal(x_key, (rows, width))
  weights = 0.5 * jax.random.normal(w_key, (width,))
  labels = jnp.arange(rows, dtype=jnp.int32) % 2

  def both(mask):
    z = kd.dropout(x, mask[None] > 0, rate=rate) @ weights
    turned = jnp.where(labels == 1, -z, z)
    return jnp.stack([jax.nn.sigmoid(z), jax.nn.softplus(turned)])

  exact = marginalised.expectation(both, width, rate)
  found = marginalised.moments(x, weights, rate)
  sigmoid = marginalised.expected_sigmoid(*found)
  loss = marginalised.expected_log_loss(*found, labels)
  assert np.abs(sigmoid - exact[0]).max() < 0.03
  assert np.abs(loss - exact[1]).max() < 0.06
  # Nothing of it is there without the variance.
  plain = jax.nn.sigmoid(found.mean)
  assert np.abs(plain - exact[0]).max() > 0.05
  masks = jax.random.bernoulli(mask_key, 1 - rate, (20_000, width))
  draws = jax.vmap(both)(masks.astype(jnp.float32))
  error = np.std(draws, axis=0) / np.sqrt(len(masks))
  assert (np.abs(np.mean(draws, axis=0) - exact) < 5 * error).all()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: marginalised.expectation(jnp.sum, 13, 0.5), "width must be <= 12"),
    (lambda: marginalised.expectation(jnp.sum, 0, 0.5), "width must be >= 1"),
    (
      lambda: marginalised.ridge(jnp.ones((2, 1)), jnp.ones(2), 0.0),
      "rate must be > 0",
    ),
    (
      lambda: marginalised.ridge(jnp.ones((2, 1)), jnp.ones(2), 1.0),
      "rate must be < 1",
    ),
    (
      lambda: marginalised.ridge(jnp.ones((2, 1)), jnp.ones(3), 0.5),
      r"targets must have one entry for each of the 2 rows of x.* got \[3\]",
    ),
    (
      lambda: marginalised.expected_sigmoid(jnp.ones(1), -jnp.ones(1)),
      "variance must be all >= 0",
    ),
    (
      lambda: marginalised.expected_log_loss(
        jnp.ones(1), jnp.ones(1), jnp.array([2])
      ),
      "labels must be 0 and 1",
    ),
  ],
)
def test_wrong_arguments_are_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
