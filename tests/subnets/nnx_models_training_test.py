"""Windows and evaluation of nnx models: small networks are masked training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import kdropout_jax as kd
from kdropout_jax.subnets import replay
from tests.subnets import models

K, STEPS, ROWS = 4, 8, 8
KEY = jax.random.key(5)
FLOAT64 = 1e-9
"""A million times what rounding does here, and far below any wrong update."""
SCHEDULE = kd.Sequential(k=K, m=1)
LAYOUT = kd.subnets.Layout(
  {
    "a/kernel": {1: "drop_a"},
    "a/bias": {0: "drop_a"},
    "b/kernel": {0: "drop_a", 1: "drop_b"},
    "b/bias": {0: "drop_b"},
    "c/kernel": {0: "drop_b"},
  }
)


@pytest.fixture(autouse=True)
def quick_compilation(monkeypatch):
  monkeypatch.setattr(replay, "_MAX_UNROLL", 2)


class Mlp(nnx.Module):
  """Dense layers of ours, one of them given its masks; two dropouts."""

  def __init__(self, drop, dense=nnx.Linear):
    rngs = nnx.Rngs(params=0, dropout=1, subnets=2)
    linear = functools.partial(nnx.Linear, param_dtype=jnp.float64, rngs=rngs)
    self.a, self.c = linear(6, 10), linear(10, 3)
    self.b = dense(10, 10, param_dtype=jnp.float64, rngs=rngs)
    self.drop_a, self.drop_b = drop(0.5, rngs=rngs), drop(0.3, rngs=rngs)

  def __call__(self, x, **kwargs):
    x = self.drop_a(nnx.relu(self.a(x)), **kwargs)
    x = self.drop_b(nnx.relu(self.b(x)), **kwargs)
    return self.c(x)


class Pruned(Mlp):
  """The same, its middle product skipping what the masks drop."""

  def __init__(self, drop):
    super().__init__(drop, kd.nnx.MaskedDense)

  def __call__(self, x, subnets=None):
    if subnets is None:
      return super().__call__(x)
    a, b = (d.masks(10, subnets) for d in (self.drop_a, self.drop_b))
    x = self.drop_a(nnx.relu(self.a(x)), masks=a)
    x = self.drop_b(nnx.relu(self.b(x, in_mask=a, out_mask=b)), masks=b)
    return self.c(x)


def ours(kind, pattern):
  """A model with kd.nnx.Dropout, and how it is run at a step."""
  net = kind(functools.partial(kd.nnx.Dropout, pattern=pattern))

  def run(model, step, x):
    return model(x, subnets=kd.subnet_ids(step, KEY, SCHEDULE, ROWS))

  return net, run


def retrofitted(pattern):
  """A model of nnx.Dropout, made to follow the schedule."""
  net = kd.nnx.retrofit(
    Mlp(nnx.Dropout), schedule=SCHEDULE, key=KEY, pattern=pattern
  )

  def run(model, step, x):
    kd.nnx.set_step(model, step)
    return model(x)

  return net, run


CASES = {
  "ours": lambda: ours(Mlp, kd.ExactCount),
  "pruned": lambda: ours(Pruned, kd.ExactCount),
  "bernoulli": lambda: ours(Mlp, kd.Bernoulli),
  "retrofitted": lambda: retrofitted(kd.ExactCount),
  "retrofitted bernoulli": lambda: retrofitted(kd.Bernoulli),
}


def task(net, run):
  """Returns parameters, the loss of masked training, and its arguments.

  The loss of windows is that of a visitable copy with the same parameters.
  """
  x_key, y_key = jax.random.split(jax.random.key(3))
  x = jax.random.normal(x_key, (STEPS, ROWS, 6), jnp.float64)
  y = jax.random.randint(y_key, (STEPS, ROWS), 0, 3)

  def loss_of(model):
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, step, x, y):
      # A copy: Flax forbids to change captured state, as `set_step` would.
      logits = run(nnx.merge(graph, params, rest, copy=True), step, x)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
      return losses.mean()

    return params, loss

  params, masked = loss_of(net)
  _, small = loss_of(kd.subnets.visitable(net))
  return params, masked, small, (jnp.arange(STEPS), x, y)


@pytest.mark.parametrize(
  "name",
  [
    *("ours", "retrofitted bernoulli"),
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in ("pruned", "retrofitted", "bernoulli")
    ),
  ],
)
def test_windows_of_nnx_models_are_masked_training(name):
  with jax.enable_x64(True):
    params, masked, small, args = task(*CASES[name]())
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    expected = models.masked_training(optimizer, masked, params, args)
    sizes = None
    if "bernoulli" in name:  # room for every unit
      sizes = {"drop_a": 10, "drop_b": 10}
    trainer = kd.subnets.WindowTrainer(small, optimizer, LAYOUT, sizes=sizes)
    got = models.train_windows(trainer, params, args, K)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
      np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT64)
    moved = got[0]["b"]["kernel"][...] - params["b"]["kernel"][...]
    assert float(jnp.abs(moved).max()) > 1e-3
    # Two windows, two subnets: otherwise one window would prove as much.
    first, last = (
      kd.subnets.sample_masks(small, params, step, args[1][0], args[2][0])
      for step in (0, STEPS - 1)
    )
    assert (first["drop_a"].keep != last["drop_a"].keep).any()


def test_check_accepts_nnx_losses_and_refuses_what_reads_dropped_weights():
  with jax.enable_x64(True):
    params, _, small, args = task(*CASES["ours"]())
    first = jax.tree.map(lambda x: x[0], args)
    optimizer = optax.sgd(0.1, momentum=0.9)
    kd.subnets.WindowTrainer(small, optimizer, LAYOUT).check(params, *first)

    def penalised(params, *args):
      return small(params, *args) + sum(
        (w**2).sum() for w in jax.tree.leaves(params)
      )

    with pytest.raises(kd.UnsupportedError, match="loss"):
      kd.subnets.WindowTrainer(penalised, optimizer, LAYOUT).check(
        params, *first
      )


@pytest.mark.parametrize("name", ["ours", "retrofitted bernoulli"])
def test_subnets_of_nnx_models_score_as_the_masked_model(name):
  with jax.enable_x64(True):
    net, run = CASES[name]()
    x = jax.random.normal(jax.random.key(1), (ROWS, 6), jnp.float64)
    expected = jnp.stack([run(net, i * K, x) for i in range(3)])
    # Any subnet of a run, from its layer's key alone.
    pattern = kd.ExactCount if name == "ours" else kd.Bernoulli
    masks = {
      layer: kd.subnet_masks(key, jnp.arange(3), 10, pattern(rate))
      for (layer, key), rate in zip(
        sorted(kd.nnx.layer_keys(net).items()), (0.5, 0.3)
      )
    }
    graph, params, rest = nnx.split(kd.subnets.visitable(net), nnx.Param, ...)
    fn = lambda params, x: nnx.merge(graph, params, rest)(x)  # noqa: E731
    assert kd.subnets.layout(net, None, x) == LAYOUT
    got = kd.subnets.evaluate(fn, params, LAYOUT, masks, x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=FLOAT64)
    assert float(jnp.abs(expected[0] - expected[1]).max()) > 1e-3
