"""Anyone's linen model on a schedule, and its subnets as small networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from tests import tolerance

KEY = jax.random.key(4)
SCHEDULE = kd.Sequential(k=3, m=1)


class Theirs(nn.Module):
  """A model that knows nothing of subnets."""

  site: type = nn.Dropout

  @nn.compact
  def __call__(self, x, train):
    x = nn.relu(nn.Dense(10)(x))
    x = self.site(0.5, deterministic=not train, name="first")(x)
    x = nn.relu(nn.Dense(10)(x))
    x = self.site(0.3, deterministic=not train, name="second")(x)
    return nn.Dense(3)(x)


@pytest.fixture(scope="module")
def case():
  model, x = Theirs(), jax.random.normal(jax.random.key(1), (6, 5))
  variables = model.init(jax.random.key(0), x, False)
  rngs = {"dropout": jax.random.key(9)}
  layout = kd.subnets.layout(model, variables, x, True, rngs=rngs)
  return model, variables, x, layout


@pytest.mark.parametrize("pattern", [kd.Bernoulli, kd.ExactCount])
def test_any_subnet_of_a_run_is_rebuilt_as_a_small_network(case, pattern):
  model, variables, x, layout = case

  @jax.jit
  def masked(step):
    options = dict(schedule=SCHEDULE, step=step, key=KEY, pattern=pattern)
    return kd.linen.apply(model, variables, x, True, **options)

  expected = jnp.stack([masked(jnp.int32(3 * i)) for i in range(4)])
  keys = kd.linen.layer_keys(model, variables, x, True, key=KEY)
  masks = {
    layer: kd.subnet_masks(keys[layer], jnp.arange(4), 10, pattern(rate))
    for layer, rate in (("first", 0.5), ("second", 0.3))
  }
  for train in (False, True):  # the small network is the subnet, either way
    got = kd.subnets.evaluate(
      lambda params, x, train=train: model.apply({"params": params}, x, train),
      variables["params"],
      layout,
      masks,
      x,
    )
    tolerance.assert_sums_close(got, expected, 5 + 10 + 10)
  assert float(jnp.abs(expected[0] - expected[1]).max()) > 1e-3


@pytest.mark.parametrize("site", [nn.Dropout, kd.linen.Dropout])
def test_windows_of_a_retrofitted_model_are_refused_at_once(case, site):
  _, variables, x, layout = case
  model = Theirs(site)

  def loss(params, step, x):
    options = dict(schedule=SCHEDULE, step=step, key=KEY)
    return kd.linen.apply(model, {"params": params}, x, True, **options).sum()

  def loss_in_context(params, step, x):
    with kd.linen.intercept(schedule=SCHEDULE, step=step, key=KEY):
      return model.apply({"params": params}, x, True).sum()  # pyright: ignore

  for fn, name in ((loss, "apply"), (loss_in_context, "intercept")):
    trainer = kd.subnets.WindowTrainer(fn, optax.sgd(0.1), layout)
    step = jnp.int32(0)
    match = f"kd.linen.{name} answers .* windows need kd.linen.Dropout"
    with pytest.raises(kd.UnsupportedError, match=match):
      jax.jit(trainer.sample_masks)(variables["params"], step, x)
    with pytest.raises(kd.UnsupportedError, match=match):
      trainer.check(variables["params"], step, x)
    # Outside of kd.subnets it trains, masked.
    assert np.isfinite(jax.jit(fn)(variables["params"], step, x))
