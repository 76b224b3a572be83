"""A user's pattern with an exact count: what it serves, how it is held to it."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import kdropout_jax as kd
from tests.training import windows_test as shared

KEY = jax.random.key(2)
IDS = jnp.array([3, 4, 3, 9])


def rolled(key, width):
  """Half of the units, adjacent ones on a ring."""
  first = jax.random.randint(key, (), 0, width)
  return (jnp.arange(width) - first) % width < width // 2


def half(width):
  return width // 2


def bernoulli(key, width):
  return jax.random.bernoulli(key, 0.5, (width,))


ROLLED = kd.CustomPattern(rolled, 0.5, num_kept=half)


def test_masks_carry_the_count_and_are_the_same_without_it():
  masks = kd.subnet_masks(KEY, IDS, 12, ROLLED)
  assert masks.num_kept == 6
  plain = kd.subnet_masks(KEY, IDS, 12, kd.CustomPattern(rolled, 0.5))
  assert plain.num_kept is None
  np.testing.assert_array_equal(masks.keep, plain.keep)
  assert kd.subnet_masks(KEY, IDS, 12, fixed(6)).num_kept == 6


def fixed(num_kept):
  return kd.CustomPattern(rolled, 0.5, num_kept)


def test_a_pattern_stays_what_it_is():
  assert ROLLED == kd.CustomPattern(rolled, 0.5, half) != fixed(6)
  assert hash(fixed(6)) == hash(fixed(6))
  assert dataclasses.replace(ROLLED, rate=0.4).num_kept(10) == 5


def test_the_compact_product_takes_it():
  x, w = jax.random.normal(KEY, (8, 12)), jax.random.normal(KEY, (12, 5))
  masks = kd.subnet_masks(KEY, IDS, 12, ROLLED)
  multiply = functools.partial(kd.masked_matmul, x, w, in_mask=masks)
  got, want = multiply(implementation="compact"), multiply()
  # Twelve terms of float32 each, and a few roundings of a term.
  scale = (jnp.abs(x) @ jnp.abs(w)).max() * jnp.finfo(jnp.float32).eps
  np.testing.assert_allclose(got, want, rtol=0, atol=float(12 * scale))


def test_small_networks_have_its_size():
  model, x = shared.Net(ROLLED), jnp.ones((8, 5))
  params = model.init(KEY, x, train=False)["params"]
  layout = kd.subnets.layout(model, {"params": params}, x, train=True)
  (layer,) = layout.layers
  masks = {layer: kd.subnet_masks(KEY, IDS[:1], 12, ROLLED)}
  small = kd.subnets.extract(params, layout, masks)
  shapes = {leaf.shape for leaf in jax.tree.leaves(small)}
  assert any(6 in shape for shape in shapes)
  assert not any(12 in shape for shape in shapes)


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: fixed(-1), "num_kept must be >= 0, got -1"),
    (lambda: fixed(0.5), "num_kept must be an integer, got 0.5"),
    (lambda: fixed(True), "num_kept must be an integer, got True"),
    (lambda: fixed(13).num_kept(12), "num_kept must be <= width, got 13 of 12"),
  ],
)
def test_a_wrong_count_is_refused(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def test_a_count_that_the_function_does_not_keep_is_refused():
  wrong = kd.CustomPattern(bernoulli, 0.5, half)
  message = "must keep num_kept=6 of 12 units in every mask, got"

  def sample(ids):
    return kd.subnet_masks(KEY, ids, 12, wrong).keep

  with pytest.raises(ValueError, match=message):
    sample(IDS)
  with pytest.raises(ValueError, match=message):
    jax.jit(sample)(IDS)
  with pytest.raises(ValueError, match=message):
    jax.vmap(sample)(IDS[None])
  with pytest.raises(ValueError, match="num_kept=5 of 12 units"):
    kd.subnet_masks(KEY, IDS, 12, fixed(5))


def test_it_is_counted_inside_every_transform():
  model = nn.Dropout(0.5, deterministic=False)
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("rows",))
  count = 0

  def counted(key, width):
    nonlocal count
    count += 1
    return rolled(key, width)

  pattern = kd.CustomPattern(counted, 0.5, half)

  def run(x, step):
    return kd.linen.apply(
      *(model, {}, x),
      schedule=kd.Sequential(k=1, m=2),
      step=step,
      key=KEY,
      pattern=pattern,
      axis_name="rows",
    )

  rows = PartitionSpec("rows")
  mapped = jax.shard_map(
    run, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows
  )
  y = jax.jit(mapped)(jnp.ones((4, 12)), jnp.int32(0))
  assert (np.asarray(y) > 0).sum(axis=1).tolist() == [6] * 4
  grads = jax.jit(jax.grad(lambda x, step: mapped(x, step).sum()))
  grads = grads(jnp.ones((4, 12)), jnp.int32(1))
  assert (np.asarray(grads) > 0).sum(axis=1).tolist() == [6] * 4
  assert count >= 9  # Eight values, and the masks.
