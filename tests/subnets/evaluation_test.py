"""Many subnets as small networks against one masked network at a time."""

import jax
import jax.numpy as jnp
import pytest

import kdropout_jax as kd
from kdropout_jax.subnets import evaluation
from tests import tolerance
from tests.subnets import models


@pytest.fixture(scope="module", params=[kd.ExactCount, kd.Bernoulli])
def case(request):
  model = models.Mlp(request.param)
  x = jax.random.normal(jax.random.key(1), (4, 12))
  variables = model.init(jax.random.key(0), x)

  def masked(ids):
    return model.apply(
      variables,
      x,
      train=True,
      subnets=ids,
      rngs={"subnets": jax.random.key(2)},
    )

  layout = models.MLP_LAYOUT
  masks = kd.subnets.sample_masks(masked, jnp.arange(7))
  expected = jnp.stack([masked(jnp.array([i])) for i in range(7)])
  fn = lambda params, x: model.apply({"params": params}, x)  # noqa: E731
  return fn, variables["params"], layout, masks, x, expected


@pytest.mark.parametrize("byte_budget", [1, 20_000, 1 << 30])
def test_every_subnet_scores_as_the_masked_network(case, byte_budget):
  fn, params, layout, masks, x, expected = case
  got = kd.subnets.evaluate(
    fn, params, layout, masks, x, byte_budget=byte_budget
  )
  tolerance.assert_sums_close(got, expected, 12 + 20 + 20)


def test_the_byte_budget_decides_how_many_run_side_by_side(case):
  fn, params, layout, masks, x, _ = case
  sizes = kd.subnets.max_sizes(masks)
  hidden = f",{sizes['in']},{sizes['drop_0']}"  # dense_0 of several subnets

  def widest(byte_budget):
    jaxpr = jax.make_jaxpr(
      lambda p: kd.subnets.evaluate(
        fn, p, layout, masks, x, byte_budget=byte_budget
      )
    )(params)
    return max(
      int(text.split(",")[0])
      for text in str(jaxpr).split("f32[")
      if text.split("]")[0].endswith(hidden)
    )

  assert widest(1 << 30) == 7
  assert widest(1) == 1
  assert 1 <= widest(30_000) < 7


def test_wrong_arguments_are_refused(case):
  fn, params, layout, masks, x, _ = case
  with pytest.raises(ValueError, match="byte_budget must be >= 1, got 0"):
    kd.subnets.evaluate(fn, params, layout, masks, x, byte_budget=0)
  fewer = masks | {"in": masks["in"].take(jnp.arange(3))}
  with pytest.raises(ValueError, match="same T >= 1 subnets .*'in': 3"):
    kd.subnets.evaluate(fn, params, layout, fewer, x)
  assert evaluation._BYTE_BUDGET == 1 << 28
