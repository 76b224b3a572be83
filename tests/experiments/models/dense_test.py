"""Dense layers that skip equal dense layers and dropout, written plainly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import kdropout_jax as kd
from experiments import models
from experiments.models import inits
from experiments.models import mlp
from tests import tolerance

_BATCH, _IN, _HIDDEN, _OUT = 8, 6, 16, 3
_BLOCKS = functools.partial(kd.Blocks, block_size=4)


def make(pattern=kd.Bernoulli, implementation="auto", rate=0.5, **dropout):
  dropout = functools.partial(
    kd.linen.Dropout, rate, pattern=pattern, **dropout
  )
  return mlp.Mlp(_OUT, dropout, _HIDDEN, 2, implementation=implementation)


def params_and_inputs(key):
  """Random values, drawn by NumPy: no initialisation is compiled."""
  random = np.random.default_rng(0)
  x = random.normal(size=(_BATCH, _IN)).astype(np.float32)
  shapes = jax.eval_shape(lambda: make().init(key, x, train=False))["params"]

  def draw(leaf):
    return jnp.asarray(random.normal(size=leaf.shape) / 3, jnp.float32)

  return jax.tree.map(draw, shapes), jnp.asarray(x)


def plain(params, x, keep, scale):
  """The network in jnp: keep holds a bool [B, W] a layer."""
  for i, mask in enumerate(keep):
    layer = params[f"hidden_{i}"]
    x = jnp.maximum(x @ layer["kernel"] + layer["bias"][None], 0)
    x = jnp.where(mask, x, 0) * scale[i]
  return x @ params["logits"]["kernel"] + params["logits"]["bias"][None]


def masks_of(model, params, x, ids, key):
  """Each layer's masks, bool [T, W], from its key alone."""
  keys = kd.linen.layer_keys(
    model, {"params": params}, x, train=True, subnets=ids, key=key
  )
  pattern = model.dropout.keywords["pattern"](0.5)
  return [
    kd.subnet_masks(
      keys[f"dropout_{i}"], ids[i] if ids.ndim > 1 else ids, _HIDDEN, pattern
    ).dense()
    for i in range(2)
  ]


def both(model, params, x, keep, scale, **call):
  """(logits, gradients of all parameters and inputs) by model and plainly."""
  weights = jnp.arange(1.0, _OUT + 1)[None]

  def by_model(params, x):
    y = model.apply({"params": params}, x, train=True, **call)
    return jnp.sum(jnp.sin(y) * weights), y

  def by_hand(params, x):
    y = plain(params, x, keep, scale)
    return jnp.sum(jnp.sin(y) * weights), y

  grad = functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
  # One program: less to compile.
  run = jax.jit(
    lambda *args: [grad(fn)(*args) for fn in (by_model, by_hand)],
    compiler_options={"xla_backend_optimization_level": 0},
  )
  got, expected = run(params, x)
  return (got[0][1], got[1]), (expected[0][1], expected[1])


def check_equal(got, expected):
  there = _IN + _HIDDEN + _HIDDEN
  back = _OUT + _HIDDEN + _HIDDEN + _BATCH
  tolerance.assert_sums_close(got, expected, there + back)


@pytest.mark.parametrize(
  ("pattern", "count", "implementation"),
  [
    (kd.Bernoulli, 2, "auto"),
    (kd.Bernoulli, 8, "dense"),
    (kd.ExactCount, 1, "auto"),
    (kd.ExactCount, 4, "compact"),
    (_BLOCKS, 2, "compact"),
    (_BLOCKS, 2, "dense"),
  ],
)
def test_values_and_gradients_are_those_of_dense_and_dropout(
  pattern, count, implementation, key
):
  model = make(pattern, implementation)
  params, x = params_and_inputs(key)
  ids = jnp.arange(count, dtype=jnp.uint32)
  masks = masks_of(model, params, x, ids, key)
  keep = [jnp.repeat(mask, _BATCH // count, axis=0) for mask in masks]
  got, expected = both(
    model,
    params,
    x,
    keep,
    [2.0, 2.0],
    subnets=ids,
    rngs={"subnets": key},
  )
  assert not jnp.array_equal(masks[0], masks[1])
  check_equal(got, expected)


@pytest.mark.parametrize("pattern", [kd.Bernoulli, kd.ExactCount])
def test_rows_of_other_layouts_get_their_masks(pattern, key):
  params, x = params_and_inputs(key)
  ids = jnp.arange(2, dtype=jnp.uint32)
  slots = jnp.array([1, 0, 0, 1, 1, 1, 0, 0], jnp.int32)
  for dropout, call, rows in (
    ({"row_layout": "tiled"}, {}, np.arange(_BATCH) % 2),
    ({}, {"assignment": slots}, slots),
    ({"batch_size": 9}, {}, np.arange(_BATCH) * 2 // 9),
  ):
    model = make(pattern, **dropout)
    masks = masks_of(make(pattern), params, x, ids, key)
    got, expected = both(
      model,
      params,
      x,
      [mask[rows] for mask in masks],
      [2.0, 2.0],
      subnets=ids,
      rngs={"subnets": key},
      **call,
    )
    check_equal(got, expected)


def test_scale_is_applied_once_by_the_realised_share_too(key):
  model = make(rescale="realised", implementation="dense")
  params, x = params_and_inputs(key)
  ids = jnp.arange(4, dtype=jnp.uint32)
  masks = masks_of(model, params, x, ids, key)
  keep = [jnp.repeat(mask, 2, axis=0) for mask in masks]
  scale = [1 / float(mask.mean()) for mask in masks]
  got, expected = both(
    model, params, x, keep, scale, subnets=ids, rngs={"subnets": key}
  )
  check_equal(got, expected)


@pytest.mark.parametrize("pattern", [kd.Bernoulli, kd.ExactCount])
def test_sites_take_ids_of_their_own_where_layers_draw(pattern, key):
  model = make(pattern)
  params, x = params_and_inputs(key)
  ids = jnp.array([[0, 1], [7, 8]], jnp.uint32)
  masks = masks_of(model, params, x, ids, key)
  keep = [jnp.repeat(mask, 4, axis=0) for mask in masks]
  got, expected = both(
    model, params, x, keep, [2.0, 2.0], subnets=ids, rngs={"subnets": key}
  )
  check_equal(got, expected)


class Flax(nn.Module):
  """The same network of Flax's own layers."""

  @nn.compact
  def __call__(self, x):
    for i in range(2):
      x = nn.relu(nn.Dense(_HIDDEN, name=f"hidden_{i}")(x))
      x = nn.Dropout(0.5, deterministic=False, name=f"dropout_{i}")(x)
    return nn.Dense(_OUT, name="logits")(x)


def test_conventional_dropout_is_flax_own_bit_for_bit(key):
  params, x = params_and_inputs(key)
  rngs = {"dropout": key}
  got = make().apply({"params": params}, x, train=True, rngs=rngs)
  expected = Flax().apply({"params": params}, x, rngs=rngs)
  np.testing.assert_array_equal(got, expected)


def masked_products(model, params, x, ids, key):
  seen = {}

  def record(next_fun, args, kwargs, context):
    if isinstance(context.module, kd.linen.MaskedDense):
      seen[context.module.name] = tuple(
        side for side in ("in_mask", "out_mask") if kwargs.get(side) is not None
      )
    return next_fun(*args, **kwargs)

  def run(params):
    with nn.intercept_methods(record):
      return model.apply(
        {"params": params}, x, train=True, subnets=ids, rngs={"subnets": key}
      )

  text = str(jax.make_jaxpr(jax.grad(lambda p: run(p).sum()))(params))
  return seen, text


@pytest.mark.parametrize("pattern", [kd.ExactCount, _BLOCKS])
def test_both_sides_are_pruned_as_in_section_4_3(pattern, key):
  params, x = params_and_inputs(key)
  ids = jnp.arange(2, dtype=jnp.uint32)
  seen, _ = masked_products(make(pattern), params, x, ids, key)
  assert seen == {
    "hidden_0": ("out_mask",),
    "hidden_1": ("in_mask", "out_mask"),
    "logits": ("in_mask",),
  }


def test_products_get_no_masks_that_they_could_not_use(key):
  params, x = params_and_inputs(key)
  ids = jnp.arange(2, dtype=jnp.uint32)
  for model in (make(), make(kd.ExactCount, rate=0.0)):
    seen, _ = masked_products(model, params, x, ids, key)
    assert set(seen.values()) == {()}
  seen, _ = masked_products(make(implementation="dense"), params, x, ids, key)
  assert seen["hidden_1"] == ("in_mask", "out_mask")


def test_a_named_implementation_never_falls_back(key):
  params, x = params_and_inputs(key)
  ids = jnp.arange(2, dtype=jnp.uint32)
  with pytest.raises(
    kd.UnsupportedError, match="compact needs masks that keep"
  ):
    masked_products(make(implementation="compact"), params, x, ids, key)


@pytest.mark.parametrize(
  ("name", "hidden", "initialiser", "has_bias"),
  [
    ("mlp", 512, "torch_linear", True),
    ("kdropout_mlp", 2000, "torch_linear", True),
    ("mlp1", 1024, "glorot", False),
    ("mlp2", 1024, "glorot", False),
    ("mlp3", 1024, "glorot", False),
  ],
)
def test_widths_initialisation_and_biases(
  name, hidden, initialiser, has_bias, key
):
  dropout = functools.partial(kd.linen.Dropout, 0.5)
  model = models.build(name, models.Options(_OUT, dropout, num_hidden=1))
  x = jnp.zeros((1, 50))
  params = jax.jit(lambda: model.init(key, x, train=False))()["params"]
  layer = params["hidden_0"]
  assert layer["kernel"].shape == (50, hidden)
  assert ("bias" in layer) == has_bias
  bound = {"torch_linear": 50**-0.5, "glorot": (6 / (50 + hidden)) ** 0.5}
  values = np.abs(layer["kernel"])
  # A uniform draw of 25,000 or more: its maximum is within .1 % of the bound.
  assert 0.999 * bound[initialiser] < values.max() <= bound[initialiser]
  if has_bias:
    biases = np.abs(layer["bias"])
    assert 0.9 * 50**-0.5 < biases.max() <= 50**-0.5


def test_an_unknown_initialiser_is_refused():
  with pytest.raises(ValueError, match="init must be one of .*'glorto'; did"):
    inits.layer_inits("glorto", 3)


@pytest.mark.parametrize("pattern", [kd.Bernoulli, kd.ExactCount])
def test_an_input_site_drops_inputs_and_leaves_hidden_masks_alone(pattern, key):
  """The first layer reads masked inputs; every other mask is what it was."""
  params, x = params_and_inputs(key)
  dropout = functools.partial(kd.linen.Dropout, rate=0.5, pattern=pattern)
  model = mlp.Mlp(_OUT, dropout, _HIDDEN, 2, input_rate=1 / 3)
  ids = jnp.array([3, 5], jnp.uint32)
  call = dict(train=True, subnets=ids)
  keys = kd.linen.layer_keys(model, {"params": params}, x, key=key, **call)
  keep = kd.subnet_masks(keys["dropout_input"], ids, _IN, pattern(1 / 3))
  hidden = mlp.Mlp(_OUT, dropout, _HIDDEN, 2)
  expected = hidden.apply(
    {"params": params},
    kd.dropout(x, keep, rate=1 / 3),
    rngs={"subnets": key},
    **call,
  )
  y = model.apply({"params": params}, x, rngs={"subnets": key}, **call)
  tolerance.assert_sums_close(y, expected, _IN + 2 * _HIDDEN)
  assert not keep.dense().all() and model.num_sites == 3


def connected(rate=0.5, **settings):
  """A model whose hidden layers drop weights, and none of its units."""
  dropout = functools.partial(kd.linen.Dropout, rate=0.0)
  connections = functools.partial(
    kd.linen.DropConnectDense, rate=rate, **settings
  )
  return mlp.Mlp(_OUT, dropout, _HIDDEN, 2, connections=connections)


def test_hidden_layers_that_drop_no_weights_are_the_plain_ones(key):
  params, x = params_and_inputs(key)
  plain = make().apply({"params": params}, x, train=False)
  found = connected().apply({"params": params}, x, train=False)
  tolerance.assert_sums_close(found, plain, _IN + 2 * _HIDDEN)
  # By the paper's formula weights and biases are multiplied at test.
  halved = {
    k: jax.tree.map(lambda v: v / 2, v) if k != "logits" else v
    for k, v in params.items()
  }
  at_test = connected(rescale="at_test")
  tolerance.assert_sums_close(
    at_test.apply({"params": params}, x, train=False),
    make().apply({"params": halved}, x, train=False),
    _IN + 2 * _HIDDEN,
  )


def test_a_row_trains_the_weights_of_its_subnet_and_other_layers_others(key):
  params, x = params_and_inputs(key)
  same = jnp.broadcast_to(x[:1], x.shape)
  model, variables = connected(), {"params": params}

  def run(ids):
    call = dict(train=True, subnets=jnp.asarray(ids, jnp.uint32))
    return model.apply(variables, same, rngs={"subnets": key}, **call)

  y = run([3, 5])
  assert (y[:4] == y[:1]).all() and (y[4:] == y[4:5]).all()
  assert (y[0] != y[4]).all()
  tolerance.assert_sums_close(run([5, 3])[0], y[4], _IN + 2 * _HIDDEN)
  fresh = model.apply(variables, same, train=True, rngs={"dropout": key})
  assert len(np.unique(fresh[:, 0])) == _BATCH
  # A dropped weight has no gradient: half of them, of the one subnet at hand.
  gradient = jax.grad(
    lambda p: jnp.sum(
      model.apply(
        {"params": p},
        jnp.abs(x) + 1,
        train=True,
        subnets=jnp.zeros(1, jnp.uint32),
        rngs={"subnets": key},
      )
    )
  )(params)
  kept = [np.asarray(gradient[f"hidden_{i}"]["bias"] != 0) for i in range(2)]
  assert all(0 < k.sum() < _HIDDEN for k in kept) and (kept[0] != kept[1]).any()
