"""The training step that every benchmark times: loss, update, program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from experiments.bench import timing

State = tuple[Any, Any]
"""Parameters, and the optimizer's state."""


def row_losses(
  logits: Float[Array, "B C"], labels: Int[Array, "B"]
) -> Float[Array, "B"]:
  """Returns the cross entropy of each row, in float32."""
  return optax.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), labels
  )


def cross_entropy(
  logits: Float[Array, "B C"], labels: Int[Array, "B"]
) -> Float[Array, ""]:
  """Returns the mean cross entropy of a batch, in float32."""
  return row_losses(logits, labels).mean()


def update(
  optimizer: optax.GradientTransformation, state: State, grads: Any
) -> State:
  """Returns parameters and optimizer state after one update."""
  params, opt_state = state
  updates, opt_state = optimizer.update(grads, opt_state, params)
  return optax.apply_updates(params, updates), opt_state


def scanned(
  gradients: Callable[..., Any],
  optimizer: optax.GradientTransformation,
  params: Any,
  batch: tuple[Any, ...],
  num_steps: int,
  ideal: float | None = None,
  ahead: Callable[[Array], Any] | None = None,
) -> timing.Program:
  """Compiles a scan of training steps on one batch.

  Args:
    gradients: of the parameters; from them, the number of the step, the batch
      and, where there is one, what `ahead` returned.
    optimizer: updates the parameters.
    params: of the first step.
    batch: of all steps.
    num_steps: steps of one call.
    ideal: see `timing.Program`.
    ahead: from the number of a step to what it needs; called for all steps of
      a call before the first, as the training loop does on a GPU.
  """

  def train_step(state, own):
    step, *trained = state
    more = () if ahead is None else (own,)
    grads = gradients(trained[0], step, *batch, *more)
    return (step + 1, *update(optimizer, tuple(trained), grads)), None

  def run(state):
    steps = state[0] + jnp.arange(num_steps, dtype=jnp.int32)
    own = None if ahead is None else jax.vmap(ahead)(steps)
    return jax.lax.scan(train_step, state, own, length=num_steps)[0]

  state = (jnp.int32(0), params, optimizer.init(params))
  return timing.Program(timing.donating(run, state), state, num_steps, ideal)
