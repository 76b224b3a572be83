"""Windows of disjoint subnets, timed as a whole: begin, k steps, end."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import kdropout_jax as kd
from experiments.bench import harness


def window(
  model: Any,
  layout: kd.subnets.Layout,
  optimizer: optax.GradientTransformation,
  batch: tuple[jax.Array, jax.Array],
  parts: int,
  k: int,
  dropped_weights: Any = "caught_up",
):
  """Returns a function of (step, params, state) that trains one window.

  Args:
    model: of the benchmarks, whose dropouts partition their layers.
    layout: which parameter axes follow which layer.
    optimizer: what steps.
    batch: inputs and labels of all steps.
    parts: P, the subnets; they train side by side on this device.
    k: steps of the window.
    dropped_weights: as for `kd.subnets.DisjointTrainer`.
  """
  key, schedule = jax.random.key(3), kd.Sequential(k=k, m=parts)
  x, labels = batch

  def losses(params, x, labels):
    logits: Any = model.apply({"params": params}, x, train=True)
    return harness.row_losses(logits, labels), ()

  def apply(params, ids):
    rngs = {"subnets": key}
    return model.apply(
      {"params": params}, x, train=True, subnets=ids, rngs=rngs
    )

  trainer = kd.subnets.DisjointTrainer(
    losses,
    optimizer,
    layout,
    kd.subnets.Exchange(parts, parts),
    dropped_weights=dropped_weights,
  )
  rows = [a.reshape(parts, -1, *a.shape[1:]) for a in (x, labels)]

  def train(state):
    step, params, opt_state = state
    ids = kd.subnet_ids(step, key, schedule, x.shape[0])
    masks = kd.subnets.sample_masks(apply, params, ids)
    repeated = jax.lax.scan(
      lambda w, _: (trainer.step(w, *rows)[0], None),
      trainer.begin(params, opt_state, masks),
      length=k,
    )[0]
    return step + jnp.int32(k), *trainer.end(repeated)

  return train
