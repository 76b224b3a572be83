"""Masks of many steps at once are those of each step, and modules take them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import kdropout_jax as kd
from kdropout_jax.masks import schedules

pytestmark = pytest.mark.usefixtures("strict_dtypes")

_KEY = jax.random.key(2)
_SCHEDULES = [
  kd.Standard(),
  kd.Sequential(k=1, m=2),
  kd.Sequential(k=3, m=2),
  kd.Sequential(k=100, m=1),
  kd.Pooled(50, m=3, per_layer=True),
  kd.Gyro(9, 4, num_steps=8),
  kd.Gyro(10, 4, num_steps=20),
  kd.Gyro(10, 4, num_steps=8, rows_per_subnet=4),
  kd.Gyro(1000, 4, num_steps=1000, replacement=True, per_layer=True),
  kd.Gyro(10, 4, num_steps=8, scheduling="random"),
]


def config_of(schedule):
  widths = {"x": 24, "y": 16}
  return kd.MaskConfig(schedule, kd.ExactCount(0.5), widths, batch_size=8)


@pytest.mark.parametrize(
  "schedule",
  [
    pytest.param(s, marks=() if i % 2 else pytest.mark.slow)
    for i, s in enumerate(_SCHEDULES)
  ],
  ids=repr,
)
def test_slice_s_is_what_step_s_trains(schedule):
  config, count = config_of(schedule), 7

  @jax.jit
  def compare(start):
    ahead = kd.masks_for_steps(start, count, _KEY, config)
    steps = start + jnp.arange(count, dtype=jnp.int32)
    each = jax.lax.map(lambda s: kd.layer_masks(s, _KEY, config), steps)
    return ahead, each

  for start in (0, 1, 5, 30):  # Gyro's runs end at 8 or 20: also past the end.
    ahead, each = compare(jnp.int32(start))
    assert jax.tree.structure(ahead) == jax.tree.structure(each)
    for got, want in zip(jax.tree.leaves(ahead), jax.tree.leaves(each)):
      np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
  ("schedule", "count", "distinct"),
  [
    (kd.Sequential(k=97, m=1), 97, 2),  # a window and the rest of another
    (kd.Sequential(k=97, m=1), 98, 2),
    (kd.Sequential(k=97, m=1), 99, 3),
    (kd.Sequential(k=1, m=1), 6, 6),
    (kd.Sequential(k=jnp.array(4), m=1), 5, 2),
    (kd.Gyro(8, 4, num_steps=9), 5, 2),  # windows of 5 and 4 steps
    (kd.Standard(), 6, 6),
  ],
  ids=repr,
)
def test_steps_of_a_window_stand_for_each_other(schedule, count, distinct):
  for start in (0, 3, 96, 97):
    steps = start + jnp.arange(count, dtype=jnp.uint32)
    some, places = schedules.distinct_steps(steps, schedule)
    assert some.shape == (distinct,)
    if places is None:
      continue
    ids = jax.vmap(lambda s: kd.subnet_ids(s, _KEY, schedule, 8))
    np.testing.assert_array_equal(ids(some)[places], ids(steps))


def test_a_traced_k_samples_each_step():
  steps = jnp.arange(6, dtype=jnp.uint32)

  @jax.jit
  def distinct(schedule):
    return schedules.distinct_steps(steps, schedule)[0]

  assert distinct(kd.Sequential(k=3)).shape == (6,)


def test_refuses_a_wrong_count_and_start():
  config = config_of(kd.Standard())
  with pytest.raises(ValueError, match="count must be >= 1, got 0"):
    kd.masks_for_steps(0, 0, _KEY, config)
  with pytest.raises(ValueError, match="start must be >= 0, got -1"):
    kd.masks_for_steps(-1, 2, _KEY, config)


def linen_layer(kind, *sizes, **call):
  return getattr(kd.linen, kind)(*sizes).apply({}, deterministic=False, **call)


def nnx_layer(kind, *sizes, **call):
  del call["rng"]
  layer = getattr(kd.nnx, kind)(*sizes, rngs=nnx.Rngs(0))
  return layer(deterministic=False, **call)


@pytest.mark.parametrize("layer", [linen_layer, nnx_layer])
@pytest.mark.parametrize("kind", ["Dropout", "SpatialDropout"])
def test_modules_take_masks_in_the_place_of_ids(layer, kind):
  x = jnp.ones((4, 2, 6), jnp.float32)
  masks = kd.subnet_masks(_KEY, jnp.arange(2), 6, kd.ExactCount(0.5))
  call = {"inputs": x, "rng": None}
  got = layer(kind, 0.5, subnets=masks, **call)
  want = kd.dropout(x, masks, rate=0.5)
  np.testing.assert_array_equal(got, want)
  with pytest.raises(ValueError, match="subnets or masks, not both"):
    layer(kind, 0.5, subnets=masks, masks=masks, **call)
  wrong = kd.subnet_masks(_KEY, jnp.arange(2), 5, kd.ExactCount(0.5))
  with pytest.raises(ValueError, match="masks have width 5"):
    layer(kind, 0.5, subnets=wrong, **call)


def test_masks_are_handed_on_and_weights_take_them():
  masks = kd.subnet_masks(_KEY, jnp.arange(2), 20, kd.Bernoulli(0.5))
  site = kd.linen.Dropout(0.5)
  assert site.apply({}, 20, masks, method="masks") is masks
  assert kd.nnx.Dropout(0.5).masks(20, masks) is masks
  x = jnp.ones((4, 4), jnp.float32)
  layer = kd.linen.DropConnectDense(4, rate=0.5, deterministic=False)
  variables: Any = layer.init(_KEY, x, subnets=masks)
  kernel, bias = (variables["params"][name] for name in ("kernel", "bias"))
  got = layer.apply(variables, x, subnets=masks)
  want = kd.drop_connect(x, kernel, bias, masks, rate=0.5)
  np.testing.assert_array_equal(got, want)
