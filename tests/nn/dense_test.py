"""MaskedDense and DropConnectDense, linen and nnx, against plain products."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import kdropout_jax as kd
from tests import tolerance

KEY = jax.random.key(3)
ROWS, INS, OUTS, SUBNETS = 6, 8, 4, 3
X = jax.random.normal(jax.random.key(1), (ROWS, INS))
W = jax.random.normal(jax.random.key(2), (INS, OUTS))
BIAS = jnp.array([0.5, -1.0, 2.0, 0.1])
IN = kd.subnet_masks(
  jax.random.key(4), jnp.arange(SUBNETS), INS, kd.ExactCount(0.5)
)
OUT = kd.subnet_masks(
  jax.random.key(5), jnp.arange(SUBNETS), OUTS, kd.ExactCount(0.5)
)


def linen_layer(kind, use_bias=True, **settings):
  module = getattr(kd.linen, kind)(OUTS, use_bias=use_bias, **settings)
  params = {"kernel": W, "bias": BIAS} if use_bias else {"kernel": W}
  return functools.partial(module.apply, {"params": params})


def nnx_layer(kind, use_bias=True, **settings):
  module = getattr(kd.nnx, kind)(
    INS, OUTS, use_bias=use_bias, rngs=nnx.Rngs(0), **settings
  )
  module.kernel[...] = W
  if use_bias:
    module.bias[...] = BIAS

  def call(x, rng=None, **kwargs):
    if rng is not None:
      kwargs["rngs"] = rng
    return module(x, **kwargs)

  return call


def affine(x, activation=None):
  y = np.asarray(x) @ np.asarray(W) + np.asarray(BIAS)
  return np.maximum(y, 0) if activation else y


LAYERS = {"linen": linen_layer, "nnx": nnx_layer}
each_flavour = pytest.mark.parametrize("flavour", LAYERS)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_masks_it_is_the_dense_layer_of_flax(use_bias, dtype):
  settings = dict(use_bias=use_bias, dtype=dtype)
  ours, flax = (
    kind(OUTS, **settings) for kind in (kd.linen.MaskedDense, nn.Dense)
  )
  ours_vars, flax_vars = (module.init(KEY, X) for module in (ours, flax))
  jax.tree.map(np.testing.assert_array_equal, ours_vars, flax_vars)
  np.testing.assert_array_equal(
    ours.apply(flax_vars, X), flax.apply(flax_vars, X)
  )
  ours, flax = (
    kind(INS, OUTS, rngs=nnx.Rngs(0), **settings)
    for kind in (kd.nnx.MaskedDense, nnx.Linear)
  )
  np.testing.assert_array_equal(ours(X), flax(X))


@each_flavour
@pytest.mark.parametrize("implementation", ["auto", "dense", "compact"])
@pytest.mark.parametrize("activation,positions", [(None, ()), ("relu", (2,))])
def test_masks_on_both_sides(flavour, activation, implementation, positions):
  x = jnp.stack([X, 2 * X], axis=1) if positions else X
  layer = LAYERS[flavour](
    "MaskedDense", activation=activation, implementation=implementation
  )
  rows = np.arange(ROWS) // 2
  ins, outs = (np.asarray(m.dense())[rows] for m in (IN, OUT))
  if positions:
    ins, outs = ins[:, None], outs[:, None]
  y = affine(np.asarray(x) * ins, activation)
  tolerance.assert_sums_close(
    layer(x, in_mask=IN, out_mask=OUT), y * outs, INS + 1
  )
  if implementation != "compact":  # Bool masks have no exact count.
    y = affine(x, activation) * outs
    tolerance.assert_sums_close(layer(x, out_mask=OUT.dense()), y, INS + 1)


@each_flavour
@pytest.mark.parametrize(
  "settings,call,rows,slots",
  [
    (dict(row_layout="tiled"), {}, ROWS, [0, 1, 2, 0, 1, 2]),
    (
      {},
      dict(assignment=jnp.array([2, 2, 0, 1, 0, 1])),
      ROWS,
      [2, 2, 0, 1, 0, 1],
    ),
    (dict(batch_size=6), {}, 5, [0, 0, 1, 1, 2]),
    (dict(precision="highest"), {}, ROWS, [0, 0, 1, 1, 2, 2]),
  ],
)
def test_other_rows_are_masked_densely(flavour, settings, call, rows, slots):
  layer = LAYERS[flavour]("MaskedDense", activation="relu", **settings)
  ins, outs = (np.asarray(m.dense())[slots] for m in (IN, OUT))
  y = affine(np.asarray(X[:rows]) * ins, "relu") * outs
  out = layer(X[:rows], in_mask=IN, out_mask=OUT, **call)
  tolerance.assert_sums_close(out, y, INS + 1)
  layer = LAYERS[flavour]("MaskedDense", implementation="compact", **settings)
  with pytest.raises(kd.UnsupportedError, match="needs contiguous rows"):
    layer(X[:rows], in_mask=IN, **call)


@each_flavour
def test_one_subnet_needs_no_rule_of_rows(flavour):
  one = kd.subnet_masks(KEY, jnp.array([1]), INS, kd.ExactCount(0.5))
  for settings in (dict(row_layout="tiled"), dict(batch_size=9)):
    layer = LAYERS[flavour]("MaskedDense", implementation="compact", **settings)
    expected = affine(X * one.dense())
    tolerance.assert_sums_close(layer(X, in_mask=one), expected, INS + 1)


@each_flavour
def test_gradients_of_dropped_units_are_zero(flavour):
  layer = LAYERS[flavour]("MaskedDense")
  gradient = jax.grad(lambda x: layer(x, in_mask=IN, out_mask=OUT).sum())(X)
  rows = np.arange(ROWS) // 2
  ins, outs = (np.asarray(m.dense())[rows] for m in (IN, OUT))
  tolerance.assert_sums_close(gradient, (outs @ np.asarray(W).T) * ins, OUTS)


@each_flavour
@pytest.mark.parametrize(
  "settings,call,message",
  [
    (dict(activation="tanh"), {}, "activation must be 'relu' or None"),
    (dict(row_layout="rows"), {}, "row_layout must be one of"),
    (dict(batch_size=0), {}, "batch_size must be >= 1"),
    (
      {},
      dict(assignment=jnp.arange(ROWS)),
      "assignment needs in_mask or out_mask",
    ),
    ({}, dict(in_mask=OUT), "width 4"),
    (dict(row_layout="tiled"), dict(in_mask=OUT), "width 4, expected 8"),
  ],
)
def test_bad_calls_of_masked_dense(flavour, settings, call, message):
  with pytest.raises(ValueError, match=message):
    LAYERS[flavour]("MaskedDense", **settings)(X, **call)


def connect(x, masks, slots, scale, use_bias=True):
  """An oracle for DropConnect: one row after the other, in float64."""
  x, w, b = (np.asarray(a, np.float64) for a in (x, W, BIAS))
  rows = []
  for row, slot in zip(x, slots):
    mask = np.asarray(masks[slot])
    weights = w * mask[: INS * OUTS].reshape(INS, OUTS) * scale
    rows.append(
      row @ weights + (b * mask[INS * OUTS :] * scale if use_bias else 0)
    )
  return np.stack(rows)


@each_flavour
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
  "settings,call,rows,slots",
  [
    ({}, {}, ROWS, [0, 0, 1, 1, 2, 2]),
    ({}, {}, 5, [0, 0, 1, 1, 2]),
    (dict(batch_size=6), {}, 4, [0, 0, 1, 1]),
    (dict(row_layout="tiled"), {}, ROWS, [0, 1, 2, 0, 1, 2]),
    (
      {},
      dict(assignment=jnp.array([2, 2, 0, 1, 0, 1])),
      ROWS,
      [2, 2, 0, 1, 0, 1],
    ),
  ],
)
def test_drop_connect_masks_weights_and_biases_by_subnet(
  flavour, use_bias, settings, call, rows, slots
):
  ids = jnp.array([5, 6, 9])
  layer = LAYERS[flavour](
    "DropConnectDense", use_bias, rate=0.25, deterministic=False, **settings
  )
  y = layer(X[:rows], subnets=ids, rng=KEY, **call)
  width = INS * OUTS + OUTS if use_bias else INS * OUTS
  masks = kd.subnet_masks(KEY, ids, width, kd.Bernoulli(0.25))
  expected = connect(X[:rows], masks.dense(), slots, 1 / 0.75, use_bias)
  tolerance.assert_sums_close(y, expected, INS + 1)
  y = kd.drop_connect(
    X[:rows],
    W,
    BIAS if use_bias else None,
    masks,
    rate=0.25,
    **settings,
    **call,
  )
  tolerance.assert_sums_close(y, expected, INS + 1)


@each_flavour
def test_drop_connect_without_subnets_masks_each_row_by_itself(flavour):
  layer = LAYERS[flavour]("DropConnectDense", deterministic=False)
  y = layer(jnp.ones((ROWS, INS)), rng=KEY)
  assert len(np.unique(np.asarray(y), axis=0)) == ROWS
  masks = kd.subnet_masks(
    KEY, jnp.arange(ROWS), INS * OUTS + OUTS, kd.Bernoulli(0.5)
  )
  expected = connect(np.ones((ROWS, INS)), masks.dense(), range(ROWS), 2.0)
  tolerance.assert_sums_close(y, expected, INS + 1)


@each_flavour
@pytest.mark.parametrize("rescale", ["expected", "realised", "at_test"])
def test_drop_connect_rescaling_and_mean_inference(flavour, rescale):
  layer = LAYERS[flavour](
    "DropConnectDense", rate=0.25, deterministic=False, rescale=rescale
  )
  ids = jnp.array([5, 6, 9])
  y = layer(X, subnets=ids, rng=KEY)
  masks = kd.subnet_masks(
    KEY, ids, INS * OUTS + OUTS, kd.Bernoulli(0.25)
  ).dense()
  scale = {"expected": 1 / 0.75, "at_test": 1.0, "realised": 1 / masks.mean()}
  expected = connect(X, masks, [0, 0, 1, 1, 2, 2], float(scale[rescale]))
  tolerance.assert_sums_close(y, expected, INS + 1)
  mean = LAYERS[flavour](
    "DropConnectDense", rate=0.25, deterministic=True, rescale=rescale
  )(X)
  at_test = 0.75 if rescale == "at_test" else 1.0
  tolerance.assert_sums_close(mean, affine(X) * at_test, INS + 1)


@each_flavour
@pytest.mark.parametrize("rescale", ["expected", "at_test"])
def test_moment_matching_has_the_moments_of_training(flavour, rescale):
  """Against 100,000 sampled networks; bounds are six standard errors."""
  rate, draws = 0.3, 100_000
  settings = dict(rate=rate, rescale=rescale)
  x = X[:1]
  train = LAYERS[flavour]("DropConnectDense", deterministic=False, **settings)
  sampled = np.asarray(train(jnp.repeat(x, draws, axis=0), rng=KEY), np.float64)
  mean, variance = sampled.mean(axis=0), sampled.var(axis=0)

  def moment(activation):
    layer = LAYERS[flavour](
      "DropConnectDense",
      deterministic=True,
      inference="moments",
      activation=activation,
      num_samples=draws,
      **settings,
    )
    return np.asarray(layer(x, rng=KEY), np.float64)[0]

  error = 6 * np.sqrt(2 * variance / draws)
  assert (np.abs(moment(lambda y: y) - mean) < error).all()
  spread = moment(lambda y: (y - mean.astype(np.float32)[None]) ** 2)
  assert (np.abs(spread - variance) < 12 * variance * np.sqrt(2 / draws)).all()
  # The mean of a clipped Gaussian, in closed form.
  deviation = np.sqrt(variance)
  z = mean / deviation
  relu = mean * stats.norm.cdf(z) + deviation * stats.norm.pdf(z)
  assert (np.abs(moment(jax.nn.relu) - relu) < error).all()
  assert (np.abs(np.maximum(mean, 0) - relu) > error).any()


@each_flavour
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_drop_connect_at_rates_0_and_1(flavour, rate):
  layer = LAYERS[flavour]("DropConnectDense", rate=rate, deterministic=False)
  expected = affine(X) * (1 - rate)
  tolerance.assert_sums_close(layer(X, rng=KEY), expected, INS + 1)
  gradient = jax.grad(lambda x: layer(x, rng=KEY).sum())(X)
  tolerance.assert_sums_close(
    gradient, [W.sum(axis=1) * (1 - rate)] * ROWS, OUTS
  )
  layer = LAYERS[flavour](
    "DropConnectDense",
    rate=rate,
    deterministic=True,
    inference="moments",
    activation=jax.nn.relu,
    num_samples=2,
  )
  tolerance.assert_sums_close(layer(X, rng=KEY), affine(X, "relu"), INS + 1)
  gradient = jax.grad(lambda x: layer(x, rng=KEY).sum())(X)
  assert np.isfinite(gradient).all()


@each_flavour
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_drop_connect_dtypes(flavour, dtype):
  settings = dict(dtype=dtype, activation=jax.nn.relu, inference="moments")
  for deterministic in (False, True):
    layer = LAYERS[flavour](
      "DropConnectDense", deterministic=deterministic, num_samples=8, **settings
    )
    with jax.numpy_dtype_promotion("strict"):
      y = layer(X.astype(dtype), rng=KEY)
    assert y.dtype == dtype and np.isfinite(y.astype("float32")).all()


@each_flavour
@pytest.mark.parametrize(
  "settings,error,message",
  [
    (dict(rate=-0.1), ValueError, r"rate must be in \[0, 1\]"),
    (dict(inference="median"), ValueError, "inference must be one of"),
    (dict(num_samples=0), ValueError, "num_samples must be >= 1"),
    (dict(inference="moments"), ValueError, "needs an activation"),
    (
      dict(inference="moments", activation=jax.nn.relu, pattern=kd.ExactCount),
      kd.UnsupportedError,
      "dropped one by one",
    ),
  ],
)
def test_bad_settings_of_drop_connect(flavour, settings, error, message):
  with pytest.raises(error, match=message):
    LAYERS[flavour]("DropConnectDense", **settings)(
      X, deterministic=True, rng=KEY
    )


@each_flavour
def test_drop_connect_without_a_run_long_key_says_so(flavour):
  layer = LAYERS[flavour]("DropConnectDense", deterministic=False)
  if flavour == "linen":
    with pytest.raises(ValueError, match="no key stream named 'subnets'"):
      layer(X, subnets=jnp.arange(2), rngs={"dropout": KEY})
  with pytest.raises(ValueError, match=r"got shape \(8,\)"):
    layer(X[0], rng=KEY)


@pytest.mark.parametrize(
  "changes,message",
  [
    (dict(w=W[1:]), r"w must be \[8, outputs\]"),
    (dict(b=BIAS[1:]), r"b must have shape \[4\], got \(3,\)"),
    (dict(masks=jnp.ones((2, 3), bool)), "masks have width 3, expected 36"),
    (dict(rescale="mean"), "rescale must be one of"),
    (dict(row_layout="rows"), "row_layout must be one of"),
    (dict(rate=2), r"rate must be in \[0, 1\]"),
  ],
)
def test_bad_calls_of_the_function(changes, message):
  call = dict(x=X, w=W, b=BIAS, masks=jnp.ones((2, 36), bool), rate=0.5)
  call |= changes
  x, w, b, masks = (call.pop(name) for name in ("x", "w", "b", "masks"))
  with pytest.raises(ValueError, match=message):
    kd.drop_connect(x, w, b, masks, **call)
