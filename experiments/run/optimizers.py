"""Optimizers from flags, as functions of a learning rate that may be traced."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

import kdropout_jax as kd


def make(
  config: Any, num_steps: int, steps_per_epoch: int
) -> Callable[[Any], optax.GradientTransformation]:
  """Returns learning rate -> optimizer, for a `RunConfig`.

  "rmsprop" has TensorFlow 1's constants, which the gyro paper's authors use:
  decay .9, `epsilon` inside the root (1 by default), moments that start at 1.

  Args:
    config: the run.
    num_steps: its steps.
    steps_per_epoch: its batches of an epoch.
  """
  factor = lr_factor(config, num_steps, steps_per_epoch)

  def make_optimizer(learning_rate):
    parts: list[optax.GradientTransformation] = [unprojected(learning_rate)]
    if config.l1:
      start = int(config.l1_from * num_steps)
      parts.insert(0, kd.optim.late_l1(config.l1, start))
    if config.max_norm is not None:
      parts.append(kd.optim.max_norm(config.max_norm))
    return optax.chain(*parts) if len(parts) > 1 else parts[0]

  def unprojected(learning_rate):
    def rate(count):
      return learning_rate * factor(count)

    decay = config.weight_decay
    if config.optimizer == "adam":
      return (
        optax.adamw(rate, weight_decay=decay) if decay else optax.adam(rate)
      )
    if config.optimizer == "sgd":
      base = optax.sgd(rate, momentum=config.momentum or None)
    else:
      base = optax.rmsprop(
        rate,
        decay=0.9,
        eps=config.epsilon,
        initial_scale=1.0,
        momentum=config.momentum or None,
      )
    if not decay:
      return base
    return optax.chain(optax.add_decayed_weights(decay), base)

  return make_optimizer


def lr_factor(
  config: Any, num_steps: int, steps_per_epoch: int
) -> Callable[[Any], Any]:
  """Returns step -> what the learning rate is multiplied by at that step.

  Raises:
    ValueError: a warm-up that leaves a linear schedule no steps to fall in.
  """
  warmup = config.warmup_steps
  if config.lr_schedule == "linear" and warmup >= num_steps:
    raise ValueError(
      f"warmup_steps must be < {num_steps}, the steps of the run, with"
      f" lr_schedule=linear, got {warmup}"
    )

  def factor(count):
    value = jnp.float32(1.0)
    if config.lr_schedule == "cosine":
      share = jnp.minimum(count / num_steps, 1.0)
      value = 0.5 * (1.0 + jnp.cos(jnp.pi * share))
    elif config.lr_schedule == "linear":
      share = (num_steps - count) / (num_steps - warmup)
      value = jnp.clip(share, 0.0, 1.0)
    for epoch in config.lr_drops:
      # Later than any step is never: a step is an int32.
      dropped = count >= min(epoch * steps_per_epoch, 2**31 - 1)
      value = value * jnp.where(dropped, config.lr_drop_factor, 1.0)
    if warmup:
      value = value * jnp.minimum((count + 1) / warmup, 1.0)
    return value

  return factor
