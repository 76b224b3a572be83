"""A small LSTM that tells the next character of a text.

Units are dropped of what goes into each layer, of what each layer hands on
from position to position (Gal and Ghahramani 2016, "A Theoretically Grounded
Application of Dropout in Recurrent Neural Networks"), and before the logits: at
each position with a mask of its own, or, in `char_lstm_variational`, with one
for all positions.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import characters
from experiments.models import dense


class CharLstm(nn.Module):
  """Embeddings, LSTM layers and logits.

  Attributes:
    num_classes: characters.
    dropout: makes a dropout site from its name and fields.
    hidden: units of a layer, and features of a character.
    num_hidden: layers.
    vocabulary: characters that are read.
    variational: whether all positions of a row share one mask.
    implementation: of the masked products.
    dtype: of the computation.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  hidden: int = 64
  num_hidden: int = 1
  vocabulary: int = 128
  variational: bool = False
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return 2 * self.num_hidden + 1

  @nn.compact
  def __call__(
    self,
    x: Int[Array, "B L"],
    *,
    train: bool,
    subnets: UInt[Array, "..."] | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B L C"]:
    """Returns logits of the next character at each position."""
    x = characters.check_text(x)
    call = dense.Call(train, subnets, assignment, self.implementation)
    site = characters.at_positions(self.dropout, self.variational)
    y: Any = nn.Embed(
      self.vocabulary, self.hidden, self.dtype, name="characters"
    )(x)
    for i in range(self.num_hidden):
      y = call.drop(site(name=f"input_dropout_{i}"), 2 * i, y)
      # What a site makes of ones is what the state is multiplied by, at each
      # position as it comes.
      kept = call.drop(
        site(name=f"state_dropout_{i}"), 2 * i + 1, jnp.ones_like(y)
      )
      y = self._recur(y, kept, i)
    y = call.drop(site(name="dropout_logits"), 2 * self.num_hidden, y)
    return nn.Dense(self.num_classes, dtype=self.dtype, name="logits")(y)

  def losses_and_hits(
    self, outputs: Float[Array, "B L C"], labels: Any, inputs: Any
  ) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Returns each row's cross entropy and hits, means over its positions."""
    del inputs
    return characters.losses_and_hits(outputs, labels)

  def _recur(
    self, x: Float[Array, "B L H"], kept: Float[Array, "B L H"], number: int
  ) -> Float[Array, "B L H"]:
    """Runs a layer over the positions; `kept` multiplies what it hands on."""
    gates: Any = nn.Dense(
      4 * self.hidden, dtype=self.dtype, name=f"input_{number}"
    )(x)
    kernel = self.param(
      f"state_{number}",
      nn.initializers.orthogonal(),
      (self.hidden, 4 * self.hidden),
    ).astype(self.dtype)

    def step(carry, inputs):
      state, cell = carry
      own, keep = inputs
      own = own + (state * keep) @ kernel
      enter, forget, out, value = jnp.split(own, 4, axis=-1)
      # Remembers at first: a forget gate of 1.
      cell = nn.sigmoid(forget + 1.0) * cell
      cell = cell + nn.sigmoid(enter) * jnp.tanh(value)
      state = nn.sigmoid(out) * jnp.tanh(cell)
      return (state, cell), state

    zero = jnp.zeros_like(x[:, 0])
    by_position = gates.swapaxes(0, 1), kept.swapaxes(0, 1)
    _, states = jax.lax.scan(step, (zero, zero), by_position)
    return states.swapaxes(0, 1)


def _build(options: models.Options, *, name: str) -> CharLstm:
  characters.refuse(options, name)
  return CharLstm(
    num_classes=options.num_classes,
    dropout=options.dropout,
    hidden=options.width(64),
    num_hidden=options.num_hidden or 1,
    vocabulary=options.vocabulary or 128,
    variational=name.endswith("variational"),
    implementation=options.implementation,
    dtype=options.dtype,
  )


MODELS = {
  name: functools.partial(_build, name=name)
  for name in ("char_lstm", "char_lstm_variational")
}
