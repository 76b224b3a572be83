"""The bits of a run do not change: by platform, by settings of JAX, by year.

Saved runs rebuild their subnets from ids, so every draw is fixed by digests,
and every way to an exact mask must give the bits of the one on a CPU.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax.masks import guided
from kdropout_jax.masks import sampling
from kdropout_jax.masks import selection

_KEY = jax.random.key(5)

_DRAWS = {
  "standard": kd.Standard(),
  "sequential": kd.Sequential(k=3, m=2),
  "pooled": kd.Pooled(1000, m=6),
  "distinct": kd.Pooled(9, m=8, replacement=False),
  "layers": kd.Pooled(1000, m=6, per_layer=True),
  "gyro": kd.Gyro(30, 4, num_steps=20, rows_per_subnet=4),
  "random": kd.Gyro(30, 8, num_steps=20, scheduling="random"),
  "window": kd.Gyro(1000, 4, num_steps=2000, replacement=True),
}
_PATTERNS = {
  "bernoulli": kd.Bernoulli(0.3),
  "exact": kd.ExactCount(0.3),
  "blocks": kd.Blocks(0.5, block_size=4),
}


_GOLDEN = {
  "bernoulli": "33186cf71387",
  "blocks": "e6c251143f73",
  "distinct": "ac1eb77c272e",
  "exact": "1ebc6bf80f2d",
  "guided": "b104ee93f6cc",
  "gyro": "71440314ef0d",
  "layers": "684432b45d14",
  "pooled": "9e5103dd5db1",
  "random": "a0d78e2f13ea",
  "rbg": "a6578a8efe30",
  "sequential": "f501a1190de8",
  "standard": "ce0f3ab17190",
  "window": "6af89f05c789",
}
_WAYS = [selection.by_bisection, selection.by_rank, selection.by_sort]


def draw_ids(schedule):
  steps = (0, 1, 2, 1000)
  return [kd.subnet_ids(step, _KEY, schedule, 8, layer=1) for step in steps]


def draw_masks(pattern):
  ids = jnp.array([0, 7, 2**32 - 1], jnp.uint32)
  widths = (33, 300)
  return [kd.subnet_masks(_KEY, ids, w, pattern).keep for w in widths]


def draw_guided():
  config = kd.Guided(total=40, concurrent=7)
  state, rows = guided.init(config), []
  for step in range(4):
    ids, state = guided.select(state, step, _KEY, config)
    losses = jnp.sin(ids.astype(jnp.float32))
    state = guided.update(state, ids, losses, config)
    rows.append(ids)
  return [*rows, state.steps]


def draw_rbg():
  key = jax.random.key(5, impl="rbg")
  return [jax.random.key_data(sampling.layer_key(key, "hidden_1"))]


def draw_all():
  draws = {name: draw_ids(s) for name, s in _DRAWS.items()}
  draws |= {name: draw_masks(p) for name, p in _PATTERNS.items()}
  return draws | {"guided": draw_guided(), "rbg": draw_rbg()}


def digest(arrays):
  text = b"".join(np.asarray(x).tobytes() for x in arrays)
  return hashlib.sha256(text).hexdigest()[:12]


@pytest.mark.parametrize("x64", [False, True])
def test_draws_have_golden_values_in_both_modes(x64):
  with jax.enable_x64(x64):
    draws = jax.jit(draw_all)()
  assert {name: digest(arrays) for name, arrays in draws.items()} == _GOLDEN


def test_another_threefry_is_refused():
  with jax.threefry_partitionable(False):
    with pytest.raises(kd.UnsupportedError, match="threefry_partitionable"):
      kd.subnet_masks(_KEY, jnp.arange(2), 8, kd.Bernoulli())
    with pytest.raises(kd.UnsupportedError, match="threefry_partitionable"):
      kd.subnet_ids(0, _KEY, kd.Pooled(4, m=2), 8)


def keep_by_order(bits, num_kept):
  """The rule itself: a stable sort of each row, by numpy."""
  order = np.argsort(bits, axis=1, kind="stable")[:, :num_kept]
  keep = np.zeros(bits.shape, bool)
  np.put_along_axis(keep, order, True, axis=1)
  return keep


def planted_bits(count):
  """Rows with equal bits at the threshold, at both ends of the range, all."""
  random = np.random.default_rng(3)
  top = 2**32 - 1
  rows = [
    random.integers(0, 4, count),
    random.choice([0, top], count),
    np.full(count, 0),
    np.full(count, top),
    np.full(count, 2**31),
    np.sort(random.integers(0, 2**32, count))[::-1],
    random.integers(2**31 - 2, 2**31 + 2, count),
  ]
  return np.stack(rows).astype(np.uint32)


@pytest.mark.parametrize("way", _WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("count", "num_kept"), [(2, 1), (37, 36), (37, 12)])
def test_equal_bits_are_taken_from_the_left(way, count, num_kept):
  bits = planted_bits(count)
  keep = jax.jit(way, static_argnums=1)(bits, num_kept)
  np.testing.assert_array_equal(keep, keep_by_order(bits, num_kept))


def masks_of(way):
  """A function of ids that samples exact masks in one of the ways."""

  def keep(ids):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(_KEY, ids)
    bits = jax.vmap(lambda key: jax.random.bits(key, (21,), jnp.uint32))(keys)
    return way(bits, 7)

  return keep


@pytest.mark.parametrize(
  "way", [*_WAYS, selection.keep_smallest], ids=lambda way: way.__name__
)
def test_every_way_stands_every_transform(way, strict_dtypes):
  keep = masks_of(way)
  rows = jnp.arange(8 * 3, dtype=jnp.uint32).reshape(8, 3)
  want = kd.subnet_masks(
    _KEY, rows.reshape(-1), 21, kd.ExactCount(1 - 7 / 21)
  ).keep.reshape(8, 3, 21)
  np.testing.assert_array_equal(jax.vmap(keep)(rows), want)
  np.testing.assert_array_equal(jax.pmap(keep)(rows), want)
  looped = jax.lax.scan(lambda c, ids: (c, keep(ids)), 0, rows)[1]
  np.testing.assert_array_equal(looped, want)
  mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec("d")
  sharded = jax.shard_map(keep, mesh=mesh, in_specs=spec, out_specs=spec)
  np.testing.assert_array_equal(
    jax.jit(sharded)(rows.reshape(-1)), want.reshape(24, 21)
  )

  def loss(x, ids):
    return jnp.sum(jnp.where(keep(ids), x * x, jnp.float32(0)))

  gradient = jax.jit(jax.grad(jax.checkpoint(loss)))(jnp.float32(3), rows[0])
  assert gradient == 6 * 7 * 3  # 7 units of 3 masks


def test_one_export_serves_all_platforms_and_only_cpus_bisect():
  args = (jax.random.key_data(_KEY), jnp.arange(3, dtype=jnp.uint32))

  def keep(words, ids):
    return kd.subnet_masks(words, ids, 21, kd.ExactCount(0.5)).keep

  platforms = ("cpu", "cuda", "tpu")
  exported = jax.export.export(jax.jit(keep), platforms=platforms)(*args)
  np.testing.assert_array_equal(exported.call(*args), keep(*args))
  for platform in platforms:
    one = jax.export.export(jax.jit(keep), platforms=(platform,))(*args)
    assert ("while" in one.mlir_module()) == (platform == "cpu")


@pytest.mark.parametrize(
  ("shape", "op"), [((8, 2048), "reduce"), ((8, 8192), "sort")]
)
def test_a_gpu_ranks_few_pairs_and_sorts_many(shape, op):
  bits = jax.ShapeDtypeStruct(shape, jnp.uint32)
  traced = jax.jit(lambda bits: selection.keep_smallest(bits, 64)).trace(bits)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert "stablehlo.while" not in text
  assert ("stablehlo.sort" in text) == (op == "sort")
  assert ("stablehlo.reduce" in text) == (op == "reduce")
