"""What models that tell the next character have in common."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from experiments import models


def check_text(x: Any) -> Int[Array, "B L"]:
  """Returns codes as int32, or raises a ValueError where they are none."""
  x = jnp.asarray(x)
  if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
    raise ValueError(
      f"inputs must be codes of characters, integers [B, L], got {x.dtype}"
      f" {list(x.shape)}; give a model of characters a dataset of characters"
    )
  return x.astype(jnp.int32)


def losses_and_hits(
  logits: Float[Array, "B L C"], labels: Int[Array, "B L"]
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
  """Returns each row's mean cross entropy, in nats, and its share of hits.

  >>> logits, labels = jnp.array([[[0.0, 9.0], [9.0, 0.0]]]), jnp.ones((1, 2))
  >>> float(losses_and_hits(logits, labels.astype(int))[1][0])
  0.5
  """
  logits = logits.astype(jnp.float32)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  hits = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
  return jnp.mean(losses, axis=-1), jnp.mean(hits, axis=-1)


def at_positions(
  dropout: Callable[..., nn.Module], variational: bool
) -> Callable[..., nn.Module]:
  """Returns what makes dropout sites of [B, L, W], or of attention.

  Args:
    dropout: makes a site from its name and fields.
    variational: one mask for all positions (Gal and Ghahramani 2016); for an
      attention's shares [B, H, Q, K], one for all positions that ask.
  """

  def site(*, name: str) -> nn.Module:
    if not variational:
      return dropout(name=name)
    shared = 2 if name == "attention_dropout" else 1
    return dropout(name=name, broadcast_dims=(shared,))

  return site


def refuse(options: models.Options, name: str) -> None:
  """Raises a ValueError for options that mean nothing to these models."""
  options.refuse(name, "channels", "connections", "init", "input_rate")
