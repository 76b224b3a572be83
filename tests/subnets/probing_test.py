"""Probes refuse what extraction cannot do, by numbers and not by names."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest

import kdropout_jax as kd
from kdropout_jax.subnets.probing import losses
from tests.subnets import models

PARAMS = {
  "a": {"kernel": jnp.ones((300, 40)), "bias": jnp.ones(40)},
  "b": {"kernel": jnp.ones((40, 3)), "bias": jnp.ones(3)},
}
LAYOUT = kd.subnets.Layout(
  {"a/kernel": {1: "h"}, "a/bias": {0: "h"}, "b/kernel": {0: "h"}}
)


def home_made(update):
  """A transform that no list of names knows; update(updates, params)."""
  return optax.GradientTransformation(
    lambda params: (), lambda u, state, params=None: (update(u, params), state)
  )


def shrink(updates, params):
  del params
  norm = jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(updates)))
  factor = jnp.minimum(1.0, 1.0 / (norm + 1e-9))
  return jax.tree.map(lambda x: x * factor, updates)


def trust(updates, params):
  def leaf(u, p):
    return u * jnp.sqrt(jnp.mean(p * p)) / (jnp.sqrt(jnp.mean(u * u)) + 1e-9)

  return jax.tree.map(leaf, updates, params)


def ball(updates, params):
  def leaf(u, p):
    new = p + u
    return new / jnp.maximum(1.0, jnp.sqrt(jnp.sum(new * new))) - p

  return jax.tree.map(leaf, updates, params)


def factored(updates, params):
  del params

  def leaf(u):
    rows = jnp.sqrt(jnp.mean(u * u, axis=0, keepdims=True))
    return u / (rows + 1e-9)

  return jax.tree.map(leaf, updates)


CLIP = optax.clip_by_global_norm(1.0)
REFUSED = {
  "clip after decay": (optax.add_decayed_weights(0.1), CLIP, optax.sgd(0.1)),
  "clip after momentum": (optax.trace(0.9), CLIP, optax.scale(-0.1)),
  "lamb": (optax.lamb(1e-3),),
  "adafactor": (optax.adafactor(1e-3),),
  "max-norm": (optax.sgd(0.1), kd.optim.max_norm(1.0)),
  "tiny steps": (optax.lamb(1e-9),),
  "steps sized once gradients agree": (optax.contrib.dadapt_adamw(),),
  "home-made clip after decay": (
    optax.add_decayed_weights(0.1),
    home_made(shrink),
    optax.sgd(0.1),
  ),
  "home-made clip after momentum": (
    optax.trace(0.9),
    home_made(shrink),
    optax.scale(-0.1),
  ),
  "home-made trust ratio": (optax.scale_by_adam(), home_made(trust)),
  "home-made factors": (home_made(factored), optax.sgd(0.1)),
  "home-made projection": (optax.sgd(0.1), home_made(ball)),
  "state of another shape": (optax.sm3(0.1),),
}


@pytest.mark.parametrize(
  "name",
  [  # Those at home couple weights in the same ways, under no known name.
    pytest.param(name, marks=pytest.mark.slow)
    if f"home-made {name}" in REFUSED
    or name in ("lamb", "adafactor", "max-norm")
    else name
    for name in REFUSED
  ],
)
def test_optimizers_that_couple_weights_are_refused(name):
  match = "depends on other weights"
  if name == "state of another shape":
    match = "does not run on a part of the weights"
  with pytest.raises(kd.UnsupportedError, match=match):
    kd.subnets.check_optimizer(optax.chain(*REFUSED[name]), PARAMS, LAYOUT)


ACCEPTED = {
  "sgd": optax.sgd(0.1),
  "clip, adamw": optax.chain(CLIP, optax.adamw(1e-3)),
  "rmsprop": optax.rmsprop(7e-3, momentum=0.9),
  "home-made clip": optax.chain(home_made(shrink), optax.adam(1e-3)),
  "elementwise clip": optax.chain(optax.trace(0.9), optax.clip(1.0)),
  "tiny steps": optax.adam(1e-9),
  "averaged gradients": optax.MultiSteps(
    optax.adam(1e-3), 4
  ).gradient_transformation(),
}


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=pytest.mark.slow)
    if name in ("averaged gradients", "elementwise clip", "tiny steps")
    else name
    for name in ACCEPTED
  ],
)
def test_elementwise_optimizers_pass(name):
  kd.subnets.check_optimizer(ACCEPTED[name], PARAMS, LAYOUT)


def test_an_optimizer_that_never_moves_cannot_be_probed():
  late = optax.sgd(optax.linear_schedule(0.0, 1e-3, 10, 5000))
  with pytest.raises(kd.UnsupportedError, match="moves no weight in its first"):
    kd.subnets.check_optimizer(late, PARAMS, LAYOUT)


def trainer_and_args(
  change_loss, layout=models.MLP_LAYOUT, optimizer=None, compute=None
):
  model = models.Mlp(compute=compute)
  params, loss, args = models.task(model, k=4, num_steps=1)
  args = jax.tree.map(lambda x: x[0], args)
  trainer = kd.subnets.WindowTrainer(
    lambda params, *args: change_loss(loss(params, *args), params),
    optax.sgd(0.1) if optimizer is None else optimizer,
    layout,
  )
  return trainer, (params, *args)


def plain(loss, params):
  del params
  return loss


def penalty(loss, params):
  return loss + 1e-4 * sum(jnp.sum(x**2) for x in jax.tree.leaves(params))


def home_made_penalty(loss, params):
  return loss + 1e-6 * jnp.sum(jnp.abs(params["dense_1"]["kernel"]))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_plain_loss_passes(dtype):
  trainer, args = trainer_and_args(plain, compute=dtype)
  trainer.check(*args)


@pytest.mark.parametrize("change", [penalty, home_made_penalty])
def test_penalties_on_all_weights_are_refused(change):
  trainer, args = trainer_and_args(change)
  with pytest.raises(kd.UnsupportedError, match="gradient of .* on dropped"):
    trainer.check(*args)


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"out/kernel": {}}, "does not run on the small parameters"),
    ({"dense_0/bias": {}}, "does not run on the small parameters"),
    ({"out/kernel": {0: "drop_0"}}, "gradient of .* 'out/kernel'"),
  ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layouts_that_do_not_describe_the_model_are_refused(
  change, match, dtype
):
  layout = kd.subnets.Layout(models.MLP_LAYOUT.as_dict() | change)
  trainer, args = trainer_and_args(plain, layout, compute=dtype)
  with pytest.raises(kd.UnsupportedError, match=match):
    trainer.check(*args)


def test_check_probes_the_optimizer_unless_dropped_weights_rest(monkeypatch):
  monkeypatch.setattr(losses, "check_loss", lambda *args: None)
  lamb = optax.lamb(1e-3)
  trainer, args = trainer_and_args(plain, optimizer=lamb)
  with pytest.raises(kd.UnsupportedError, match="depends on other weights"):
    trainer.check(*args)
  dataclasses.replace(trainer, dropped_weights="frozen").check(*args)
