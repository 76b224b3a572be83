"""Extraction against plain indexing, and insertion as its inverse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kdropout_jax as kd
from kdropout_jax.subnets import extraction
from tests import tolerance
from tests.subnets import models

LAYOUT = kd.subnets.Layout(
  {"a": {1: "h"}, "b": {0: "h", 1: "g"}, "flat": {0: "g"}}
)


def example(num_kept=True):
  """Parameters, masks, and the kept units of each layer."""
  rng = np.random.default_rng(0)
  h, g = np.array([1, 4, 5]), np.array([0, 2])
  params = {
    "a": rng.normal(size=(3, 6)),
    "b": rng.normal(size=(6, 4)),
    "flat": rng.normal(size=(12, 2)),  # 3 positions x 4 channels, channels last
    "free": rng.normal(size=(5,)),
  }
  masks = {}
  for name, width, kept in (("h", 6, h), ("g", 4, g)):
    keep = np.zeros((1, width), bool)
    keep[0, kept] = True
    count = len(kept) if num_kept else None
    masks[name] = kd.Masks(jnp.asarray(keep), width, num_kept=count)
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
  return params, masks, h, g


def test_extract_is_plain_indexing():
  params, masks, h, g = example()
  flat = np.concatenate([position * 4 + g for position in range(3)])
  expected = {
    "a": np.asarray(params["a"])[:, h],
    "b": np.asarray(params["b"])[np.ix_(h, g)],
    "flat": np.asarray(params["flat"])[flat],
    "free": np.asarray(params["free"]),
  }
  small = kd.subnets.extract(params, LAYOUT, masks)
  jax.tree.map(np.testing.assert_array_equal, small, expected)
  jitted = jax.jit(lambda p, m: kd.subnets.extract(p, LAYOUT, m))
  jax.tree.map(np.testing.assert_array_equal, jitted(params, masks), expected)


def test_insert_changes_the_kept_elements_and_nothing_else():
  params, masks, h, g = example()
  small = kd.subnets.extract(params, LAYOUT, masks)
  back = kd.subnets.insert(params, small, LAYOUT, masks)
  jax.tree.map(np.testing.assert_array_equal, back, params)
  moved = jax.tree.map(lambda x: x + 1, small)
  changed = kd.subnets.insert(params, moved, LAYOUT, masks)
  expected = jax.tree.map(np.array, params)
  expected["a"][:, h] += 1
  expected["b"][np.ix_(h, g)] += 1
  expected["flat"].reshape(3, 4, 2)[:, g] += 1
  expected["free"] += 1
  jax.tree.map(np.testing.assert_array_equal, changed, expected)


def test_masks_that_vary_are_padded_with_dropped_units():
  params, masks, h, _ = example(num_kept=False)
  sizes = {"h": 5, "g": 2}
  small = kd.subnets.extract(params, LAYOUT, masks, sizes)
  padded = [*h, 0, 2]  # kept units, then the first dropped ones
  np.testing.assert_array_equal(small["a"], np.asarray(params["a"])[:, padded])
  back = kd.subnets.insert(params, small, LAYOUT, masks, sizes)
  jax.tree.map(np.testing.assert_array_equal, back, params)
  table = kd.subnets.make_tables(masks, sizes)["h"]
  assert table.live is not None
  assert table.live.tolist() == [[True] * 3 + [False] * 2]
  assert kd.subnets.max_sizes(masks) == {"h": 3, "g": 2}
  with pytest.raises(ValueError, match="'h' must be concrete"):
    jax.jit(kd.subnets.max_sizes)({"h": masks["h"]})


@pytest.mark.parametrize("num_kept", [True, False])
def test_the_ways_of_a_gpu_lead_to_the_same_bits(monkeypatch, num_kept):
  params, masks, _, _ = example(num_kept)
  sizes = None if num_kept else {"h": 5, "g": 2}
  ids = jnp.arange(3)
  three = {
    name: kd.subnet_masks(
      jax.random.key(1), ids, mask.width, kd.ExactCount(0.5)
    )
    for name, mask in masks.items()
  }

  def told(table):  # What pads, and where a dropped unit stands, is any.
    live = True if table.live is None else table.live
    place = jnp.where(table.keep, table.place, -1)
    return jnp.where(live, table.units, -1), place, table.fits

  def results():
    tables = kd.subnets.make_tables(masks, sizes)
    small = kd.subnets.extract(params, LAYOUT, masks, sizes)
    moved = jax.tree.map(lambda x: x + 1, small)
    groups = kd.subnets.make_tables(three)
    parts, mapped = extraction.take_groups(params, LAYOUT, groups)
    grads = extraction.sum_groups(params, parts, LAYOUT, groups)
    return (
      {name: told(table) for name, table in tables.items()},
      small if num_kept else None,
      kd.subnets.insert(params, moved, LAYOUT, masks, sizes),
      (parts, grads),
    )

  expected = results()
  models.as_on_a_gpu(monkeypatch)
  jax.tree.map(np.testing.assert_array_equal, results(), expected)


@pytest.mark.parametrize("count", [2, 11])
def test_groups_add_up_in_full_size(count):
  params, masks, _, _ = example()
  key, ids = jax.random.key(1), jnp.arange(count)
  many = {
    name: kd.subnet_masks(key, ids, mask.width, kd.ExactCount(0.5))
    for name, mask in masks.items()
  }
  tables = kd.subnets.make_tables(many)
  small, mapped = extraction.take_groups(params, LAYOUT, tables)
  assert mapped == {"a": 0, "b": 0, "flat": 0, "free": None}
  got = extraction.sum_groups(params, small, LAYOUT, tables)
  kept = many["h"].dense()[:, :, None] & many["g"].dense()[:, None, :]
  expected = params["b"] * kept.sum(0)
  np.testing.assert_allclose(got["b"], expected, rtol=1e-6)
  assert got["free"] is small["free"] is params["free"]


@pytest.mark.parametrize(("width", "block_size"), [(8, 2), (7, 2), (7, 3)])
def test_blocks_with_a_ragged_edge(key, width, block_size):
  pattern = kd.Blocks(0.5, block_size)
  layout = kd.subnets.Layout({"w": {0: "h"}})
  params = {"w": jnp.arange(1.0, width + 1)}
  for i in range(6):
    masks = {"h": kd.subnet_masks(key, jnp.array([i]), width, pattern)}
    table = kd.subnets.make_tables(masks)["h"]
    live = jnp.ones(table.size, bool) if table.live is None else table.live[0]
    small = kd.subnets.extract(params, layout, masks)["w"]
    kept = np.flatnonzero(np.asarray(masks["h"].dense()[0])) + 1.0
    np.testing.assert_array_equal(np.asarray(small)[np.asarray(live)], kept)
    back = kd.subnets.insert(params, {"w": small}, layout, masks)
    np.testing.assert_array_equal(back["w"], params["w"])


def test_vmap_over_subnets(key):
  params, masks, _, _ = example()
  many = {
    name: kd.subnet_masks(key, jnp.arange(5), mask.width, kd.ExactCount(0.5))
    for name, mask in masks.items()
  }

  def one(keep):
    subnet = {
      name: kd.Masks(
        flags[None], many[name].width, num_kept=many[name].num_kept
      )
      for name, flags in keep.items()
    }
    small = kd.subnets.extract(params, LAYOUT, subnet)
    return kd.subnets.insert(params, small, LAYOUT, subnet), small

  back, small = jax.vmap(one)({name: m.keep for name, m in many.items()})
  assert small["b"].shape == (5, 3, 2)
  for i in range(5):
    jax.tree.map(
      lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), back, params
    )


@pytest.mark.parametrize(
  "optimizer",
  [
    optax.sgd(0.1),
    optax.adamw(1e-3),
    optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(0.1)),
    optax.multi_transform(
      {"x": optax.adam(1e-3), "y": optax.sgd(0.1, momentum=0.9)},
      {"a": "x", "b": "y", "flat": "x", "free": "y"},
    ),
  ],
)
def test_optimizer_states_mirror_the_parameters(optimizer):
  params, masks, _, _ = example()
  _, state = optimizer.update(params, optimizer.init(params), params)
  small = kd.subnets.extract(state, LAYOUT, masks)
  like = optimizer.init(kd.subnets.extract(params, LAYOUT, masks))
  assert jax.tree.map(jnp.shape, small) == jax.tree.map(jnp.shape, like)
  back = kd.subnets.insert(state, small, LAYOUT, masks)
  jax.tree.map(np.testing.assert_array_equal, back, state)


def test_a_size_that_is_too_small_never_passes_for_a_result():
  params, masks, _, _ = example(num_kept=False)
  with pytest.raises(ValueError, match=r"sizes\['h'\] .* at least the 3 units"):
    kd.subnets.extract(params, LAYOUT, masks, {"h": 2, "g": 2})
  traced = jax.jit(
    lambda p, m: kd.subnets.extract(p, LAYOUT, m, {"h": 2, "g": 2})
  )
  small = traced(params, masks)
  assert jnp.isnan(small["a"]).all() and jnp.isnan(small["b"]).all()
  assert not jnp.isnan(small["flat"]).any()


@pytest.mark.parametrize(
  ("sizes", "error", "match"),
  [
    (None, kd.UnsupportedError, "'h' keep a number of units that varies"),
    ({"h": 7, "g": 2}, ValueError, r"sizes\['h'\] .* width 6, got 7"),
    ({"h": 0, "g": 2}, ValueError, r"sizes\['h'\] must be >= 1, got 0"),
    ({"z": 3}, ValueError, r"sizes names the layer 'z'"),
  ],
)
def test_wrong_sizes_are_refused(sizes, error, match):
  params, masks, _, _ = example(num_kept=False)
  with pytest.raises(error, match=match):
    kd.subnets.extract(params, LAYOUT, masks, sizes)


def test_wrong_masks_are_refused():
  params, masks, _, _ = example()
  two = kd.Masks(jnp.ones((2, 6), bool), 6, num_kept=6)
  with pytest.raises(ValueError, match="T = 1, got T = 2; vmap over subnets"):
    kd.subnets.extract(params, LAYOUT, masks | {"h": two})
  none = kd.Masks(jnp.zeros((1, 6), bool), 6, num_kept=0)
  with pytest.raises(kd.UnsupportedError, match="keep no unit"):
    kd.subnets.extract(params, LAYOUT, masks | {"h": none})
  with pytest.raises(ValueError, match="{layer: Masks}, got bool"):
    kd.subnets.extract(params, LAYOUT, masks | {"h": True})
  with pytest.raises(ValueError, match="at least the 3 units that the pattern"):
    kd.subnets.extract(params, LAYOUT, masks, {"h": 2})


def test_wrong_small_trees_are_refused():
  params, masks, _, _ = example()
  with pytest.raises(
    ValueError, match=r"must have shape \(3, 3\), got \(3, 6\)"
  ):
    kd.subnets.insert(params, params, LAYOUT, masks)
  with pytest.raises(ValueError, match="must have the structure of params"):
    kd.subnets.insert(params, {"a": params["a"]}, LAYOUT, masks)


@pytest.mark.parametrize("rescale", ["expected", "realised", "at_test"])
@pytest.mark.parametrize("pattern", [kd.ExactCount, kd.Bernoulli])
def test_the_small_network_computes_what_the_masked_one_does(rescale, pattern):
  model = models.Mlp(pattern, rescale)
  x = jax.random.normal(jax.random.key(1), (4, 12))
  variables = model.init(jax.random.key(0), x)
  layout = models.MLP_LAYOUT
  apply = functools.partial(
    model.apply, train=True, rngs={"subnets": jax.random.key(2)}
  )
  ids = jnp.array([5])
  masks = kd.subnets.sample_masks(lambda: apply(variables, x, subnets=ids))
  sizes = kd.subnets.max_sizes(masks)
  tables = kd.subnets.make_tables(masks, sizes)
  small = kd.subnets.extract(variables["params"], layout, masks, sizes)
  with kd.subnets.small_network(tables):
    got = apply({"params": small}, x)
    quiet = model.apply({"params": small}, x)  # deterministic: still a subnet
  expected = apply(variables, x, subnets=ids)
  tolerance.assert_sums_close(got, expected, 12 + 20 + 20)
  np.testing.assert_array_equal(got, quiet)
  assert small["dense_1"]["kernel"].shape == (sizes["drop_0"], sizes["drop_1"])


@pytest.mark.slow
def test_convolutions_shrink_too():
  model = models.Cnn()
  x = jax.random.normal(jax.random.key(1), (2, 6, 6, 3))
  variables = model.init(jax.random.key(0), x)
  layout = kd.subnets.Layout(
    {
      "Conv_0/kernel": {3: "maps_0"},
      "Conv_0/bias": {0: "maps_0"},
      "Conv_1/kernel": {2: "maps_0", 3: "maps_1"},
      "Conv_1/bias": {0: "maps_1"},
      "Dense_0/kernel": {0: "maps_1", 1: "units"},
      "Dense_0/bias": {0: "units"},
      "Dense_1/kernel": {0: "units"},
    }
  )

  def apply(variables):
    return model.apply(
      variables,
      x,
      train=True,
      subnets=jnp.array([3]),
      rngs={"subnets": jax.random.key(2)},
    )

  masks = kd.subnets.sample_masks(apply, variables)
  small = kd.subnets.extract(variables["params"], layout, masks)
  assert small["Conv_1"]["kernel"].shape == (3, 3, 3, 4)
  with kd.subnets.small_network(kd.subnets.make_tables(masks)):
    got = apply({"params": small})
  terms = 9 * 3 + 9 * 6 + 9 * 8 + 10
  tolerance.assert_sums_close(got, apply(variables), terms)


def test_a_model_that_drops_more_than_the_masks_say_is_refused():
  model = models.Mlp()
  x = jnp.ones((4, 12))
  variables = model.init(jax.random.key(0), x)
  with pytest.raises(ValueError, match=r"drops units in 'in', but masks has"):
    with kd.subnets.small_network({}):
      model.apply(variables, x)
  with pytest.raises(ValueError, match="'in' is called with deterministic"):
    kd.subnets.sample_masks(model.apply, variables, x)
  with pytest.raises(ValueError, match="'in' is called without subnets"):
    kd.subnets.sample_masks(lambda: model.apply(variables, x, train=True))
