"""The tolerance admits another order of summation, and no wrong term."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerance

_LENGTHS = (1, 10, 1_000, 100_000)


def two_orders(length, dtype=np.float32):
  """Sums of signed terms, one after the other from either end."""
  terms = np.random.default_rng(0).normal(size=(40, length)).astype(dtype)
  ends = terms, terms[:, ::-1]
  return terms, *(np.cumsum(t, axis=1, dtype=dtype)[:, -1] for t in ends)


@pytest.mark.parametrize("length", _LENGTHS)
def test_orders_of_summation_are_close(length):
  terms, forward, backward = two_orders(length)
  tolerance.assert_sums_close(forward, backward, length)
  exact = terms.sum(axis=1, dtype=np.float64)
  tolerance.assert_sums_close(forward, exact, length)
  bound = tolerance.of_sums(np.float32, length, np.abs(exact).max())
  assert np.abs(forward - exact).max() < bound / 2  # Room for other machines.


@pytest.mark.parametrize("length", _LENGTHS)
def test_a_sum_without_one_of_its_terms_is_not_close(length):
  """Of terms so many that one is lost in their rounding, none is tried."""
  terms, forward, _ = two_orders(length)
  wrong = forward - terms[:, length // 2]
  with pytest.raises(AssertionError, match="of which rounding explains"):
    tolerance.assert_sums_close(wrong, forward, length)


def test_the_magnitude_is_that_of_each_leaf_or_as_given():
  expected = {"large": jnp.full(3, 1e3), "small": jnp.ones(3)}
  off = {"large": expected["large"] + 1e-3, "small": jnp.ones(3)}
  tolerance.assert_sums_close(off, expected, 10)
  off = {"large": jnp.full(3, 1e3), "small": jnp.ones(3) + 1e-3}
  with pytest.raises(AssertionError, match="off by 0.001"):
    tolerance.assert_sums_close(off, expected, 10)
  tolerance.assert_sums_close(off, expected, 10, magnitude=1e3)
  tolerance.assert_sums_close(off, expected, 10, steps=1_000_000)


def test_nan_shapes_and_missing_leaves_are_no_sums():
  for actual in (jnp.full(2, jnp.nan), jnp.ones(1), jnp.ones((2, 2))):
    with pytest.raises(AssertionError):
      tolerance.assert_sums_close(actual, jnp.ones(2), 1)
  with pytest.raises(ValueError, match="zip"):
    tolerance.assert_sums_close([jnp.ones(2)], [jnp.ones(2)] * 2, 1)
  with pytest.raises(AssertionError):
    tolerance.assert_trained_close(
      jnp.full(2, jnp.nan), jnp.ones(2), 1, steps=1
    )


def test_trained_parameters_are_compared_by_norm():
  """An update of one element that turned round is Adam's rounding alone."""
  expected = jnp.ones(1_000)
  turned = expected.at[0].add(0.02)
  with pytest.raises(AssertionError):
    tolerance.assert_sums_close(turned, expected, 100)
  with pytest.raises(AssertionError):
    tolerance.assert_trained_close(turned, expected, 100, steps=5)
  tolerance.assert_trained_close(turned, expected, 100, steps=30, step_size=1.0)
  with pytest.raises(AssertionError):
    tolerance.assert_trained_close(
      turned + 0.02, expected, 100, steps=30, step_size=1.0
    )
