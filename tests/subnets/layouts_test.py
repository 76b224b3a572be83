"""Layouts: found by numbers from a model, checked where given by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import kdropout_jax as kd
from tests import tolerance
from tests.subnets import models


def layout_of(model, x, **kwargs):
  return kd.subnets.layout(
    model, model.init(jax.random.key(0), x), x, **kwargs
  ).as_dict()


def test_a_dense_model_has_the_layout_written_down_here():
  # Equal widths: sizes alone could not tell the axes of dense_1 apart.
  found = layout_of(models.Mlp(), jnp.ones((4, 12)), train=True)
  assert found == models.MLP_LAYOUT.as_dict()


def test_channels_are_followed_through_pooling_and_flattening():
  assert layout_of(models.Cnn(), jnp.ones((2, 6, 6, 3)), train=True) == {
    "Conv_0/kernel": {3: "maps_0"},
    "Conv_0/bias": {0: "maps_0"},
    "Conv_1/kernel": {2: "maps_0", 3: "maps_1"},
    "Conv_1/bias": {0: "maps_1"},
    "Dense_0/kernel": {0: "maps_1", 1: "units"},
    "Dense_0/bias": {0: "units"},
    "Dense_1/kernel": {0: "units"},
  }


class Between(nn.Module):
  """Dense, something, flax's own Dropout, Dense."""

  between: object
  after: object = staticmethod(lambda x: x)

  @nn.compact
  def __call__(self, x):
    x = nn.Dropout(0.5)(self.between(nn.Dense(8)(x)), deterministic=False)
    return nn.Dense(3)(self.after(x))


@pytest.mark.parametrize("between", [nn.relu, nn.gelu, jnp.tanh, jnp.sin])
def test_flax_dropout_behind_any_elementwise_function(between):
  model = Between(between)
  variables = model.init(
    {"params": jax.random.key(0), "dropout": jax.random.key(1)},
    jnp.ones((1, 5)),
  )
  found = kd.subnets.layout(model, variables, jnp.ones((1, 5))).as_dict()
  assert found == {
    "Dense_0/kernel": {1: "Dropout_0"},
    "Dense_0/bias": {0: "Dropout_0"},
    "Dense_1/kernel": {0: "Dropout_0"},
  }


def root_mean_square_norm(x):
  return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-3)


def test_a_function_that_mixes_kept_and_dropped_units_is_refused():
  model = Between(nn.relu, root_mean_square_norm)
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = model.init(rngs, jnp.ones((4, 5)))
  with pytest.raises(kd.UnsupportedError, match="mixes dropped units"):
    kd.subnets.layout(model, variables, jnp.ones((4, 5)))


def test_units_that_mix_before_they_drop_are_cut_where_they_are_read_alone():
  model = Between(nn.softmax)
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = model.init(rngs, jnp.ones((4, 5)))
  found = kd.subnets.layout(model, variables, jnp.ones((4, 5)))
  assert found.as_dict() == {"Dense_1/kernel": {0: "Dropout_0"}}


class Normed(nn.Module):
  norm: object

  @nn.compact
  def __call__(self, x):
    x = self.norm(nn.Dense(8)(x))
    return nn.Dense(3)(kd.linen.Dropout(0.5, deterministic=False)(x))


def test_a_normalisation_before_the_dropout_stays_whole():
  model = Normed(nn.LayerNorm())
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = model.init(rngs, jnp.ones((4, 5)))
  found = kd.subnets.layout(model, variables, jnp.ones((4, 5)), check=True)
  assert found.as_dict() == {"Dense_1/kernel": {0: "Dropout_0"}}


class Stubborn(nn.Module):
  """A scale of eight units, whatever comes in."""

  @nn.compact
  def __call__(self, x):
    return x * self.param("scale", nn.initializers.normal(), (8,))[None]


def test_a_module_that_cannot_be_small_is_refused():
  model = Normed(Stubborn())
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = model.init(rngs, jnp.ones((4, 5)))
  with pytest.raises(kd.UnsupportedError, match="does not run on the small"):
    kd.subnets.layout(model, variables, jnp.ones((4, 5)))


class Running(nn.Module):
  """A batch norm of our own: running means in a collection of any name."""

  collection: str

  @nn.compact
  def __call__(self, x):
    mean = self.variable(self.collection, "m", jnp.zeros, x.shape[-1:])
    if not self.is_initializing() and self.is_mutable_collection(
      self.collection
    ):
      mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
    return x


@pytest.mark.parametrize("collection", ["batch_stats", "home_made"])
def test_batch_statistics_are_refused(collection):
  model = Normed(Running(collection))
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = model.init(rngs, jnp.ones((4, 5)))
  with pytest.raises(kd.UnsupportedError, match=f"'{collection}'.*statistics"):
    kd.subnets.layout(model, variables, jnp.ones((4, 5)))


class Calls(nn.Module):
  """A Dropout that is used in a way of its own."""

  how: str

  @nn.compact
  def __call__(self, x):
    drop = kd.linen.Dropout(0.5, deterministic=False, name="d")
    if self.how == "none":
      return nn.Dense(3)(x)
    if self.how == "weights":
      x = kd.linen.DropConnectDense(8, rate=0.5, deterministic=False)(x)
    x = drop(nn.Dense(8)(x))
    if self.how == "twice":
      x = drop(x)
    if self.how == "positions":
      x = kd.linen.Dropout(0.5, deterministic=False)(x[:, None] * x[..., None])
    return nn.Dense(3)(x)


@pytest.mark.parametrize(
  ("how", "error", "match"),
  [
    ("none", ValueError, "no Dropout of positive rate"),
    ("twice", kd.UnsupportedError, "'d' is called more than once"),
    ("positions", kd.UnsupportedError, "masks every element"),
    ("weights", kd.UnsupportedError, "drops weights"),
  ],
)
def test_models_without_whole_units_are_refused(how, error, match):
  model = Calls(how)
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = model.init(rngs, jnp.ones((4, 5)))
  with pytest.raises(error, match=match):
    kd.subnets.layout(model, variables, jnp.ones((4, 5)))


@pytest.mark.parametrize(
  ("axes", "match"),
  [
    ({"w": {-1: "h"}}, "axis must be an integer >= 0, got -1"),
    ({"w": {True: "h"}}, "axis must be an integer >= 0, got True"),
    ({"w": {0: ""}}, "axis 0 must name a layer"),
    ({"w": {0: 3}}, "axis 0 must name a layer, got 3"),
  ],
)
def test_wrong_layouts_are_refused(axes, match):
  with pytest.raises(ValueError, match=match):
    kd.subnets.Layout(axes)


@pytest.mark.parametrize(
  ("axes", "match"),
  [
    ({"v": {0: "h"}}, "names the parameter 'v', which is not among"),
    ({"w": {2: "h"}}, r"'w': axis 2 follows 'h', but its shape is \(3, 8\)"),
    ({"w": {0: "h"}}, "'w': axis 0 has size 3, .* multiple of the 4 units"),
    ({"w": {1: "g"}}, r"names the layer 'g', but masks has \['h'\]"),
  ],
)
def test_layouts_that_do_not_fit_are_refused(axes, match):
  masks = {"h": kd.Masks(jnp.ones((1, 4), bool), 4, num_kept=4)}
  with pytest.raises(ValueError, match=match):
    kd.subnets.extract({"w": jnp.ones((3, 8))}, kd.subnets.Layout(axes), masks)


def test_a_layout_is_hashable_and_reads_paths_as_tuples():
  a = kd.subnets.Layout({("a", "w"): {1: "h"}, "b": {}})
  assert a == kd.subnets.Layout({"a/w": {1: "h"}}) and hash(a) is not None
  assert a.as_dict() == {"a/w": {1: "h"}}


def test_nnx_models_take_layouts_by_hand():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.a = nnx.Linear(3, 4, rngs=rngs)
      self.b = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x, keep=1.0):
      return self.b(nnx.relu(self.a(x)) * keep)

  net, x = Net(nnx.Rngs(0)), jnp.ones((2, 3))
  with pytest.raises(kd.UnsupportedError, match="by hand: got object"):
    kd.subnets.layout(object(), {}, x)
  layout = kd.subnets.Layout(
    {"a/kernel": {1: "h"}, "a/bias": {0: "h"}, "b/kernel": {0: "h"}}
  )
  keep = jnp.array([[True, False, True, False]])
  masks = {"h": kd.Masks(keep, 4, num_kept=2)}
  graph, params = nnx.split(net)
  small = kd.subnets.extract(params, layout, masks)
  got = nnx.merge(graph, small)(x)
  tolerance.assert_sums_close(got, net(x, keep), 3 + 4)
  back = kd.subnets.insert(params, small, layout, masks)
  jax.tree.map(np.testing.assert_array_equal, back, params)
