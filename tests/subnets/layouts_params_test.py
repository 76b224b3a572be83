"""Parameters in boxes, variables in their place, and zero gradients first."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd


def _boxed():
  init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
  drop = kd.linen.Dropout(0.5, deterministic=False)
  net = nn.Sequential([nn.Dense(8, kernel_init=init), drop, nn.Dense(2)])
  x = jnp.ones((2, 4))
  keys = {name: jax.random.key(0) for name in ("params", "dropout")}
  return net, x, net.init(keys, x)


def test_boxes_change_neither_the_layout_nor_a_subnet():
  net, x, variables = _boxed()
  plain = nn.meta.unbox(variables)
  layout = kd.subnets.layout(net, variables, x)
  assert layout == kd.subnets.layout(net, plain, x)
  masks = {"layers_1": kd.Masks(jnp.arange(8)[None] < 4, 8, num_kept=4)}

  def apply(params):
    return net.apply({"params": params}, x)

  boxed = kd.subnets.evaluate(apply, variables["params"], layout, masks)
  expected = kd.subnets.evaluate(apply, plain["params"], layout, masks)
  np.testing.assert_array_equal(boxed, expected)
  assert np.any(expected)


def test_variables_are_no_parameters():
  _, _, variables = _boxed()
  layout = kd.subnets.Layout({"layers_0/bias": {0: "layers_1"}})
  sgd = optax.sgd(0.1)
  for call in (
    lambda: kd.subnets.check_optimizer(sgd, variables, layout),
    lambda: kd.subnets.catch_up(sgd, variables, (), layout, 1),
  ):
    with pytest.raises(ValueError, match="give variables.'params'."):
      call()


def test_an_optimizer_that_makes_nan_of_first_zero_gradients_is_refused():
  layout, params = kd.subnets.Layout({"w": {0: "h"}}), {"w": jnp.ones((8, 3))}
  prodigy = optax.contrib.prodigy()
  replayed, _ = kd.subnets.catch_up(
    prodigy, params, prodigy.init(params), layout, 1
  )
  assert np.isnan(replayed["w"]).all()
  with pytest.raises(kd.UnsupportedError, match="depends on other weights"):
    kd.subnets.check_optimizer(prodigy, params, layout)
