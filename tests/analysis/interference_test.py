"""Gradient cosines against numpy, and two routes to one mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax.analysis import interference
from tests import tolerance

T, B, W = 5, 6, 12
LENGTH = 2 * (3 + W + 1) + B + 4 * W
"""Terms there and back, over the rows, and of the product of two gradients."""


@pytest.fixture
def problem(key):
  """A one-layer net in which T subnets train, each on its own rows."""
  params_key, x_key, y_key, run_key = jax.random.split(key, 4)
  w_key, v_key = jax.random.split(params_key)
  params = {
    "w": jax.random.normal(w_key, (3, W)),
    "v": jax.random.normal(v_key, (W,)),
  }
  masks = kd.subnet_masks(run_key, jnp.arange(T), W, kd.ExactCount(0.5))
  x = jax.random.normal(x_key, (T, B, 3))
  y = jax.random.normal(y_key, (T, B))

  def loss_fn(params, arg):
    keep, x, y = arg
    h = jnp.tanh(x @ params["w"])
    h = kd.dropout(h, keep[None], rate=0.5)
    return jnp.mean((h @ params["v"] - y) ** 2)

  return loss_fn, params, (masks.keep, x, y)


def loop_cosines(loss_fn, params, args):
  flat = []
  for t in range(T):
    grad = jax.grad(loss_fn)(params, jax.tree.map(lambda a, t=t: a[t], args))
    flat.append(np.concatenate([np.ravel(g) for g in jax.tree.leaves(grad)]))
  units = [g / np.linalg.norm(g) for g in flat]
  return np.array([[a @ b for b in units] for a in units]), np.array(flat)


def test_cosines_agree_with_a_loop(problem):
  expected, _ = loop_cosines(*problem)
  loss_fn, params, args = problem
  run = jax.jit(lambda p, a: interference.gradient_cosines(loss_fn, p, a))
  got = run(params, args)
  assert np.abs(expected - np.eye(T)).max() > 0.05
  tolerance.assert_sums_close(got, expected, LENGTH)


def test_measure_agrees_with_all_pairs(problem):
  expected, grads = loop_cosines(*problem)
  got = interference.measure(*problem)
  pairs = expected[~np.eye(T, dtype=bool)]
  tolerance.assert_sums_close(
    got.mean_cosine, pairs.mean(), LENGTH, magnitude=1.0
  )
  alignment = np.linalg.norm(grads.sum(0)) / np.linalg.norm(grads, axis=1).sum()
  tolerance.assert_sums_close(got.alignment, alignment, LENGTH)


def test_subnets_without_a_shared_unit_are_orthogonal(problem):
  loss_fn, params, (keep, x, y) = problem
  halves = jnp.arange(W) < W // 2
  keep = jnp.stack([halves, ~halves])
  cosines = interference.gradient_cosines(loss_fn, params, (keep, x[:2], y[:2]))
  assert cosines[0, 1] == 0.0


def test_equal_subnets_on_equal_rows_agree_fully(problem):
  loss_fn, params, args = problem
  twice = jax.tree.map(lambda a: jnp.stack([a[0], a[0]]), args)
  got = interference.measure(loss_fn, params, twice)
  tolerance.assert_sums_close(got.mean_cosine, 1.0, LENGTH)
  tolerance.assert_sums_close(got.alignment, 1.0, LENGTH)


def test_one_subnet_has_no_pair(problem):
  loss_fn, params, args = problem
  one = jax.tree.map(lambda a: a[:1], args)
  got = interference.measure(loss_fn, params, one)
  assert np.isnan(got.mean_cosine)
  tolerance.assert_sums_close(got.alignment, 1.0, LENGTH)


def test_a_zero_gradient_has_no_direction():
  loss = lambda w, d: jnp.sum(w * d)  # noqa: E731
  args = jnp.array([[1.0, 0.0], [0.0, 0.0]])
  cosines = interference.gradient_cosines(loss, jnp.zeros(2), args)
  assert cosines[0, 0] == 1.0 and np.isnan(cosines[1]).all()


def test_wrong_arguments(problem):
  loss_fn, params, (keep, x, y) = problem
  with pytest.raises(ValueError, match="args must be a tree of arrays"):
    interference.measure(loss_fn, params, jnp.float32(1))
  with pytest.raises(ValueError, match="leading axes of args.*same shape"):
    interference.gradient_cosines(loss_fn, params, (keep, x[:2], y))
