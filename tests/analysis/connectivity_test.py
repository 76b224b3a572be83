"""Lines between networks: their ends are the networks; barriers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdropout_jax.analysis import connectivity
from kdropout_jax.analysis import movement
from tests import tolerance


def network(key):
  first, second = jax.random.split(key)
  return {
    "a": {"kernel": jax.random.normal(first, (5, 7)), "bias": jnp.ones(7)},
    "b": jax.random.normal(second, (7, 3)),
  }


def logits(params):
  x = jnp.linspace(-1.0, 1.0, 20).reshape(4, 5)
  hidden = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None])
  return hidden @ params["b"]


@pytest.fixture
def ends(key):
  first, second = jax.random.split(key)
  return network(first), network(second)


@pytest.mark.parametrize("jitted", [False, True])
def test_both_ends_are_the_two_models(ends, jitted):
  run = lambda a, b: connectivity.along_line(  # noqa: E731
    logits, a, b, jnp.array([0.0, 0.5, 1.0])
  )
  values = (jax.jit(run) if jitted else run)(*ends)
  assert values.shape == (3, 4, 3)
  tolerance.assert_sums_close(values[0], logits(ends[0]), 5 + 7)
  tolerance.assert_sums_close(values[2], logits(ends[1]), 5 + 7)
  half = jax.tree.map(lambda a, b: (a + b) / 2, *ends)
  tolerance.assert_sums_close(values[1], logits(half), 5 + 7)


def test_interpolation_is_exact_at_its_ends(ends):
  for alpha, end in zip((0.0, 1.0), ends):
    got = connectivity.interpolate(*ends, alpha)
    jax.tree.map(np.testing.assert_array_equal, got, end)


def test_counters_are_not_interpolated():
  got = connectivity.interpolate({"n": jnp.int32(3)}, {"n": jnp.int32(9)}, 0.5)
  assert got["n"] == 3 and got["n"].dtype == jnp.int32


ALPHAS = jnp.array([0.0, 0.25, 0.5, 1.0])


@pytest.mark.parametrize(
  ("values", "line", "mean"),
  [
    ([1.0, 1.0, 1.0, 1.0], 0.0, 0.0),
    ([1.0, 3.0, 2.0, 1.0], 2.0, 2.0),
    # On the line from 1 to 3: no barrier; but 1 above the mean of the ends.
    ([1.0, 1.5, 2.0, 3.0], 0.0, 1.0),
    # 4 at alpha = .25, where the line is at 1.5; the mean is 2.
    ([1.0, 4.0, 2.0, 3.0], 2.5, 2.0),
    # A valley is no barrier.
    ([2.0, 0.0, 0.0, 2.0], 0.0, 0.0),
  ],
)
def test_barriers_by_hand(values, line, mean):
  values = jnp.array(values)
  assert connectivity.barrier(values, ALPHAS) == line
  assert connectivity.barrier(values, ALPHAS, "mean") == mean


def test_a_convex_loss_has_no_barrier(key):
  start, end = jax.random.normal(key, (2, 6))
  alphas = jnp.linspace(0.0, 1.0, 11)
  loss = lambda w: jnp.sum(w**2)  # noqa: E731
  values = connectivity.along_line(loss, start, end, alphas)
  largest = float(jnp.abs(values).max())
  found = connectivity.barrier(values, alphas)
  tolerance.assert_sums_close(found, 0.0, 6, magnitude=largest)
  bumpy = connectivity.along_line(lambda w: -loss(w), start, end, alphas)
  assert connectivity.barrier(bumpy, alphas) > 0.1


def test_movement_of_weights_agrees_with_numpy(ends):
  flat = [
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(e)]) for e in ends
  ]
  got = movement.of_weights(*ends)
  moved = np.linalg.norm(flat[1] - flat[0])
  tolerance.assert_sums_close(got.absolute, moved, len(flat[0]))
  relative = moved / np.linalg.norm(flat[0])
  tolerance.assert_sums_close(got.relative, relative, len(flat[0]))


def test_what_stays_has_not_moved(ends):
  assert movement.of_weights(ends[0], ends[0]).absolute == 0.0
  assert np.isnan(movement.of_weights([jnp.zeros(2)], [jnp.ones(2)]).relative)


def test_movement_of_activations_is_that_of_their_mean():
  # Rows swap: single activations move, their mean does not.
  before = jnp.array([[1.0, 0.0], [3.0, 4.0]])
  assert movement.of_activations(before, before[::-1]).absolute == 0.0
  # Means (2, 2) -> (2, 5): moved 3; unit 1 alone began at 2.
  after = before + jnp.array([[0.0, 3.0]])
  got = movement.of_activations(before, after)
  assert got.absolute == 3.0
  tolerance.assert_sums_close(got.relative, 3.0 / np.sqrt(8.0), 2)
  only = movement.of_activations(before, after, jnp.array([False, True]))
  assert only.relative == 1.5
  other = movement.of_activations(before, after, jnp.array([True, False]))
  assert other.absolute == 0.0


def test_wrong_arguments():
  tree = {"w": jnp.ones(2)}
  with pytest.raises(ValueError, match="must have the same structure"):
    connectivity.interpolate(tree, [jnp.ones(2)], 0.5)
  with pytest.raises(ValueError, match=r"same shape, got \[2\] and \[3\]"):
    movement.of_weights(tree, {"w": jnp.ones(3)})
  with pytest.raises(ValueError, match=r"alphas must have shape \[n\]"):
    connectivity.along_line(logits, tree, tree, jnp.ones((2, 2)))
  with pytest.raises(ValueError, match="values and alphas must have the same"):
    connectivity.barrier(jnp.ones(3), ALPHAS)
  with pytest.raises(ValueError, match="baseline must be one of"):
    connectivity.barrier(jnp.ones(4), ALPHAS, "median")
  with pytest.raises(ValueError, match="before and after must have the same"):
    movement.of_activations(jnp.ones((2, 2)), jnp.ones((3, 2)))
  with pytest.raises(ValueError, match="keep and units must have the same"):
    movement.of_activations(jnp.ones((2, 2)), jnp.ones((2, 2)), jnp.ones(3) > 0)
