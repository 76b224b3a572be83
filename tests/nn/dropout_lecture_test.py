"""The lecture's examples of PyTorch's dropout, number by number."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import kdropout_jax as kd
from tests import tolerance

# What the lecture prints for nn.Dropout(p=0.75) of ones, and its gradient.
_OUTPUT = np.array([[0, 0, 4, 0, 4], [0, 4, 4, 4, 0], [0, 0, 4, 0, 0]], float)
_GRADIENT = np.array(
  [
    [0, 0, 2.8284, 0, 2.8284],
    [0, 2.3094, 2.3094, 2.3094, 0],
    [0, 0, 4.0, 0, 0],
  ]
)


def norms(layer, x, **how):
  y = layer.apply({}, x, deterministic=False, **how)
  return jnp.linalg.norm(y, axis=1).sum(), y


def test_with_the_lectures_masks_output_and_gradient_are_the_lectures():
  layer, masks = kd.linen.Dropout(0.75), jnp.asarray(_OUTPUT > 0)
  gradient, y = jax.grad(lambda x: norms(layer, x, masks=masks), has_aux=True)(
    jnp.ones((3, 5))
  )
  np.testing.assert_array_equal(y, _OUTPUT)
  np.testing.assert_array_equal(np.round(np.float64(gradient), 4), _GRADIENT)


@pytest.mark.parametrize("subnets", [None, jnp.arange(8, dtype=jnp.uint32)])
def test_dropout_of_ones_gives_zeros_and_fours(subnets, key):
  layer, x = kd.linen.Dropout(0.75), jnp.ones((8, 25))
  rngs = {"dropout": key, "subnets": key}

  def total(x):
    y = layer.apply({}, x, deterministic=False, subnets=subnets, rngs=rngs)
    return jnp.sum(jnp.sin(y)), y

  gradient, y = jax.grad(total, has_aux=True)(x)
  assert set(np.unique(y)) == {0.0, 4.0}
  # Mask times 4 times what comes from above, which is cos(y) here.
  np.testing.assert_array_equal(gradient, (y > 0) * 4 * jnp.cos(y))


def test_dropout_2d_drops_whole_channels(key):
  layer, x = kd.linen.SpatialDropout(0.5), jnp.ones((2, 2, 4, 30))
  y = layer.apply({}, x, deterministic=False, rngs={"dropout": key})
  assert (y == y[:, :1, :1]).all()
  assert set(np.unique(y)) == {0.0, 2.0}


def test_dropout_is_a_module_that_follows_the_model_in_train_and_eval(key):
  model = nnx.Sequential(
    nnx.Linear(3, 10, rngs=nnx.Rngs(0)),
    kd.nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
    nnx.Linear(10, 3, rngs=nnx.Rngs(0)),
  )
  x = jax.random.normal(key, (4, 3))
  model.train()
  assert (model(x) != model(x)).any()
  model.eval()
  np.testing.assert_array_equal(model(x), model(x))
  plain = nnx.Sequential(model.layers[0], model.layers[2])
  np.testing.assert_array_equal(model(x), plain(x))


def test_a_network_takes_dropout_as_one_more_layer(key):
  """The lecture adds nn.Dropout() behind each ReLU: nothing else changes."""

  def network(*dropout):
    return nn.Sequential(
      [nn.Dense(10), nn.relu, *dropout, nn.Dense(5), nn.relu, *dropout]
    )

  x = jax.random.normal(key, (4, 10))
  plain = network()
  params = plain.init(key, x)["params"]
  dropped = network(kd.linen.Dropout(0.5, deterministic=True))
  renamed = {"layers_0": params["layers_0"], "layers_3": params["layers_2"]}
  assert set(params) == {"layers_0", "layers_2"}
  renamed = {"params": renamed}
  np.testing.assert_array_equal(
    dropped.apply(renamed, x), plain.apply({"params": params}, x)
  )


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_classic_and_inverted_dropout_agree_in_expectation(rate, key):
  """For a linear layer, over all 2**6 masks by their probabilities."""
  x, w = jax.random.normal(key, (1, 6)), jax.random.normal(key, (6, 3))
  masks = np.array(list(itertools.product([False, True], repeat=6)))
  kept = masks.sum(axis=1)
  shares = (1 - rate) ** kept * rate ** (6 - kept)
  every = jnp.repeat(x, len(masks), axis=0)

  def expected(rescale):
    y = kd.dropout(every, jnp.asarray(masks), rate=rate, rescale=rescale) @ w
    return shares @ np.asarray(y)

  for rescale in ("expected", "at_test"):
    at_test = kd.dropout(x, None, rate=rate, rescale=rescale) @ w
    tolerance.assert_sums_close(at_test[0], expected(rescale), 64 * 6)
