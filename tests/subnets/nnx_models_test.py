"""Layouts of nnx models, and their subnets as small networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import kdropout_jax as kd
from tests import tolerance

_EXACT = functools.partial(kd.nnx.Dropout, pattern=kd.ExactCount)


class Mlp(nnx.Module):
  def __init__(self, drop, first=nnx.Linear):
    rngs = nnx.Rngs(0)
    self.a = first(5, 8, rngs=rngs)
    self.drops = nnx.List([drop(0.5, rngs=rngs), drop(0.25, rngs=rngs)])
    self.b = nnx.Linear(8, 8, rngs=rngs)
    self.c = nnx.Linear(8, 3, rngs=rngs)

  def __call__(self, x, **kwargs):
    x = self.drops[0](nnx.relu(self.a(x)), **kwargs)
    x = self.drops[1](nnx.relu(self.b(x)), **kwargs)
    return self.c(x)


class Images(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.conv = nnx.Conv(2, 6, (3, 3), rngs=rngs)
    self.drop = kd.nnx.SpatialDropout(0.5, rngs=rngs, rescale="at_test")
    self.out = nnx.Linear(96, 3, rngs=rngs)

  def __call__(self, x):
    x = self.drop(nnx.relu(self.conv(x)))
    return self.out(x.reshape(x.shape[0], -1))


MLP_AXES = {
  "a/kernel": {1: "drops/0"},
  "a/bias": {0: "drops/0"},
  "b/kernel": {0: "drops/0", 1: "drops/1"},
  "b/bias": {0: "drops/1"},
  "c/kernel": {0: "drops/1"},
}


@pytest.mark.parametrize("drop", [nnx.Dropout, kd.nnx.Dropout])
def test_layout_of_an_mlp(drop):
  net, x = Mlp(drop), jnp.ones((4, 5))
  before = jax.tree.leaves(nnx.state(net, nnx.Param, nnx.RngCount))
  own = kd.subnets.layout(net, None, x).as_dict()
  given = kd.subnets.layout(net, nnx.state(net, nnx.Param), x).as_dict()
  assert own == given == MLP_AXES
  after = jax.tree.leaves(nnx.state(net, nnx.Param, nnx.RngCount))
  jax.tree.map(np.testing.assert_array_equal, before, after)
  assert type(net.drops[0]) is drop


def test_layout_of_a_retrofitted_model():
  schedule, key = kd.Sequential(k=4, m=1), jax.random.key(0)
  net = kd.nnx.retrofit(Mlp(nnx.Dropout), schedule=schedule, key=key)
  assert kd.subnets.layout(net, None, jnp.ones((4, 5))).as_dict() == MLP_AXES


def test_layout_of_convolutions_behind_a_flattening():
  layout = kd.subnets.layout(Images(), None, jnp.ones((2, 4, 4, 2)))
  assert layout.as_dict() == {
    "conv/kernel": {3: "drop"},
    "conv/bias": {0: "drop"},
    "out/kernel": {0: "drop"},
  }


@pytest.mark.parametrize("first", [nnx.Linear, kd.nnx.MaskedDense])
def test_the_small_network_is_the_masked_model(first):
  net = Mlp(_EXACT, first)
  x = jax.random.normal(jax.random.key(1), (4, 5))
  layout = kd.subnets.layout(net, None, x)
  ids = jnp.array([3])
  expected = net(x, subnets=ids)  # the model's own code, on whole arrays

  model = kd.subnets.visitable(net)
  run = lambda ids: model(x, subnets=ids)  # noqa: E731
  masks = kd.subnets.sample_masks(run, ids)
  graph, params, rest = nnx.split(model, nnx.Param, ...)
  small = kd.subnets.extract(params, layout, masks)
  assert small["b"]["kernel"].shape == (4, 6)
  with kd.subnets.small_network(kd.subnets.make_tables(masks)):
    got = nnx.merge(graph, small, rest)(x)
  tolerance.assert_sums_close(got, expected, 5 + 8 + 8)
  np.testing.assert_array_equal(model(x, subnets=ids), expected)
  scaled = jax.tree.map(lambda leaf: 2 * leaf, small)
  back = kd.subnets.insert(params, scaled, layout, masks)
  keep = masks["drops/0"].dense()[0]
  factor = jnp.where(keep, 2, 1)[None]
  np.testing.assert_array_equal(
    back["a"]["kernel"][...], params["a"]["kernel"][...] * factor
  )


def test_spatial_small_network_is_the_masked_model():
  net, x = Images(), jax.random.normal(jax.random.key(1), (2, 4, 4, 2))
  layout = kd.subnets.layout(net, None, x)
  keep = jnp.array([[True, False, False, True, False, False]])
  masks = {"drop": kd.Masks(keep, 6, num_kept=2)}
  y = net.drop(nnx.relu(net.conv(x)), masks=masks["drop"])
  graph, params, rest = nnx.split(kd.subnets.visitable(net), nnx.Param, ...)
  small = kd.subnets.extract(params, layout, masks)
  with kd.subnets.small_network(kd.subnets.make_tables(masks)):
    got = nnx.merge(graph, small, rest)(x)
  terms = 3 * 3 * 2 + 4 * 4 * 6
  tolerance.assert_sums_close(got, net.out(y.reshape(2, -1)), terms)


def test_models_without_small_networks_are_refused():
  rngs, x = nnx.Rngs(0), jnp.ones((4, 5))
  linear, drop = nnx.Linear(5, 8, rngs=rngs), kd.nnx.Dropout(0.5, rngs=rngs)
  norm, batch = nnx.LayerNorm(8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
  weights = kd.nnx.DropConnectDense(5, 8, rngs=rngs)

  def refuses(message, *layers, x=x):
    with pytest.raises(kd.UnsupportedError, match=message):
      kd.subnets.layout(nnx.Sequential(*layers), None, x)

  refuses("does not run on the small|not small networks", linear, drop, norm)
  refuses("'batch_stats' keeps statistics", linear, batch, drop)
  refuses("called more than once", linear, drop, drop)
  refuses("'layers/0' drops weights", weights)
  refuses("masks every element", linear, drop, x=jnp.ones((4, 3, 5)))


def test_wrong_arguments_are_named():
  net, x = Mlp(nnx.Dropout), jnp.ones((4, 5))
  with pytest.raises(ValueError, match=r"variables must be None .*None, \*arg"):
    kd.subnets.layout(net, x)
  with pytest.raises(ValueError, match="own parameters.*'c/bias' differs"):
    params = nnx.state(net, nnx.Param)
    del params["c"]["bias"]
    kd.subnets.layout(net, params, x)
  with pytest.raises(ValueError, match="calls no Dropout of positive rate"):
    kd.subnets.layout(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), None, x)
