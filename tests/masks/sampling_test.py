"""Laws of `subnet_masks` and `layer_masks`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax.masks import diagnostics
from kdropout_jax.masks import sampling

pytestmark = pytest.mark.usefixtures("strict_dtypes")

_KEY = jax.random.key(11)


def alternate(key, width):
  """A user's pattern: every second unit, the phase drawn from the key."""
  phase = jax.random.randint(key, (), 0, 2)
  return (jnp.arange(width) + phase) % 2 == 0


_PATTERNS = [
  kd.Bernoulli(0.3),
  kd.ExactCount(0.3),
  kd.Blocks(0.5, block_size=4),
  kd.Blocks(0.5, block_size=4, exact=False),
  kd.CustomPattern(alternate, rate=0.5),
]


def _name(value):
  """A test id that every process spells alike (a function's repr does not)."""
  if isinstance(value, kd.CustomPattern):
    return "CustomPattern"
  return repr(value)


_SCHEDULES = [
  kd.Standard(),
  kd.Sequential(k=3, m=2),
  kd.Pooled(pool_size=5, m=3),
  kd.Gyro(10, 4, num_steps=8),
  kd.Gyro(10, 4, num_steps=8, rows_per_subnet=4),
  kd.Gyro(10, 4, num_steps=8, scheduling="random"),
]


@pytest.mark.parametrize("pattern", _PATTERNS, ids=_name)
@pytest.mark.parametrize(
  "width", [1, 7, pytest.param(32, marks=pytest.mark.slow)]
)
def test_a_mask_depends_on_key_and_id_alone(pattern, width):
  ids = jnp.array([5, 9, 5, 2**32 - 1], jnp.uint32)
  together = kd.subnet_masks(_KEY, ids, width, pattern).dense()
  assert together.shape == (4, width)
  assert together.dtype == jnp.bool_
  np.testing.assert_array_equal(together[0], together[2])
  for row, i in zip(together, ids):
    alone = kd.subnet_masks(_KEY, i[None], width, pattern).dense()
    np.testing.assert_array_equal(alone[0], row)


@pytest.mark.parametrize("pattern", _PATTERNS, ids=_name)
def test_eager_jit_vmap_scan_and_pmap_agree(pattern):
  rows = jnp.arange(8 * 3, dtype=jnp.uint32).reshape(8, 3)

  def keep(ids):
    return kd.subnet_masks(_KEY, ids, 21, pattern).dense()

  eager = np.stack([keep(ids) for ids in rows])
  np.testing.assert_array_equal(jax.jit(keep)(rows[0]), eager[0])
  np.testing.assert_array_equal(jax.vmap(keep)(rows), eager)
  np.testing.assert_array_equal(jax.pmap(keep)(rows), eager)
  scanned = jax.lax.scan(lambda c, ids: (c, keep(ids)), 0, rows)[1]
  np.testing.assert_array_equal(scanned, eager)


@pytest.mark.parametrize("seed_axis", [False, True])
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_other_key_implementations_are_converted(impl, seed_axis):
  """rbg's draws differ between vmap and a loop; ours must not."""
  keys = jax.random.split(jax.random.key(3, impl=impl), 4)
  ids = jnp.arange(3)

  def keep(key):
    return kd.subnet_masks(key, ids, 64, kd.Bernoulli(0.5)).keep

  looped = np.stack([keep(k) for k in keys])
  if seed_axis:
    np.testing.assert_array_equal(jax.vmap(keep)(keys), looped)
  assert len({row.tobytes() for row in looped}) == 4
  legacy = jax.random.key_data(keys)  # uint32 [4, 4]
  np.testing.assert_array_equal(np.stack([keep(k) for k in legacy]), looped)


def test_masks_have_golden_values():
  # Guards a silent change of the sampling: saved runs rebuild their subnets.
  masks = kd.subnet_masks(
    jax.random.key(0), jnp.arange(2), 8, kd.Bernoulli(0.5)
  )
  golden = [
    [
      bool(b >> 31 == 0)
      for b in jax.random.bits(
        jax.random.fold_in(jax.random.key(0), i), (8,), jnp.uint32
      ).tolist()
    ]
    for i in range(2)
  ]
  assert masks.dense().tolist() == golden


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("pattern", [kd.Bernoulli, kd.ExactCount, kd.Blocks])
def test_the_rate_is_met(pattern, rate):
  masks = kd.subnet_masks(_KEY, jnp.arange(400), 1024, pattern(rate))
  kept = np.asarray(masks.dense())
  if rate in (0.0, 1.0):
    assert np.all(kept == (rate == 0.0))
    return
  want = 1 - rate
  if masks.num_kept is not None:
    count = 1024 // masks.block_size
    np.testing.assert_array_equal(
      kept.sum(1), masks.num_kept * masks.block_size
    )
    want = masks.num_kept / count
  # 400 masks x 32 blocks at the least: sd of the mean below .0045; each unit's
  # own share has sd .025. False alarms: 5.3 sd of 1024 x 15 units, 2e-3 for a
  # random key; this key is fixed.
  assert abs(kept.mean() - want) < 5.3 * 0.0045
  assert np.all(np.abs(kept.mean(0) - want) < 5.3 * 0.025)


def test_exact_counts_are_uniform_over_subsets():
  masks = kd.subnet_masks(_KEY, jnp.arange(12_000), 5, kd.ExactCount(0.6))
  subsets, counts = np.unique(
    np.asarray(masks.keep), axis=0, return_counts=True
  )
  assert len(subsets) == 10  # 5 choose 2
  # Chi-square with 9 degrees exceeds 47 with probability 4e-7.
  assert np.sum((counts - 1200) ** 2 / 1200) < 47


def test_units_of_a_bernoulli_mask_are_independent():
  kept = np.asarray(
    kd.subnet_masks(_KEY, jnp.arange(20_000), 6, kd.Bernoulli(0.5)).keep
  ).astype(float)
  correlation = np.corrcoef(kept.T) - np.eye(6)
  # sd 1 / sqrt(20,000) = .0071; 15 pairs beyond 5.5 sd: 6e-7.
  assert np.abs(correlation).max() < 5.5 * 0.0071


def test_blocks_drop_adjacent_units_together_up_to_the_ragged_edge():
  masks = kd.subnet_masks(_KEY, jnp.arange(50), 10, kd.Blocks(0.5, 4))
  kept = np.asarray(masks.dense())
  assert masks.keep.shape == (50, 3)
  assert masks.num_kept == 2  # floor(1.5 + .5)
  for start, stop in ((0, 4), (4, 8), (8, 10)):
    block = kept[:, start:stop]
    np.testing.assert_array_equal(block.all(1), block.any(1))
  assert set(kept.sum(1).tolist()) == {8, 6}  # with or without the edge


def test_layers_of_equal_width_get_different_masks():
  config = kd.MaskConfig(
    kd.Pooled(1, m=1), kd.Bernoulli(0.5), {"a": 256, "b": 256, "c": 256}, 8
  )
  masks = kd.layer_masks(0, _KEY, config)
  rows = np.stack([masks[n].dense()[0] for n in "abc"]).astype(float)
  agreement = [(rows[i] == rows[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
  # Half agree, sd .031: 5.3 sd.
  assert all(abs(a - 0.5) < 5.3 * 0.031 for a in agreement)


def test_a_layer_keeps_its_masks_when_another_comes():
  one = kd.MaskConfig(kd.Standard(), kd.Bernoulli(), {"b": 16}, 4)
  two = kd.MaskConfig(kd.Standard(), kd.Bernoulli(), {"a": 16, "b": 16}, 4)
  np.testing.assert_array_equal(
    kd.layer_masks(3, _KEY, one)["b"].keep,
    kd.layer_masks(3, _KEY, two)["b"].keep,
  )


def _pairs():
  """All pairs; by default each schedule once and each pattern once or twice."""
  for i, schedule in enumerate(_SCHEDULES):
    for j, pattern in enumerate(_PATTERNS):
      marks = () if j == i % len(_PATTERNS) else pytest.mark.slow
      name = f"{_name(pattern)}-{_name(schedule)}"
      yield pytest.param(schedule, pattern, id=name, marks=marks)


@pytest.mark.parametrize(("schedule", "pattern"), list(_pairs()))
def test_layer_masks_hold_the_laws_for_every_schedule(schedule, pattern):
  config = kd.MaskConfig(schedule, pattern, {"x": 24, "y": 24}, 8)
  chex.clear_trace_counter()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def masks_at(step, config):
    return kd.layer_masks(step, _KEY, config)

  steps = [masks_at(s, config) for s in range(8)]
  ids = [kd.subnet_ids(s, _KEY, schedule, 8).tolist() for s in range(8)]
  by_id = {}
  for masks, row in zip(steps, ids):
    prints = diagnostics.joint_subnets(masks)
    assert len(prints) == schedule.num_concurrent(8)
    for i, fingerprint in zip(row, prints):
      # One id, one joint subnet over all layers, at whatever step.
      assert by_id.setdefault(i, fingerprint) == fingerprint
  jumped = kd.layer_masks(5, _KEY, config)
  chex.assert_trees_all_equal(jumped, steps[5])


def test_a_pool_of_16_trains_at_most_16_joint_subnets():
  widths = {"hidden_1": 32, "hidden_2": 32}

  def joint(per_layer):
    schedule = kd.Pooled(16, m=4, per_layer=per_layer)
    config = kd.MaskConfig(schedule, kd.Bernoulli(), widths, 8)
    masks_at = jax.jit(lambda s: kd.layer_masks(s, _KEY, config))
    return len(
      {f for s in range(100) for f in diagnostics.joint_subnets(masks_at(s))}
    )

  assert joint(per_layer=False) == 16
  # A draw inside each layer: nearly all of the 16 x 16 pairs.
  assert joint(per_layer=True) > 150


@pytest.mark.parametrize("num_devices", [2, 4, 8])
def test_a_device_samples_its_own_rows_of_the_same_masks(num_devices):
  ids = kd.subnet_ids(3, _KEY, kd.Standard(), 16)
  whole = kd.subnet_masks(_KEY, ids, 40, kd.ExactCount(0.5)).keep
  parts = jax.pmap(
    lambda part: kd.subnet_masks(_KEY, part, 40, kd.ExactCount(0.5)).keep
  )(ids.reshape(num_devices, -1))
  np.testing.assert_array_equal(parts.reshape(16, 40), whole)


def test_no_schedule_stores_a_pool():
  """The jaxpr of a pool of a billion has no array larger than T x W."""
  config = kd.MaskConfig(
    kd.Pooled(10**9, m=4), kd.Bernoulli(), {"h": 64}, batch_size=8
  )
  jaxpr = jax.make_jaxpr(lambda s: kd.layer_masks(s, _KEY, config))(0)
  sizes = [
    np.prod(v.aval.shape) for eqn in jaxpr.jaxpr.eqns for v in eqn.outvars
  ]
  assert len(sizes) > 5
  assert max(sizes) <= 4 * 64


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"width": 0}, r"width must be >= 1, got 0"),
    ({"pattern": 0.5}, r"pattern must be Bernoulli"),
    ({"ids": jnp.zeros((2, 2), jnp.int32)}, r"ids must be integers \[T\]"),
    ({"ids": jnp.zeros((2,))}, r"ids must be integers \[T\], got float32"),
    ({"layer_key": jax.random.split(_KEY)}, r"layer_key must be a single key"),
    ({"layer_key": 3}, r"key must be a jax.random key"),
    (
      {"pattern": kd.CustomPattern(lambda k, w: jnp.ones((w + 1,), bool), 0.5)},
      r"fn of CustomPattern must return bool \[8\], got bool \[9\]",
    ),
    (
      {"pattern": kd.CustomPattern(lambda k, w: jnp.ones((w,)), 0.5)},
      r"fn of CustomPattern must return bool \[8\], got float32",
    ),
  ],
)
def test_refuses_wrong_arguments(arguments, message):
  good = {
    "layer_key": _KEY,
    "ids": jnp.arange(2),
    "width": 8,
    "pattern": kd.Bernoulli(),
  }
  with pytest.raises(ValueError, match=message):
    sampling.subnet_masks(**(good | arguments))


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: kd.Masks(jnp.ones((2, 3)), 3), r"masks must be bool, got float32"),
    (
      lambda: kd.Masks(jnp.ones((2, 3), bool), 4),
      r"must have shape \[T, 4\], got \(2, 3\)",
    ),
    (
      lambda: kd.Masks(jnp.ones((2, 3), bool), 3, num_kept=4),
      r"num_kept must be in \[0, 3\], got 4",
    ),
    (lambda: kd.Masks(jnp.ones((2, 3), bool), 0), r"width must be >= 1"),
  ],
)
def test_masks_refuse_a_wrong_shape(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def test_diagnostics_on_hand_made_masks():
  masks = kd.Masks(jnp.array([[True, True], [True, False], [False, False]]), 2)
  np.testing.assert_array_equal(diagnostics.density(masks), [1.0, 0.5, 0.0])
  # |a & b| / |a | b|: 1 of 2; nothing against something: 0; nothing twice: 1.
  np.testing.assert_array_equal(
    diagnostics.overlap(masks), [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
  )
