"""Gradients by small networks are those of masked training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import kdropout_jax as kd
from experiments import models as networks
from tests.subnets import models
from tests.subnets import structure_test

KEY = jax.random.key(5)


def row_losses(logits, labels):
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def assert_equal_gradients(masked_loss, small, params, masks, rows):
  """Compares in float64; returns the gradients."""
  expected = jax.jit(jax.value_and_grad(masked_loss))(params)
  got = jax.jit(small)(params, masks, *rows)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
  assert all(float(jnp.abs(g).max()) > 1e-6 for g in jax.tree.leaves(got[1]))
  return got[1]


def linen_case(model, x, ids, layout=None, row_layout="contiguous", dims=3):
  """Compares the two ways for a linen model of float64."""
  rngs = {"subnets": KEY}
  y = jax.random.randint(jax.random.key(1), (x.shape[0],), 0, dims)
  params = model.init(jax.random.key(0), x, train=False)["params"]
  params = jax.tree.map(lambda p: p.astype(jnp.float64), params)

  def logits(params, x, **kwargs):
    return model.apply({"params": params}, x, train=True, **kwargs)

  def masked_loss(params):
    return row_losses(logits(params, x, subnets=ids, rngs=rngs), y).mean()

  def losses(params, x, y):
    return row_losses(logits(params, x), y)

  layout = layout or kd.subnets.layout(
    model, {"params": params}, x, train=True, rngs=rngs
  )
  masks = kd.subnets.sample_masks(
    lambda: logits(params, x, subnets=ids, rngs=rngs)
  )
  varies = any(mask.num_kept is None for mask in masks.values())
  small = kd.subnets.value_and_grad(
    losses,
    layout,
    row_layout=row_layout,
    sizes=kd.subnets.max_sizes(masks) if varies else None,
  )
  return assert_equal_gradients(masked_loss, small, params, masks, (x, y))


BLOCKS = functools.partial(kd.Blocks, block_size=3)  # 20 = 6 * 3 + 2


@pytest.mark.filterwarnings("ignore:an exact pattern keeps")
@pytest.mark.parametrize(
  ("pattern", "rescale", "ids", "rows"),
  [
    pytest.param(*(kd.ExactCount, "expected", [3], 6), marks=pytest.mark.slow),
    (kd.ExactCount, "at_test", [0, 4, 9], 6),  # equal groups
    (kd.ExactCount, "realised", [0, 4, 9], 7),  # groups of 3, 2 and 2 rows
    (BLOCKS, "expected", [0, 7], 6),  # a ragged last block
    (kd.Bernoulli, "realised", [1, 2, 5, 6, 8], 3),  # two without a row
    pytest.param(  # padding
      *(kd.Bernoulli, "realised", [0, 7], 5), marks=pytest.mark.slow
    ),
    pytest.param(  # many subnets
      *(kd.ExactCount, "expected", [*range(10)], 20), marks=pytest.mark.slow
    ),
  ],
)
def test_value_and_gradients_are_those_of_masked_training(
  pattern, rescale, ids, rows
):
  with jax.enable_x64(True):
    model = models.Mlp(pattern, rescale, depth=1, dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(2), (rows, 12))
    grads = linen_case(model, x, jnp.array(ids), models.SHALLOW_LAYOUT)
    if len(ids) == 1:  # zero where the one subnet drops, in full size
      assert int((grads["dense_0"]["bias"] == 0).sum()) >= 10


def test_tiled_rows():
  with jax.enable_x64(True):
    drop = functools.partial(
      kd.linen.Dropout, 0.5, pattern=kd.ExactCount, row_layout="tiled"
    )
    options = networks.Options(3, drop, hidden=8, num_hidden=1)
    model = networks.build("mlp", options).clone(dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(2), (7, 4))
    linen_case(model, x, jnp.arange(3), row_layout="tiled")


@pytest.mark.slow
@pytest.mark.parametrize("name", structure_test.HAS_LAYOUT)
def test_every_model_of_the_experiments(name):
  with jax.enable_x64(True):
    model, x = structure_test.experiments_model(name, jnp.float64)
    x = jax.random.normal(jax.random.key(2), (4, *x.shape[1:]))
    if name == "autoencoder":
      model = structure_test.Classifier(model)
    linen_case(model, x, jnp.array([0, 6]))


@pytest.mark.slow
def test_channels_behind_pooling_and_flattening():
  with jax.enable_x64(True):
    x = jax.random.normal(jax.random.key(2), (4, 6, 6, 3))
    linen_case(models.Cnn(), x, jnp.array([0, 6]))


def test_models_of_nnx():
  with jax.enable_x64(True):
    net = structure_test.Mlp(jnp.float64)
    x = jax.random.normal(jax.random.key(2), (6, 5))
    layout = kd.subnets.layout(net, None, x)
    model = kd.subnets.visitable(net)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    ids = jnp.array([2, 3])

    def logits(params, x, **kwargs):
      return nnx.merge(graph, params, rest, copy=True)(x, **kwargs)

    masks = kd.subnets.sample_masks(lambda: logits(params, x, subnets=ids))
    small = kd.subnets.value_and_grad(
      lambda params, x: (logits(params, x) ** 2).sum(-1), layout
    )
    assert_equal_gradients(
      lambda params: (logits(params, x, subnets=ids) ** 2).sum(-1).mean(),
      small,
      params,
      masks,
      (x,),
    )


def test_other_results_come_back_in_the_order_of_the_rows():
  masks = {"h": kd.Masks(jnp.eye(3, dtype=bool), 3, num_kept=1)}
  layout = kd.subnets.Layout({"w": {0: "h"}})

  def losses(params, x):
    return params["w"].sum() * x[:, 0], {"x": x}

  for row_layout in ("contiguous", "tiled"):
    step = kd.subnets.value_and_grad(
      losses, layout, has_aux=True, row_layout=row_layout
    )
    for rows in (3, 6, 7, 8):
      x = jnp.arange(2.0 * rows).reshape(rows, 2)
      (value, aux), grads = step({"w": jnp.ones(3)}, masks, x)
      np.testing.assert_array_equal(aux["x"], x)
      np.testing.assert_allclose(value, x[:, 0].mean(), rtol=1e-6)
      slots = np.arange(rows) * 3 // rows
      slots = np.arange(rows) % 3 if row_layout == "tiled" else slots
      expected = [float(x[slots == t, 0].sum()) / rows for t in range(3)]
      np.testing.assert_allclose(grads["w"], expected, rtol=1e-6)


def test_no_rows_give_no_mean_and_no_gradient():
  masks = {"h": kd.Masks(jnp.eye(3, dtype=bool), 3, num_kept=1)}
  layout = kd.subnets.Layout({"w": {0: "h"}})

  def losses(params, x):
    return params["w"].sum() * x[:, 0], {"x": x}

  params, x = {"w": jnp.ones(3)}, jnp.ones((0, 2))
  step = kd.subnets.value_and_grad(losses, layout, has_aux=True)
  (value, aux), grads = jax.jit(step)(params, masks, x)
  expected = jax.value_and_grad(lambda p: jnp.mean(losses(p, x)[0]))(params)
  np.testing.assert_array_equal(value, expected[0])
  np.testing.assert_array_equal(grads["w"], expected[1]["w"])
  assert aux["x"].shape == (0, 2)


def test_wrong_calls_are_refused():
  layout = kd.subnets.Layout({"w": {0: "h"}})
  params, x = {"w": jnp.ones(4)}, jnp.ones((6, 2))
  masks = {"h": kd.Masks(jnp.ones((2, 4), bool), 4, num_kept=4)}
  losses = lambda params, x: x[:, 0] * params["w"].sum()  # noqa: E731
  step = kd.subnets.value_and_grad(losses, layout)
  with pytest.raises(ValueError, match="row_layout must be one of .*'mixed'"):
    kd.subnets.value_and_grad(losses, layout, row_layout="mixed")  # pyright: ignore
  with pytest.raises(ValueError, match="layout must be a kd.subnets.Layout"):
    kd.subnets.value_and_grad(losses, {"w": {0: "h"}})  # pyright: ignore
  with pytest.raises(ValueError, match="rows must be arrays with one leading"):
    step(params, masks, x, jnp.ones(5))
  with pytest.raises(ValueError, match=r"loss of each row, \[R\] for R = 3"):
    kd.subnets.value_and_grad(lambda params, x: x.mean(), layout)(
      params, masks, x
    )
  three = kd.Masks(jnp.ones((3, 4), bool), 4, num_kept=4)
  with pytest.raises(ValueError, match="same T >= 1 subnets"):
    step(params, masks | {"g": three}, x)
  varying = {"h": kd.Masks(jnp.ones((2, 4), bool), 4)}
  with pytest.raises(kd.UnsupportedError, match="number of units that varies"):
    step(params, varying, x)
  assert step(params, masks, x)[0] == 4
