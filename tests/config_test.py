"""Construction of schedules and patterns: refusals, counts, pytrees."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax import patterns


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: kd.Sequential(k=0), r"k must be >= 1, got 0"),
    (lambda: kd.Sequential(k=2.5), r"k must be an integer, got 2.5"),
    (lambda: kd.Sequential(k=True), r"k must be an integer, got True"),
    (lambda: kd.Sequential(k=None), r"k must be an integer, got None"),
    (
      lambda: kd.Sequential(k=jnp.array([3, 0])),
      r"k must be >= 1, got \[3 0\]",
    ),
    (lambda: kd.Sequential(k=np.float32([1])), r"k must be an integer"),
    (lambda: kd.Sequential(k=2**31), r"k must be < 2\*\*31, got 2147483648"),
    (lambda: kd.Sequential(m=0), r"m must be >= 1, got 0"),
    (lambda: kd.Sequential(m=1.0), r"m must be an integer, got 1.0"),
    (lambda: kd.Pooled(pool_size=0), r"pool_size must be >= 1, got 0"),
    (lambda: kd.Pooled(m=-1), r"m must be >= 1, got -1"),
    (
      lambda: kd.Pooled(pool_size=4, m=5, replacement=False),
      r"m must be <= pool_size without replacement, got m=5, pool_size=4",
    ),
    (
      lambda: kd.Gyro(total=4, concurrent=8, num_steps=10),
      r"concurrent must be <= total, got concurrent=8, total=4",
    ),
    (lambda: kd.Gyro(8, 4, num_steps=0), r"num_steps must be >= 1, got 0"),
    (lambda: kd.Gyro(8, 4, num_steps=2**31), r"num_steps must be < 2\*\*31"),
    (lambda: kd.Gyro(0, 4, num_steps=9), r"total must be >= 1, got 0"),
    (
      lambda: kd.Gyro(8, 4, num_steps=9, scheduling="rand"),
      r"scheduling must be one of \('consecutive', 'random'\), got 'rand'",
    ),
    (
      lambda: kd.Gyro(8, 4, num_steps=9, rows_per_subnet=0),
      r"rows_per_subnet must be >= 1, got 0",
    ),
    (lambda: kd.Bernoulli(-0.1), r"rate must be in \[0, 1\], got -0.1"),
    (lambda: kd.Bernoulli(1.1), r"rate must be in \[0, 1\], got 1.1"),
    (lambda: kd.ExactCount(math.nan), r"rate must be in \[0, 1\], got nan"),
    (lambda: kd.ExactCount("a"), r"rate must be a number, static, got 'a'"),
    (lambda: kd.Blocks(0.5, block_size=0), r"block_size must be >= 1, got 0"),
    (lambda: kd.CustomPattern(3, 0.5), r"fn must be callable, got 3"),
    (
      lambda: kd.MaskConfig(kd.Standard(), kd.Bernoulli(), {"h": 0}, 8),
      r"widths\['h'\] must be >= 1, got 0",
    ),
    (
      lambda: kd.MaskConfig(kd.Standard(), kd.Bernoulli(), {}, 8),
      r"widths must name at least one layer",
    ),
    (
      lambda: kd.MaskConfig(kd.Standard(), kd.Bernoulli(), {"h": 4}, 0),
      r"batch_size must be >= 1, got 0",
    ),
    (
      lambda: kd.MaskConfig("seq", kd.Bernoulli(), {"h": 4}, 8),
      r"schedule must be Standard, Sequential, Pooled or Gyro, got 'seq'",
    ),
    (
      lambda: kd.MaskConfig(kd.Standard(), 0.5, {"h": 4}, 8),
      r"pattern must be Bernoulli, ExactCount, Blocks, Gaussian or",
    ),
  ],
)
def test_refuses_a_wrong_configuration(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def test_gyro_needs_the_steps_that_its_windows_share_out():
  with pytest.raises(TypeError, match="argument: 'num_steps'"):
    kd.Gyro(total=8, concurrent=4)


def test_an_unhashable_custom_function_is_refused():
  class Unhashable:
    __hash__ = None

    def __call__(self, key, width):
      return jnp.ones((width,), bool)

  with pytest.raises(ValueError, match="fn must be hashable"):
    kd.CustomPattern(Unhashable(), 0.5)


@pytest.mark.parametrize(
  ("k", "subnets"),
  # Table 1 of the k-dropout paper.
  [(1, 29100), (5, 5820), (15, 1940), (50, 582), (97, 300), (485, 60),
   (970, 30), (2425, 12), (4850, 6), (9700, 3), (29100, 1)],
)  # fmt: skip
def test_sequential_counts_are_table_1(k, subnets):
  assert kd.Sequential(k=k, m=1).num_subnets(29_100, 512) == subnets


def test_counts_of_the_other_schedules():
  assert kd.Standard().num_subnets(29_100, 512) == 14_899_200
  assert kd.Pooled(50, m=512).num_subnets(29_100, 512) == 50
  assert kd.Pooled(10**6, m=1).num_subnets(29_100, 512) == 29_100
  assert kd.Gyro(1024, 8, num_steps=29_100).num_subnets(29_100, 512) == 1024
  # Six windows are reached of 128: q = 0, so each step is a window.
  assert kd.Gyro(1024, 8, num_steps=6).num_subnets(6, 512) == 48
  # Two rows cannot train more than two of the five slots.
  assert kd.Sequential(k=1, m=5).num_subnets(3, 2) == 6


def test_counting_needs_one_concrete_k():
  with pytest.raises(ValueError, match="k must be a single concrete integer"):
    kd.Sequential(k=jnp.array([1, 2])).num_subnets(10, 8)


def test_a_run_with_too_many_ids_is_refused():
  with pytest.raises(ValueError, match=r"at most 2\*\*32 subnet ids"):
    kd.Standard().num_subnets(2**24, 257)
  assert kd.Standard().num_subnets(2**24, 256) == 2**32
  with pytest.raises(ValueError, match=r"at most 2\*\*32 subnet ids"):
    kd.Sequential(k=1, m=1024).num_subnets(2**23, 2048)
  with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
    kd.Standard().num_subnets(0, 8)


def test_concurrent_subnets_of_block_wise_gyro():
  gyro = kd.Gyro(64, 8, num_steps=100, rows_per_subnet=128)
  assert [gyro.num_concurrent(b) for b in (1, 128, 256, 512, 4096)] == [
    1, 1, 2, 4, 8,
  ]  # fmt: skip


def test_k_is_data_and_m_is_static():
  schedule = kd.Sequential(k=97, m=2)
  leaves, treedef = jax.tree.flatten(schedule)
  assert leaves == [97]
  # Unflattening takes any placeholder: it never checks.
  assert jax.tree.unflatten(treedef, [object()]).m == 2
  assert jax.tree.map(lambda _: 0, schedule).k == 0
  assert jax.tree.leaves(kd.Gyro(8, 4, num_steps=9)) == []
  paths = jax.tree_util.tree_flatten_with_path(kd.Pooled(7, m=1))[0]
  assert jax.tree_util.keystr(paths[0][0]) == ".pool_size"


def test_mask_config_is_hashable_and_sorted():
  one = kd.MaskConfig(kd.Pooled(9), kd.Blocks(0.5), {"b": 4, "a": 8}, 16)
  two = kd.MaskConfig(kd.Pooled(9), kd.Blocks(0.5), {"a": 8, "b": 4}, 16)
  assert hash(one) == hash(two)
  assert one == two
  assert one.widths == (("a", 8), ("b", 4))
  assert jax.tree.leaves(one) == [9]


@pytest.mark.parametrize(
  ("pattern", "width", "kept"),
  [
    (kd.ExactCount(0.5), 5, 3),  # floor(2.5 + .5)
    (kd.ExactCount(0.5), 1, 1),
    (kd.ExactCount(0.9), 4, 1),  # floor(.4 + .5) = 0, but at least one
    (kd.ExactCount(0.0), 4, 4),
    (kd.ExactCount(1.0), 4, 0),
    (kd.Blocks(0.5, 32), 100, 2),  # of 4 blocks
    (kd.Blocks(0.5, 32), 96, 2),  # of 3: floor(1.5 + .5)
    (kd.Blocks(0.5, 128), 100, 1),
    (kd.Blocks(0.5, 32, exact=False), 100, None),
    (kd.Bernoulli(0.5), 100, None),
  ],
)
def test_exact_patterns_keep_at_least_one(pattern, width, kept):
  assert pattern.num_kept(width) == kept


def test_rate_accepts_whole_and_numpy_numbers():
  assert kd.Bernoulli(1).rate == 1.0
  assert isinstance(kd.Bernoulli(np.float32(0.5)).rate, float)
  with pytest.raises(ValueError, match="static"):
    jax.jit(lambda r: patterns.check_rate(r))(0.5)
