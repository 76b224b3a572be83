"""Magnitude pruning: counts, order, rewinding; units by their norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax.analysis import pruning
from kdropout_jax.analysis import structured_pruning
from tests import tolerance


@pytest.fixture
def params(key):
  keys = jax.random.split(key, 3)
  return {
    "a": {"kernel": jax.random.normal(keys[0], (7, 11)), "bias": jnp.ones(11)},
    "b": {"kernel": 5.0 * jax.random.normal(keys[1], (11, 3))},
  }


def kernels(tree):
  return [np.asarray(tree[name]["kernel"]) for name in ("a", "b")]


@pytest.mark.parametrize("fraction", [1.0, 0.45, 0.2, 0.05, 1e-6])
def test_layers_keep_their_largest_weights(params, fraction):
  prune = jax.jit(lambda p: pruning.magnitude_masks(p, fraction))
  for weights, mask in zip(kernels(params), kernels(prune(params))):
    count = max(1, int(fraction * weights.size + 0.5))
    order = np.sort(np.abs(weights).ravel())[::-1]
    np.testing.assert_array_equal(mask, np.abs(weights) >= order[count - 1])


def test_global_pruning_compares_all_layers(params):
  masks = pruning.magnitude_masks(params, 0.2, scope="global")
  flat = np.concatenate([k.ravel() for k in kernels(params)])
  kept = np.concatenate([k.ravel() for k in kernels(masks)])
  count = int(0.2 * flat.size + 0.5)
  expected = np.abs(flat) >= np.sort(np.abs(flat))[-count]
  np.testing.assert_array_equal(kept, expected)
  # The second kernel is five times larger, and keeps more.
  assert kernels(masks)[1].mean() > 2 * kernels(masks)[0].mean()


def test_biases_are_spared_unless_asked_for(params):
  assert pruning.magnitude_masks(params, 0.1)["a"]["bias"].all()
  masks = pruning.magnitude_masks(params, 0.1, prunable=lambda x: True)
  assert not masks["a"]["bias"].all()


def test_equal_magnitudes_keep_the_exact_count():
  masks = pruning.magnitude_masks({"w": jnp.ones((4, 5))}, 0.5)
  assert int(masks["w"].sum()) == 10


def test_pruned_weights_stay_pruned(params):
  first = pruning.magnitude_masks(params, 0.5)
  turned = jax.tree.map(lambda x: 1.0 / x, params)  # the small are now large
  second = pruning.magnitude_masks(turned, 0.2, first)
  for before, after in zip(kernels(first), kernels(second)):
    assert not (after & ~before).any()
    assert after.sum() == int(0.2 * after.size + 0.5)


def test_fraction_left_counts_prunable_weights_only(params):
  masks = pruning.magnitude_masks(params, 0.25)
  kept = sum(int(k.sum()) for k in kernels(masks))
  total = 7 * 11 + 11 * 3
  assert pruning.fraction_left(masks) == kept / total


def test_tickets_rewind_and_shrink(params):
  calls = []

  def train(start, masks):
    calls.append((start, masks))
    return jax.tree.map(lambda x: x + 1.0, start)  # moves pruned ones, too

  tickets = pruning.find_tickets(train, params, (0.45, 0.2, 0.1))
  assert [t.fraction_left for t in tickets] == [1.0, 0.45, 0.2, 0.1]
  for (start, masks), ticket in zip(calls, tickets):
    # Every round starts from the same initial weights, where they are left.
    expected = jax.tree.map(lambda x, m: x * m, params, masks)
    jax.tree.map(np.testing.assert_array_equal, start, expected)
    for weights, mask in zip(kernels(ticket.params), kernels(ticket.masks)):
      assert (weights[~mask] == 0).all()
  # A round prunes by what the round before has trained, not by the start.
  expected = pruning.magnitude_masks(tickets[0].params, 0.45)
  jax.tree.map(np.testing.assert_array_equal, tickets[1].masks, expected)


def test_apply_keeps_dtype_and_zeroes_gradients():
  grads = {"w": jnp.full((2, 1), jnp.nan, jnp.bfloat16)}
  got = pruning.apply(grads, {"w": jnp.zeros((2, 1), bool)})
  assert got["w"].dtype == jnp.bfloat16 and (got["w"] == 0).all()


LAYOUT = kd.subnets.Layout(
  {"a/kernel": {1: "h"}, "a/bias": {0: "h"}, "b/kernel": {0: "h"}}
)


def test_units_go_by_the_norm_of_all_their_weights(params):
  norms = structured_pruning.unit_norms(params, LAYOUT)["h"]
  a, b = kernels(params)
  expected = np.sqrt((a**2).sum(axis=0) + 1.0 + (b**2).sum(axis=1))
  tolerance.assert_sums_close(norms, expected, 7 + 1 + 3)
  masks = structured_pruning.unit_masks(params, LAYOUT, 0.3)["h"]
  assert masks.num_kept == 3  # of 11
  assert set(np.flatnonzero(masks.keep[0])) == set(np.argsort(expected)[-3:])
  small = kd.subnets.extract(params, LAYOUT, {"h": masks})
  assert small["a"]["kernel"].shape == (7, 3)
  assert small["b"]["kernel"].shape == (3, 3)


def test_units_behind_a_flattened_image_are_summed():
  # Rows 0..5 are positions x 2 channels: unit 0 holds 1, 3, 5.
  layout = kd.subnets.Layout({"conv": {1: "h"}, "dense": {0: "h"}})
  params = {
    "conv": jnp.zeros((1, 2)),
    "dense": jnp.arange(1.0, 7.0).reshape(6, 1),
  }
  norms = structured_pruning.unit_norms(params, layout)["h"]
  tolerance.assert_sums_close(norms, np.sqrt([35.0, 56.0]), 3)


def test_dropped_units_stay_dropped(params):
  first = structured_pruning.unit_masks(params, LAYOUT, 0.5)
  # The dropped units now have by far the largest weights.
  scale = jnp.where(first["h"].keep, 1.0, 1e3)
  grown = dict(
    params, a=dict(params["a"], kernel=params["a"]["kernel"] * scale)
  )
  free = structured_pruning.unit_masks(grown, LAYOUT, 0.2)
  assert not (free["h"].keep & first["h"].keep).any()
  second = structured_pruning.unit_masks(grown, LAYOUT, 0.2, first)
  assert int(second["h"].keep.sum()) == 2
  assert not (second["h"].keep & ~first["h"].keep).any()


def test_a_network_with_masked_parameters_is_the_small_network(params, key):
  masks = structured_pruning.unit_masks(params, LAYOUT, 0.4)

  def forward(p, x):
    return (
      jax.nn.relu(x @ p["a"]["kernel"] + p["a"]["bias"][None])
      @ (p["b"]["kernel"])
    )

  flags = structured_pruning.parameter_masks(params, LAYOUT, masks)
  whole = pruning.apply(params, flags)
  small = kd.subnets.extract(params, LAYOUT, masks)
  x = jax.random.normal(key, (6, 7))
  tolerance.assert_sums_close(forward(whole, x), forward(small, x), 7 + 11)
  # 4 of 11 units: 7 + 3 weights each, and a bias.
  counts = jax.tree.map(lambda m: int(m.sum()), flags)
  assert counts == {"a": {"kernel": 28, "bias": 4}, "b": {"kernel": 12}}


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_wrong_fractions(params, fraction):
  with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got"):
    pruning.magnitude_masks(params, fraction)
  with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got"):
    structured_pruning.unit_masks(params, LAYOUT, fraction)


def test_wrong_arguments(params):
  with pytest.raises(ValueError, match=r"fractions must fall.*\[0.2, 0.45\]"):
    pruning.find_tickets(lambda p, m: p, params, [0.2, 0.45])
  with pytest.raises(ValueError, match="scope must be one of"):
    pruning.magnitude_masks(params, 0.5, scope="network")
  with pytest.raises(ValueError, match="at least one prunable parameter"):
    pruning.magnitude_masks({"b": jnp.ones(3)}, 0.5)
  with pytest.raises(ValueError, match="must have the same structure"):
    pruning.magnitude_masks(params, 0.5, {"a": jnp.ones(3)})
  wrong = kd.subnets.Layout({"c/kernel": {0: "h"}})
  with pytest.raises(ValueError, match="'c/kernel', which is not among"):
    structured_pruning.unit_norms(params, wrong)
  wrong = kd.subnets.Layout({"a/bias": {1: "h"}})
  with pytest.raises(ValueError, match="axis 1 follows 'h', but its shape"):
    structured_pruning.unit_norms(params, wrong)
  masks = structured_pruning.unit_masks(params, LAYOUT, 0.2)
  with pytest.raises(ValueError, match="must leave at least 6 units"):
    structured_pruning.unit_masks(params, LAYOUT, 0.5, masks)
  with pytest.raises(ValueError, match="masks must have layer 'h'"):
    structured_pruning.unit_masks(params, LAYOUT, 0.5, {"g": masks["h"]})
