"""`dropout` against a row-by-row numpy oracle, and against Flax's own."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax import functional
from kdropout_jax import rows as rows_lib
from tests import shapes
from tests import tolerance

_KEY = jax.random.key(5)


def masks_for(num_subnets, width, pattern=None):
  pattern = pattern or kd.Bernoulli(0.5)
  return kd.subnet_masks(_KEY, jnp.arange(num_subnets), width, pattern)


def oracle(x, keep, slots, scale):
  """Row r keeps the units of mask `slots[r]`, each times `scale`."""
  out = np.zeros_like(np.asarray(x, np.float64))
  for r, slot in enumerate(slots):
    out[r] = np.where(keep[slot], np.asarray(x[r], np.float64) * scale, 0.0)
  return out


@pytest.mark.parametrize("shape", [(8, 12), (7, 12), (1, 12), (4, 3, 12), (5, 2, 2, 12)])  # fmt: skip
@pytest.mark.parametrize("num_subnets", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("layout", ["contiguous", "tiled"])
def test_rows_get_the_masks_of_their_subnets(shape, num_subnets, layout):
  x = jax.random.normal(_KEY, shape)
  masks = masks_for(num_subnets, 12)
  got = kd.dropout(x, masks, rate=0.5, row_layout=layout)
  rows = range(shape[0])
  if layout == "contiguous":
    slots = [r * num_subnets // shape[0] for r in rows]
  else:
    slots = [r % num_subnets for r in rows]
  want = oracle(x, np.asarray(masks.dense()), slots, 2.0)
  np.testing.assert_array_equal(got, want)  # Twice a float is exact.


def test_an_empty_batch_passes():
  got = kd.dropout(jnp.zeros((0, 12)), masks_for(4, 12), rate=0.5)
  assert got.shape == (0, 12)


def test_a_shorter_batch_takes_the_first_rows_subnets():
  keep = masks_for(4, 6).dense()
  full = functional.row_masks(keep, 8)
  for layout in ("contiguous", "tiled"):
    full = functional.row_masks(keep, 8, layout)
    short = functional.row_masks(keep, 5, layout, batch_size=8)
    np.testing.assert_array_equal(short, full[:5])
  np.testing.assert_array_equal(
    functional.row_masks(keep, 4, "tiled", batch_size=8), full[:4]
  )
  ragged = functional.row_masks(keep, 3, batch_size=7)
  np.testing.assert_array_equal(ragged, keep[np.array([0, 0, 1])])
  with pytest.raises(ValueError, match="at most batch_size=8 rows, got 9"):
    functional.row_masks(keep, 9, batch_size=8)


def test_micro_batches_that_do_not_say_their_rows_are_refused_or_told():
  keep = masks_for(4, 6).dense()
  for rows, layout in ((4, "contiguous"), (1, "contiguous"), (2, "tiled")):
    with pytest.raises(ValueError, match="of its 4 subnets, in every micro-b"):
      functional.row_masks(keep, rows, layout, batch_size=8)
  rows_lib._warn_part.cache_clear()
  with pytest.warns(
    UserWarning, match="right for an epoch's last.*first_row="
  ) as found:
    for _ in range(2):
      functional.row_masks(keep, 3, batch_size=8)
  # In tests a call of the library passes the check of shapes.
  assert len(found) == 1
  assert found[0].filename in (__file__, shapes.__file__)
  with warnings.catch_warnings(action="error"):
    functional.row_masks(keep[:1], 4, batch_size=8)  # One subnet: all train it.
    functional.row_masks(keep, 7, batch_size=8)
    functional.row_masks(keep, 4, assignment=jnp.arange(4), batch_size=8)


def test_an_assignment_overrides_the_layout():
  x = jnp.ones((4, 6))
  masks = masks_for(3, 6)
  slots = jnp.array([2, 0, 2, 1])
  for layout in ("contiguous", "tiled"):
    got = kd.dropout(x, masks, rate=0.5, row_layout=layout, assignment=slots)
    np.testing.assert_array_equal(
      got, oracle(x, np.asarray(masks.keep), slots.tolist(), 2.0)
    )
  traced = jax.jit(lambda a: kd.dropout(x, masks, rate=0.5, assignment=a))(
    slots
  )
  np.testing.assert_array_equal(traced, got)


def test_expected_scaling_follows_what_an_exact_pattern_keeps():
  # 3 of 4 units, though 1 - rate is .7.
  masks = masks_for(2, 4, kd.ExactCount(0.3))
  got = kd.dropout(jnp.ones((2, 4)), masks, rate=0.3)
  tolerance.assert_sums_close(got.sum(1), [4.0, 4.0], 4)


def test_scaling_preserves_the_mean_over_subnets():
  x = jax.random.uniform(_KEY, (1, 16), minval=1.0, maxval=2.0)
  for pattern in (kd.Bernoulli(0.4), kd.ExactCount(0.4), kd.Blocks(0.5, 4)):
    masks = masks_for(20_000, 16, pattern)
    out = kd.dropout(jnp.repeat(x, 20_000, 0), masks, rate=pattern.rate)
    # A unit's mean has a relative sd of at most sqrt(.5/.5/20,000) = .0071.
    np.testing.assert_allclose(out.mean(0), x[0], rtol=5.5 * 0.0071)


def test_realised_scaling_divides_by_one_share_of_all_masks():
  keep = jnp.array([[True, True, True, False], [True, False, False, False]])
  x = jnp.arange(1.0, 9.0).reshape(2, 4)
  got = kd.dropout(x, keep, rate=0.5, rescale="realised")
  # Half of the eight flags are kept: everything times 2.
  np.testing.assert_array_equal(got, [[2, 4, 6, 0], [10, 0, 0, 0]])
  none = kd.dropout(x, jnp.zeros((2, 4), bool), rate=0.5, rescale="realised")
  np.testing.assert_array_equal(none, np.zeros((2, 4)))


def test_at_test_scaling_is_the_papers_formula():
  x = jnp.ones((2, 4))
  keep = jnp.array([[True, False, True, False]])
  train = kd.dropout(x, keep, rate=0.5, rescale="at_test")
  np.testing.assert_array_equal(train, [[1, 0, 1, 0]] * 2)
  test = kd.dropout(x, None, rate=0.25, rescale="at_test")
  np.testing.assert_array_equal(test, 0.75 * x)
  for rescale in ("expected", "realised"):
    np.testing.assert_array_equal(
      kd.dropout(x, None, rate=0.25, rescale=rescale), x
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rescale", ["expected", "realised", "at_test"])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_dtype_is_kept_and_gradients_are_finite(dtype, rescale, rate):
  x = jax.random.normal(_KEY, (4, 8)).astype(dtype)
  for pattern in (kd.Bernoulli(rate), kd.ExactCount(rate), kd.Blocks(rate, 4)):
    masks = masks_for(2, 8, pattern)

    def loss(x, masks=masks):
      return kd.dropout(x, masks, rate=rate, rescale=rescale).sum()

    out = kd.dropout(x, masks, rate=rate, rescale=rescale)
    assert out.dtype == dtype
    grads = jax.grad(loss)(x)
    assert np.all(np.isfinite(np.asarray(grads, np.float32)))
    if rate == 0.0:
      np.testing.assert_array_equal(out, x)
      np.testing.assert_array_equal(grads, jnp.ones_like(x))
    if rate == 1.0:
      np.testing.assert_array_equal(out, jnp.zeros_like(x))
      np.testing.assert_array_equal(grads, jnp.zeros_like(x))


def test_a_dropped_infinity_does_not_poison_the_gradient():
  x = jnp.array([[jnp.inf, 1.0]])
  keep = jnp.array([[False, True]])
  grad = jax.grad(lambda x: kd.dropout(x, keep, rate=0.5).sum())(x)
  np.testing.assert_array_equal(grad, [[0.0, 2.0]])


def test_block_masks_equal_their_dense_form():
  x = jax.random.normal(_KEY, (6, 10))
  masks = masks_for(3, 10, kd.Blocks(0.5, 4, exact=False))
  np.testing.assert_array_equal(
    kd.dropout(x, masks, rate=0.5), kd.dropout(x, masks.dense(), rate=0.5)
  )


def test_works_under_jit_vmap_scan_remat_and_grad():
  x = jax.random.normal(_KEY, (3, 4, 8))
  masks = masks_for(2, 8)

  def f(x):
    return kd.dropout(x, masks, rate=0.5)

  want = np.stack([f(row) for row in x])
  np.testing.assert_array_equal(jax.jit(jax.vmap(f))(x), want)
  np.testing.assert_array_equal(
    jax.lax.scan(lambda c, r: (c, f(r)), 0, x)[1], want
  )
  g = jax.grad(lambda r: jnp.sum(f(r) ** 2))(x[0])
  h = jax.grad(lambda r: jnp.sum(jax.checkpoint(f)(r) ** 2))(x[0])
  np.testing.assert_array_equal(g, h)


def test_spatial_dropout_drops_whole_channels():
  x = 1.0 + jax.random.uniform(_KEY, (4, 5, 5, 16))
  out = np.asarray(kd.spatial_dropout(x, masks_for(2, 16), rate=0.5))
  dropped = out == 0
  np.testing.assert_array_equal(dropped.all((1, 2)), dropped.any((1, 2)))
  np.testing.assert_array_equal(dropped[0], dropped[1])  # one subnet
  assert dropped.any()
  assert not dropped.all()
  with pytest.raises(ValueError, match="rank 3 or more, got shape"):
    kd.spatial_dropout(jnp.ones((4, 16)), masks_for(2, 16), rate=0.5)


def test_standard_keeps_as_many_units_as_flax():
  """Counts of kept units a row: the same binomial, the same scaling."""
  batch, width, rate = 512, 64, 0.3
  x = jnp.ones((batch, width))
  ours, flaxes = [], []
  layer = nn.Dropout(rate, deterministic=False)
  for step in range(8):
    ids = kd.subnet_ids(step, _KEY, kd.Standard(), batch)
    masks = kd.subnet_masks(_KEY, ids, width, kd.Bernoulli(rate))
    ours.append(kd.dropout(x, masks, rate=rate))
    rngs = {"dropout": jax.random.fold_in(_KEY, step)}
    flaxes.append(layer.apply({}, x, rngs=rngs))
  ours, flaxes = np.concatenate(ours), np.concatenate(flaxes)
  assert set(np.unique(ours)) == set(np.unique(flaxes))  # 0 and 1 / .7
  n = len(ours)
  for out in (ours, flaxes):
    counts = (out > 0).sum(1)
    # Binomial(64, .7): mean 44.8, variance 13.44. Over 4096 rows the mean has
    # sd .0573, the variance about 13.44 * sqrt(2 / 4096) = .297: 5.3 sd.
    assert abs(counts.mean() - 44.8) < 5.3 * 0.0573
    assert abs(counts.var() - 13.44) < 5.3 * 0.297
  shares = (ours > 0).mean(0) - (flaxes > 0).mean(0)
  assert np.abs(shares).max() < 5.5 * np.sqrt(2 * 0.21 / n)


def test_gradients_equal_flax_given_the_same_mask():
  x = jax.random.normal(_KEY, (8, 16))
  rngs = {"dropout": _KEY}
  layer = nn.Dropout(0.25, deterministic=False)
  keep = layer.apply({}, jnp.ones_like(x), rngs=rngs) > 0

  def ours(x):
    return jnp.sum(jnp.sin(kd.dropout(x, keep, rate=0.25)))

  def flaxes(x):
    return jnp.sum(jnp.sin(layer.apply({}, x, rngs=rngs)))

  np.testing.assert_array_equal(ours(x), flaxes(x))
  np.testing.assert_array_equal(jax.grad(ours)(x), jax.grad(flaxes)(x))


def test_warns_once_where_rounding_moves_the_rate():
  functional._warn_if_far.cache_clear()
  x = jnp.ones((2, 3))
  masks = masks_for(2, 3, kd.Blocks(0.5, 2))  # 1 of 2 blocks: exactly half
  kd.dropout(x, masks, rate=0.5)
  masks = masks_for(2, 3, kd.ExactCount(0.5))  # 2 of 3: a third too many
  with pytest.warns(UserWarning, match="keeps 2 of 3 blocks") as caught:
    kd.dropout(x, masks, rate=0.5)
    kd.dropout(x, masks, rate=0.5)
  assert len(caught) == 1


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"x": jnp.ones((4, 5))}, r"masks have width 6, expected 5"),
    ({"x": jnp.ones((6,))}, r"x must have rows as its leading axis"),
    (
      {"x": jnp.ones((4, 6), jnp.int32)},
      r"x must be floating point, got int32",
    ),
    ({"masks": jnp.ones((2, 6))}, r"masks must be bool, got float32"),
    ({"masks": jnp.ones((6,), bool)}, r"masks must be Masks or bool \[T, 6\]"),
    ({"masks": "all"}, r"masks must be Masks or bool \[T, 6\], got str"),
    ({"rate": 1.5}, r"rate must be in \[0, 1\], got 1.5"),
    ({"rate": float("nan")}, r"rate must be in \[0, 1\], got nan"),
    ({"rescale": "none"}, r"rescale must be one of .*, got 'none'"),
    ({"row_layout": "rows"}, r"row_layout must be one of .*, got 'rows'"),
    ({"assignment": jnp.zeros((3,), jnp.int32)}, r"must have shape \[4\]"),
    ({"assignment": jnp.zeros((4,))}, r"assignment must be integers"),
    (
      {"assignment": jnp.array([0, 1, 2, 0])},
      r"slots in \[0, 2\), got values from 0 to 2",
    ),
  ],
)
def test_refuses_wrong_arguments(arguments, message):
  good = {
    "x": jnp.ones((4, 6)),
    "masks": jnp.ones((2, 6), bool),
    "rate": 0.5,
  }
  arguments = good | arguments
  with pytest.raises(ValueError, match=message):
    kd.dropout(arguments.pop("x"), arguments.pop("masks"), **arguments)


@pytest.mark.parametrize("groups", [1, 3, 4, 8, 11])
@pytest.mark.parametrize("row_layout", ["contiguous", "tiled"])
def test_assigned_rows_are_those_of_the_full_batch(groups, row_layout):
  """By the rule itself: r * T // B, or r % T."""
  full = np.array(
    [r % groups if row_layout == "tiled" else r * groups // 8 for r in range(8)]
  )
  call = jax.jit(
    lambda first: kd.assign_rows(
      3, groups, batch_size=8, first_row=first, row_layout=row_layout
    )
  )
  for first in range(6):
    np.testing.assert_array_equal(call(first), full[first : first + 3])
  with pytest.raises(ValueError, match=r"first_row must be in \[0, 5\] for 3"):
    kd.assign_rows(3, groups, batch_size=8, first_row=6)


def test_a_rate_may_be_a_scalar_of_any_kind():
  for rate in (np.float32(0.25), jnp.float32(0.25), np.array(0.25)):
    assert kd.Bernoulli(rate) == kd.Bernoulli(0.25)
  for wrong in (np.True_, jnp.array([0.5]), "0.5", jnp.float32("nan")):
    with pytest.raises(ValueError, match="rate must be"):
      kd.Bernoulli(wrong)


def test_kl_sparsity_is_the_divergence_of_means(key):
  x = jax.random.uniform(key, (30, 5, 4), minval=0.2, maxval=0.8)
  mean, target = np.asarray(x, np.float64).mean(axis=(0, 1)), 0.1
  expected = target * np.log(target / mean)
  expected += (1 - target) * np.log((1 - target) / (1 - mean))
  found = kd.kl_sparsity(x, target)
  tolerance.assert_sums_close(found, expected.sum(), 150 + 4)
  at_target = jax.grad(kd.kl_sparsity)(jnp.full((3, 2), 0.25), 0.25)
  np.testing.assert_allclose(at_target, 0.0, atol=1e-6)


def test_kl_sparsity_pulls_units_back_from_outside():
  """A ReLU may be off, or active at more than 1 on average."""
  x = jnp.array([[0.0, 7.0, 0.05]] * 4)
  value, slope = jax.value_and_grad(kd.kl_sparsity)(x, 0.05)
  assert np.isfinite(value)
  assert (slope[:, 0] < 0).all() and (slope[:, 1] > 0).all()
  margins = kd.kl_sparsity(jnp.array([[0.01, 0.99, 0.05]]), 0.05)
  tolerance.assert_sums_close(value, margins, 4 + 3)
  for name, wrong in (("target", 0.0), ("target", 1.0), ("margin", 0.5)):
    with pytest.raises(ValueError, match=rf"{name} must be in \(0, .*{wrong}"):
      kd.kl_sparsity(x, **{name: wrong})
