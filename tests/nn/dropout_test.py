"""The dropout modules: Flax's own without subnets, k-dropout with them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors
from flax import nnx

import kdropout_jax as kd

KEY = jax.random.key(3)
PATTERNS = {
  "bernoulli": kd.Bernoulli,
  "exact": kd.ExactCount,
  "blocks": functools.partial(kd.Blocks, block_size=3),
}


def inputs(*shape, dtype=jnp.float32):
  x = jax.random.normal(jax.random.key(1), shape) + 3.0
  return x.astype(dtype)


def linen_call(x, rate=0.5, kind="Dropout", *, deterministic=False, **settings):
  """Calls a linen module whose layer key, or step key, is KEY."""
  call = {
    name: settings.pop(name)
    for name in ("subnets", "masks", "assignment")
    if name in settings
  }
  module = getattr(kd.linen, kind)(rate, **settings)
  return module.apply({}, x, deterministic=deterministic, rng=KEY, **call)


def nnx_call(x, rate=0.5, kind="Dropout", *, deterministic=False, **settings):
  call = {
    name: settings.pop(name)
    for name in ("subnets", "masks", "assignment")
    if name in settings
  }
  module = getattr(kd.nnx, kind)(rate, **settings)
  return module(x, deterministic=deterministic, rngs=KEY, **call)


CALLS = {"linen": linen_call, "nnx": nnx_call}
pytestmark = pytest.mark.filterwarnings("ignore:an exact pattern keeps")
each_flavour = pytest.mark.parametrize("flavour", CALLS)


@pytest.mark.parametrize(
  "dims,dtype",
  [
    ((), "float32"),
    ((1,), "bfloat16"),
    ((0, 2), "float16"),
    ((-1,), "float32"),
  ],
)
def test_without_subnets_it_is_flax_dropout_bit_for_bit(dims, dtype):
  x = inputs(4, 5, 6, dtype=dtype)
  rngs = {"dropout": KEY, "noise": jax.random.key(9)}
  for stream in rngs:
    settings = dict(broadcast_dims=dims, rng_collection=stream)
    ours = kd.linen.Dropout(0.3, deterministic=False, **settings)
    flax = nn.Dropout(0.3, deterministic=False, **settings)
    a, b = (module.apply({}, x, rngs=rngs) for module in (ours, flax))
    assert a.dtype == x.dtype
    np.testing.assert_array_equal(a, b)
    ours, flax = (
      kind(0.3, **settings, rngs=nnx.Rngs(dropout=1, noise=2))
      for kind in (kd.nnx.Dropout, nnx.Dropout)
    )
    for _ in range(2):
      np.testing.assert_array_equal(ours(x), flax(x))


def test_nnx_dropout_leaves_the_keys_of_other_layers_alone():
  ours, flax = nnx.Rngs(0), nnx.Rngs(0)
  kd.nnx.Dropout(0.5, rngs=ours), nnx.Dropout(0.5, rngs=flax)
  assert ours.params() == flax.params()


@each_flavour
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("rescale", ["expected", "realised", "at_test"])
def test_flavours_equal_the_functional_core(flavour, name, rescale):
  x, ids = inputs(6, 8), jnp.array([5, 9, 5], jnp.uint32)
  masks = kd.subnet_masks(KEY, ids, 8, PATTERNS[name](0.5))
  expected = kd.dropout(x, masks, rate=0.5, rescale=rescale)
  settings = dict(pattern=PATTERNS[name], rescale=rescale)
  y = CALLS[flavour](x, subnets=ids, **settings)
  np.testing.assert_array_equal(y, expected)
  y = CALLS[flavour](x, masks=masks, **settings)
  np.testing.assert_array_equal(y, expected)
  expected = kd.dropout(x, masks, rate=0.5, rescale=rescale, row_layout="tiled")
  y = CALLS[flavour](x, subnets=ids, row_layout="tiled", **settings)
  np.testing.assert_array_equal(y, expected)
  slots = jnp.array([2, 0, 1, 1, 0, 2])
  expected = kd.dropout(x, masks, rate=0.5, rescale=rescale, assignment=slots)
  y = CALLS[flavour](x, subnets=ids, assignment=slots, **settings)
  np.testing.assert_array_equal(y, expected)
  at_test = CALLS[flavour](x, deterministic=True, **settings)
  scale = 0.5 if rescale == "at_test" else 1.0
  np.testing.assert_array_equal(at_test, x * scale)


@each_flavour
def test_bernoulli_masks_every_non_batch_element_unless_told_otherwise(flavour):
  x, ids = jnp.ones((4, 5, 6)), jnp.array([1, 2])
  every = CALLS[flavour](x, subnets=ids)
  assert (every[0, 0] != every[0, 1]).any()
  np.testing.assert_array_equal(every[0], every[1])
  assert (every[1] != every[2]).any()
  flat = kd.subnet_masks(KEY, ids, 30, kd.Bernoulli(0.5)).dense()
  np.testing.assert_array_equal(every[::2] > 0, flat.reshape(2, 5, 6))
  shared = CALLS[flavour](x, subnets=ids, broadcast_dims=(1,))
  np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], x.shape))
  assert (shared[0, 0] != shared[0, 0, 0]).any()
  rows = CALLS[flavour](
    jnp.ones((16, 5, 6)), subnets=jnp.arange(16), broadcast_dims=(1, -1)
  )
  assert set(rows.mean(axis=(1, 2)).tolist()) == {0.0, 2.0}
  exact = CALLS[flavour](x, subnets=ids, pattern=kd.ExactCount)
  np.testing.assert_array_equal(exact, np.broadcast_to(exact[:, :1], x.shape))


@each_flavour
def test_spatial_dropout_drops_whole_channels(flavour):
  x = jnp.ones((4, 3, 3, 16))
  for extra in ({}, {"subnets": jnp.array([1, 2])}):
    y = CALLS[flavour](x, kind="SpatialDropout", **extra)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], x.shape))
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y[0] != y[2]).any()
    assert (y[0] == y[1]).all() == bool(extra)
  masks = kd.subnet_masks(KEY, jnp.array([1, 2]), 16, kd.Bernoulli(0.5))
  np.testing.assert_array_equal(y, kd.spatial_dropout(x, masks, rate=0.5))
  with pytest.raises(ValueError, match=r"rank 3 or more, got shape \(4, 16\)"):
    CALLS[flavour](x[:, 0, 0], kind="SpatialDropout")


def test_nnx_spatial_dropout_has_no_broadcast_dims():
  with pytest.raises(ValueError, match="broadcast_dims of spatial dropout"):
    kd.nnx.SpatialDropout(0.5, broadcast_dims=(1,))


@each_flavour
@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("name", ["bernoulli", "blocks"])
def test_rates_0_and_1_are_exact_with_finite_gradients(flavour, rate, name):
  x = inputs(4, 6)
  for extra in ({}, {"subnets": jnp.array([1, 2])}):
    call = functools.partial(
      CALLS[flavour], rate=rate, pattern=PATTERNS[name], **extra
    )
    np.testing.assert_array_equal(call(x), x * (1.0 - rate))
    gradient = jax.grad(lambda x, call=call: call(x).sum())(x)
    np.testing.assert_array_equal(gradient, np.full(x.shape, 1.0 - rate))
    np.testing.assert_array_equal(call(x, deterministic=True), x)


@each_flavour
@pytest.mark.parametrize(
  "shape,dtype",
  [
    ((4,), "float32"),
    ((4, 6), "bfloat16"),
    ((4, 2, 6), "float16"),
    ((4, 1, 2, 3, 6), "float32"),
  ],
)
def test_any_rank_and_dtype(flavour, dtype, shape):
  x = inputs(*shape, dtype=dtype)
  y = CALLS[flavour](x, rate=0.25)
  assert y.dtype == x.dtype and y.shape == x.shape
  if len(shape) > 1:
    y = CALLS[flavour](x, rate=0.25, subnets=jnp.array([3]))
    assert y.dtype == x.dtype and y.shape == x.shape
    kept = np.asarray(y != 0)
    np.testing.assert_array_equal(y[kept], (x / 0.75)[kept])
    assert 0 < kept.mean() < 1


@each_flavour
def test_a_partial_batch_takes_the_first_rows_subnets(flavour):
  x, ids = inputs(8, 6), jnp.arange(4)
  full = CALLS[flavour](x, subnets=ids, batch_size=8)
  for rows in (3, 5, 7):
    part = CALLS[flavour](x[:rows], subnets=ids, batch_size=8)
    np.testing.assert_array_equal(part, full[:rows])
  with pytest.raises(ValueError, match="4 rows .* the first 2 of its 4 subnet"):
    CALLS[flavour](x[:4], subnets=ids, batch_size=8)
  slots = kd.assign_rows(4, 4, batch_size=8, first_row=4)
  part = CALLS[flavour](x[4:], subnets=ids, batch_size=8, assignment=slots)
  np.testing.assert_array_equal(part, full[4:])
  with pytest.raises(ValueError, match="at most batch_size=8 rows, got 9"):
    CALLS[flavour](inputs(9, 6), subnets=ids, batch_size=8)
  assert CALLS[flavour](x[:0], subnets=ids).shape == (0, 6)


@each_flavour
def test_other_patterns_without_subnets_give_each_row_its_own_mask(flavour):
  x = jnp.ones((32, 2, 12))
  y = np.asarray(CALLS[flavour](x, pattern=kd.ExactCount))
  assert (np.count_nonzero(y, axis=-1) == 6).all()
  np.testing.assert_array_equal(y[:, 0], y[:, 1])
  assert len(np.unique(y[:, 0], axis=0)) > 20


def test_the_per_step_key_cannot_slip_into_the_masks():
  x, ids = jnp.ones((4, 32)), jnp.array([6])
  layer = kd.linen.Dropout(0.5, deterministic=False)
  a, b = (
    layer.apply({}, x, subnets=ids, rngs={"subnets": KEY, "dropout": step})
    for step in jax.random.split(KEY)
  )
  np.testing.assert_array_equal(a, b)
  layer = kd.nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=0, subnets=1))
  np.testing.assert_array_equal(
    layer(x, subnets=ids, rngs=nnx.Rngs(5)), layer(x, subnets=ids)
  )
  layer(x)  # A conventional call moves the dropout stream, and only that.
  np.testing.assert_array_equal(
    layer(x, subnets=ids, rngs=nnx.Rngs(6)), layer(x, subnets=ids)
  )


def test_layers_of_one_width_have_different_masks():
  x, ids = jnp.ones((4, 64)), jnp.array([6])

  class Two(nn.Module):
    @nn.compact
    def __call__(self, x):
      layers = [kd.linen.Dropout(0.5, deterministic=False) for _ in range(2)]
      return [layer(x, subnets=ids) for layer in layers]

  a, b = Two().apply({}, x, rngs={"subnets": KEY})
  assert (a != b).any()
  for rngs in (nnx.Rngs(0), nnx.Rngs(dropout=0, subnets=1)):
    a, b = (kd.nnx.Dropout(0.5, rngs=rngs)(x, subnets=ids) for _ in range(2))
    assert (a != b).any()


def test_masks_are_those_that_a_call_applies():
  x, ids = inputs(4, 8), jnp.array([1, 2])

  class Site(nn.Module):
    @nn.compact
    def __call__(self, x):
      drop = kd.linen.Dropout(0.5, deterministic=False, pattern=kd.ExactCount)
      masks = drop.masks(8, ids)
      return masks, drop(x, masks=masks)

  masks, y = Site().apply({}, x, rngs={"subnets": KEY})
  np.testing.assert_array_equal(y, kd.dropout(x, masks, rate=0.5))
  assert masks.num_kept == 4
  drop = kd.nnx.Dropout(0.5, pattern=kd.ExactCount, rngs=nnx.Rngs(0))
  masks = drop.masks(8, ids)
  np.testing.assert_array_equal(
    drop(x, subnets=ids), kd.dropout(x, masks, rate=0.5)
  )


def test_a_key_of_another_implementation_gives_the_converted_masks():
  x, ids = jnp.ones((2, 32)), jnp.array([6])
  rbg = jax.random.key(5, impl="rbg")
  layer = kd.linen.Dropout(0.5, deterministic=False)
  y = layer.apply({}, x, subnets=ids, rng=rbg)
  masks = kd.subnet_masks(rbg, ids, 32, kd.Bernoulli(0.5))
  np.testing.assert_array_equal(y, kd.dropout(x, masks, rate=0.5))
  legacy = layer.apply({}, x, subnets=ids, rng=jax.random.PRNGKey(5))
  typed = layer.apply({}, x, subnets=ids, rng=jax.random.key(5))
  np.testing.assert_array_equal(legacy, typed)


def test_standard_equals_flax_dropout_in_distribution():
  """Keep counts of 4096 rows of 64 units: a chi-square of 9 bins.

  Its 1 - 1e-7 quantile at 8 degrees of freedom is 49.0 (scipy.stats.chi2).
  """
  rows, width, rate = 4096, 64, 0.3
  x = jnp.ones((rows, width))
  ids = kd.subnet_ids(11, KEY, kd.Standard(), rows)
  ours = linen_call(x, rate, subnets=ids)
  flax = nn.Dropout(rate, deterministic=False).apply(
    {}, x, rngs={"dropout": KEY}
  )
  edges = np.array([0, 39, 41, 43, 44, 46, 47, 49, 51, 65]) - 0.5
  for y in (ours, flax):
    assert set(np.unique(y)) == {0.0, np.float32(1.0) / np.float32(0.7)}
  counts = [
    np.histogram(np.count_nonzero(y, axis=1), edges)[0] for y in (ours, flax)
  ]
  assert min(map(min, counts)) > 100
  a, b = np.array(counts, float)
  assert ((a - b) ** 2 / (a + b)).sum() < 49.0
  assert len(np.unique(np.asarray(ours), axis=0)) == rows


def test_gradients_equal_flax_given_the_same_mask():
  x = inputs(4, 16)
  flax = nn.Dropout(0.3, deterministic=False)

  def loss(call, x):
    return (call(x) ** 3).sum()

  def flax_call(x):
    return flax.apply({}, x, rngs={"dropout": KEY})

  mask = flax_call(x) != 0

  def masked(x):
    return linen_call(x, 0.3, masks=mask)

  np.testing.assert_array_equal(
    jax.grad(functools.partial(loss, masked))(x),
    jax.grad(functools.partial(loss, flax_call))(x),
  )


def test_jit_vmap_and_steps_share_one_trace():
  x = jnp.ones((8, 16))
  layer = kd.linen.Dropout(0.5, deterministic=False)

  def call(step):
    ids = kd.subnet_ids(step, KEY, kd.Pooled(5, m=2), 8)
    return layer.apply({}, x, subnets=ids, rngs={"subnets": KEY})

  jitted = jax.jit(call)
  outs = jnp.stack([jitted(step) for step in range(5)])
  np.testing.assert_array_equal(outs, jax.vmap(call)(jnp.arange(5)))
  np.testing.assert_array_equal(outs[3], call(3))
  assert jitted._cache_size() == 1


def test_init_needs_no_stream_of_subnets():
  layer = kd.linen.Dropout(0.5, deterministic=False)
  assert layer.init(KEY, jnp.ones((2, 4)), subnets=jnp.array([0])) == {}


@each_flavour
@pytest.mark.parametrize(
  "settings,message",
  [
    (dict(rate=1.5), r"rate must be in \[0, 1\], got 1.5"),
    (dict(rate=float("nan")), r"rate must be in \[0, 1\], got nan"),
    (dict(pattern=0.5), r"pattern must be a pattern, such as kd.ExactCount"),
    (dict(pattern=lambda rate: rate), "pattern must be Bernoulli"),
    (dict(rescale="mean"), "rescale must be one of"),
    (dict(row_layout="rows"), "row_layout must be one of"),
    (dict(batch_size=0), "batch_size must be >= 1, got 0"),
    (dict(broadcast_dims=(3,)), "broadcast_dims must be axes of an input of"),
    (dict(subnets=jnp.ones(2)), "subnets must be the ids of this step's"),
    (dict(subnets=jnp.ones((2, 2), int)), r"integers \[T\] from kd.subnet_ids"),
    (dict(subnets=jnp.arange(2), masks=jnp.ones((2, 4), bool)), "not both"),
    (dict(assignment=jnp.arange(4)), "assignment needs subnets or masks"),
    (dict(masks=jnp.ones((2, 5), bool)), "masks have width 5, expected 4"),
    (dict(masks=jnp.ones((2, 4))), "masks must be bool, got float32"),
  ],
)
def test_bad_calls(flavour, settings, message):
  with pytest.raises(ValueError, match=message):
    CALLS[flavour](jnp.ones((4, 4)), **settings)


@each_flavour
def test_bad_inputs(flavour):
  with pytest.raises(ValueError, match=r"got shape \(4,\)"):
    CALLS[flavour](jnp.ones(4), subnets=jnp.arange(2))
  with pytest.raises(ValueError, match=r"got shape \(\)"):
    CALLS[flavour](jnp.ones(()), pattern=kd.ExactCount)
  with pytest.raises(ValueError, match="must be floating point, got int32"):
    CALLS[flavour](jnp.ones((4, 4), jnp.int32))
  settings = dict(broadcast_dims=(2,), pattern=kd.ExactCount())
  with pytest.raises(ValueError, match="broadcast_dims must leave the last"):
    CALLS[flavour](jnp.ones((4, 3, 4)), **settings)
  with pytest.raises(kd.UnsupportedError, match="gives all rows one mask"):
    CALLS[flavour](jnp.ones((4, 4)), subnets=jnp.arange(2), broadcast_dims=(0,))
  one = CALLS[flavour](
    jnp.ones((4, 4)), subnets=jnp.arange(1), broadcast_dims=(0,)
  )
  np.testing.assert_array_equal(one, np.broadcast_to(one[:1], (4, 4)))


def test_missing_streams_and_arguments_are_explained():
  x, ids = jnp.ones((2, 4)), jnp.array([0])
  layer = kd.linen.Dropout(0.5, deterministic=False, name="drop")
  message = "drop was given subnets, but no key stream named 'subnets'"
  for rngs in ({"dropout": KEY}, {"params": KEY}):
    with pytest.raises(ValueError, match=message):
      layer.apply({}, x, subnets=ids, rngs=rngs)
  with pytest.raises(
    ValueError, match=r"1. Pass the run-long(?s:.)*2. If a lifted(?s:.)*4. Pass"
  ):
    kd.nnx.Dropout(0.5)(x, subnets=ids)
  with pytest.raises(errors.InvalidRngError, match="dropout"):
    layer.apply({}, x)
  with pytest.raises(
    ValueError, match="is False, but no `rngs` argument was provided to Dropout"
  ):
    kd.nnx.Dropout(0.5)(x)
  with pytest.raises(TypeError, match="rngs must be a Rngs"):
    kd.nnx.Dropout(0.5, rngs=3)
  with pytest.raises(ValueError, match="deterministic"):
    kd.linen.Dropout(0.5).apply({}, x)
  with pytest.raises(ValueError, match="deterministic"):
    layer.apply({}, x, deterministic=True)
  with pytest.raises(
    ValueError, match="No `deterministic` argument was provided to Dropout"
  ):
    kd.nnx.Dropout(0.5, deterministic=None)(x)


def test_nnx_train_eval_and_view_set_deterministic():
  model = nnx.Sequential(kd.nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  x = jnp.ones((2, 64))
  model.eval()
  np.testing.assert_array_equal(model(x), x)
  model.train()
  assert (model(x) != x).any()
  np.testing.assert_array_equal(nnx.view(model, deterministic=True)(x), x)


def test_a_transform_that_holds_the_stream_back_is_told_by_its_remedy():
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x, ids):
      return kd.linen.Dropout(0.5, deterministic=False)(x, subnets=ids), None

  splits = {"params": True, "dropout": True}
  scan = nn.scan(Block, split_rngs=splits, in_axes=nn.broadcast, length=3)
  with pytest.raises(ValueError, match=r"split_rngs=\{'subnets': True\}"):
    scan().apply({}, inputs(2, 8), jnp.arange(1), rngs={"subnets": KEY})


def test_linen_modules_keep_their_run_key_in_a_bridge_to_nnx():
  """The bridge draws from every stream at each call."""

  class Model(nn.Module):
    @nn.compact
    def __call__(self, x, subnets=None):
      x = kd.linen.Dropout(0.5, deterministic=False)(x, subnets=subnets)
      return x, nn.Dropout(0.5, deterministic=False)(jnp.ones_like(x))

  x, ids = jnp.ones((2, 32)), jnp.array([5])
  layer = nnx.bridge.ToNNX(Model(), rngs=nnx.Rngs(0, subnets=1))
  layer.lazy_init(x, subnets=ids)
  (first, noise), (second, other) = layer(x, ids), layer(x, subnets=ids)
  np.testing.assert_array_equal(first, second)
  assert (noise != other).any()
  jitted = nnx.jit(lambda layer, ids: layer(x, ids)[0])
  np.testing.assert_array_equal(jitted(layer, ids), first)
  assert (jitted(layer, ids + 1) != first).any()


@pytest.mark.parametrize("rescale", ["expected", "realised", "at_test"])
def test_a_batch_of_symbolic_size_is_exported_as_flaxs_own(rescale):
  (rows,) = jax.export.symbolic_shape("b")
  shape = jax.ShapeDtypeStruct((rows, 8), jnp.float32)

  def call(x, key):
    layer = kd.linen.Dropout(0.5, rescale=rescale, deterministic=False)
    drop = layer.apply({}, x, rngs={"dropout": key})
    masks = jnp.arange(2)[:, None] == jnp.zeros((1, 8))
    return drop, kd.dropout(x, masks, rate=0.5)

  x = jnp.ones((4, 8))
  exported = jax.export.export(jax.jit(call))(shape, KEY).call(x, KEY)
  for got, expected in zip(exported, call(x, KEY)):
    np.testing.assert_array_equal(got, expected)


def test_batches_without_rows_come_back_without_rows():
  x, ids = jnp.ones((0, 8)), jnp.arange(2)
  for kwargs in ({}, {"subnets": ids}):
    for kind, last in (("Dropout", 8), ("DropConnectDense", 3)):
      settings = {"rngs": nnx.Rngs(0)}
      layer = (
        kd.nnx.Dropout(0.5, **settings)
        if kind == "Dropout"
        else kd.nnx.DropConnectDense(8, 3, **settings)
      )
      assert layer(x, **kwargs).shape == (0, last)
      module = getattr(kd.linen, kind)(
        *((0.5,) if kind == "Dropout" else (3,)), deterministic=False
      )
      rngs = {"params": KEY, "dropout": KEY, "subnets": KEY}
      y, _ = module.init_with_output(rngs, x, **kwargs)
      assert y.shape == (0, last)
  spatial = kd.linen.SpatialDropout(0.5, deterministic=False)
  assert spatial.apply({}, jnp.ones((0, 2, 8)), rng=KEY).shape == (0, 2, 8)
  masks = kd.subnet_masks(KEY, ids, 8, kd.Bernoulli(0.5))
  for layout in ("contiguous", "tiled"):
    assert kd.dropout(x, masks, rate=0.5, row_layout=layout).shape == (0, 8)
  dense = kd.linen.MaskedDense(3, row_layout="tiled")
  y, _ = dense.init_with_output(KEY, x, in_mask=masks)
  assert y.shape == (0, 3)
