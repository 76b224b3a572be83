"""Windows of groups of subnets, timed as a whole: begin, k steps, end."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import kdropout_jax as kd
from experiments.bench import harness

_SEED = 3


def disjoint(
  model: Any,
  layout: kd.subnets.Layout,
  optimizer: optax.GradientTransformation,
  batch: tuple[jax.Array, jax.Array],
  parts: int,
  k: int,
):
  """Returns a function of (step, params, state) that trains one window.

  Of P subnets that share no unit, as small networks side by side.

  Args:
    model: of the benchmarks, whose dropouts partition their layers.
    layout: which parameter axes follow which layer.
    optimizer: what steps.
    batch: inputs and labels of all steps.
    parts: P, the subnets; they train side by side on this device.
    k: steps of the window.
  """
  x, labels = batch

  def losses(params, x, labels):
    logits: Any = model.apply({"params": params}, x, train=True)
    return harness.row_losses(logits, labels), ()

  def apply(params, ids):
    rngs = {"subnets": jax.random.key(_SEED)}
    return model.apply(
      {"params": params}, x, train=True, subnets=ids, rngs=rngs
    )

  trainer = kd.subnets.DisjointTrainer(
    losses,
    optimizer,
    layout,
    kd.subnets.Exchange(parts, parts),
  )
  rows = [a.reshape(parts, -1, *a.shape[1:]) for a in (x, labels)]

  def sample(params, ids):
    return kd.subnets.sample_masks(apply, params, ids)

  return _window_of(trainer, sample, lambda ids: rows, batch, parts, k)


def permuted(
  model: Any,
  layout: kd.subnets.Layout,
  optimizer: optax.GradientTransformation,
  batch: tuple[jax.Array, jax.Array],
  size: int,
  k: int,
):
  """Returns a function of (step, params, state) that trains one window.

  Of a whole group of subnets, masked, its units in the order of their parts.

  Args:
    model: of the benchmarks, whose dropouts partition or balance their layers.
    layout: which parameter axes follow which layer.
    optimizer: what steps.
    batch: inputs and labels of all steps.
    size: T, the subnets of the group.
    k: steps of the window.
  """
  loss_fn = _masked_loss(model, batch)
  trainer = kd.subnets.PermutedTrainer(loss_fn, optimizer, layout)
  return _window_of(
    trainer, trainer.sample_masks, lambda ids: (ids,), batch, size, k
  )


def extracted(
  model: Any,
  layout: kd.subnets.Layout,
  optimizer: optax.GradientTransformation,
  batch: tuple[jax.Array, jax.Array],
  size: int,
  k: int,
  dropped_weights: Any,
):
  """Returns a function of (step, params, state) that trains one window.

  Of one subnet, as a small network.

  Args:
    model: of the benchmarks.
    layout: which parameter axes follow which layer.
    optimizer: what steps.
    batch: inputs and labels of all steps.
    size: subnets of the window: one.
    k: steps of the window.
    dropped_weights: as for `kd.subnets.WindowTrainer`.
  """
  loss_fn = _masked_loss(model, batch)
  trainer = kd.subnets.WindowTrainer(
    loss_fn, optimizer, layout, dropped_weights=dropped_weights
  )
  return _window_of(
    trainer, trainer.sample_masks, lambda ids: (ids,), batch, size, k
  )


def _masked_loss(model, batch):
  x, labels = batch

  def loss_fn(params, ids):
    logits: Any = model.apply(
      {"params": params},
      x,
      train=True,
      subnets=ids,
      rngs={"subnets": jax.random.key(_SEED)},
    )
    return harness.cross_entropy(logits, labels)

  return loss_fn


def _window_of(trainer, sample, args_of, batch, size: int, k: int):
  """Returns what trains a window, from a step's ids to its arguments."""
  schedule = kd.Sequential(k=k, m=size)

  def train(state):
    step, params, opt_state = state
    key, num_rows = jax.random.key(_SEED), batch[0].shape[0]
    ids = kd.subnet_ids(step, key, schedule, num_rows)
    repeated = jax.lax.scan(
      lambda window, _: (trainer.step(window, *args_of(ids))[0], None),
      trainer.begin(params, opt_state, sample(params, ids)),
      length=k,
    )[0]
    return step + jnp.int32(k), *trainer.end(repeated)

  return train
