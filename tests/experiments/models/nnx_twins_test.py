"""The nnx networks are the linen ones: values, gradients, masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import kdropout_jax as kd
from experiments import models
from tests import tolerance
from tests.experiments.models import nnx_twins

_BLOCKS = functools.partial(kd.Blocks, block_size=4)
LENGTH = 5 * 6 * 3 + 3 * 8
"""Terms on the way through either network: its widest layer leads."""


def pair(name, pattern, key, **dropout):
  """A linen model with its variables, and its twin with the same."""
  dropout = {"pattern": pattern, **dropout}
  sizes = dict(hidden=8, channels=(2, 3)) if name == "lenet" else dict(hidden=8)
  site = functools.partial(kd.linen.Dropout, 0.5, **dropout)
  linen = models.build(name, models.Options(3, site, **sizes))
  random = np.random.default_rng(0)
  x = jnp.asarray(random.normal(size=(8, 5, 6, 3)), jnp.float32)
  shapes = jax.eval_shape(lambda: linen.init(key, x, train=False))
  variables = jax.tree.map(
    lambda p: jnp.asarray(random.normal(size=p.shape) / 5, jnp.float32), shapes
  )
  twin = getattr(nnx_twins, name)(
    x.shape[1:],
    3,
    dropout=functools.partial(kd.nnx.Dropout, 0.5, **dropout),
    rngs=nnx.Rngs(params=1, dropout=2, subnets=3),
    **sizes,
  )
  nnx.update(twin, variables["params"])
  return linen, variables, twin, x


def share_keys(linen, variables, twin, x, ids, key):
  """Gives the twin's sites the linen sites' keys."""
  keys = kd.linen.layer_keys(
    linen, variables, x, train=True, subnets=ids, key=key
  )
  for name, layer_key in keys.items():
    getattr(twin, name).layer_key.set_value(jax.random.key_data(layer_key))


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_twins_have_the_same_parameters_and_logits(name, key):
  linen, variables, twin, x = pair(name, kd.Bernoulli, key)
  own = nnx.to_pure_dict(nnx.state(twin, nnx.Param))
  assert jax.tree.structure(own) == jax.tree.structure(variables["params"])
  # XLA may fuse the two differently.
  tolerance.assert_sums_close(
    twin(x, train=False), linen.apply(variables, x, train=False), LENGTH
  )


@pytest.mark.parametrize(
  ("name", "pattern", "dropout"),
  [
    ("mlp", kd.Bernoulli, {}),
    ("mlp", kd.ExactCount, {"row_layout": "tiled"}),
    ("lenet", _BLOCKS, {}),
  ],
)
def test_twins_train_the_same_subnets(name, pattern, dropout, key):
  linen, variables, twin, x = pair(name, pattern, key, **dropout)
  ids = jnp.arange(2, dtype=jnp.uint32)
  share_keys(linen, variables, twin, x, ids, key)

  @jax.jit
  def by_linen(params):
    return linen.apply(
      {"params": params}, x, train=True, subnets=ids, rngs={"subnets": key}
    )

  @nnx.jit
  def by_nnx(twin):
    return jnp.sum(jnp.sin(twin(x, train=True, subnets=ids)))

  expected = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(by_linen(p)))))(
    variables["params"]
  )
  got = nnx.to_pure_dict(nnx.jit(nnx.grad(by_nnx))(twin))
  tolerance.assert_sums_close(got, expected, 2 * LENGTH + 8)
  assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(got))


def test_a_twin_drops_conventionally_without_subnets(key):
  _, _, twin, x = pair("mlp", kd.Bernoulli, key)
  first, second = (twin(x, train=True) for _ in range(2))
  assert not np.array_equal(first, second)  # Streams of nnx move on.
  np.testing.assert_array_equal(twin(x, train=False), twin(x, train=False))
