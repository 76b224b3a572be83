"""A small transformer that tells the next character of a text.

Layers are BERT's (`encoder`), with a mask that hides what follows. Units are
dropped after the embeddings, of the attention's shares, and after attention
and feed-forward layers: at each position with a mask of its own, or, in
`char_transformer_variational`, with one for all positions.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import characters
from experiments.models import dense
from experiments.models import encoder


class CharTransformer(nn.Module):
  """Embeddings, encoder layers that look back alone, and logits.

  Attributes:
    num_classes: characters.
    dropout: makes a dropout site from its name and fields.
    sizes: of the encoder.
    variational: whether all positions of a row share one mask.
    implementation: of the masked products.
    dtype: of the computation.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  sizes: encoder.Sizes
  variational: bool = False
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return 1 + 3 * self.sizes.num_layers

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
    y = call.drop(site(name="embeddings_dropout"), 0, self._embed(x))
    length = x.shape[1]
    before = jnp.tril(jnp.ones((length, length), bool))
    bias = jnp.where(before, 0.0, -1e9)[None, None]
    bias = jnp.broadcast_to(bias, (x.shape[0], 1, length, length))
    for i in range(self.sizes.num_layers):
      layer = encoder.EncoderLayer(
        self.sizes, site, 1 + 3 * i, self.dtype, name=f"layer_{i}"
      )
      y = layer(y, bias, call)
    return encoder.project(self.num_classes, "logits", self.dtype)(y)

  def losses_and_hits(
    self, outputs: Float[Array, "B L C"], labels: Any, inputs: Any
  ) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Returns each row's cross entropy and hits, means over its positions."""
    del inputs
    return characters.losses_and_hits(outputs, labels)

  def _embed(self, x: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    sizes = self.sizes
    if x.shape[1] > sizes.max_length:
      raise ValueError(
        f"inputs must have at most {sizes.max_length} characters, the positions"
        f" that are learnt, got {x.shape[1]}"
      )

    def table(rows, name):
      return nn.Embed(
        rows, sizes.hidden, self.dtype, embedding_init=encoder.INIT, name=name
      )

    positions = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
    y = table(sizes.vocabulary, "characters")(x)
    y = y + table(sizes.max_length, "positions")(positions)
    return encoder.normalise("embeddings_norm", self.dtype)(y)


def _build(options: models.Options, *, name: str) -> CharTransformer:
  characters.refuse(options, name)
  hidden = options.hidden or 16 * max(1, round(2 * options.width_scale))
  return CharTransformer(
    num_classes=options.num_classes,
    dropout=options.dropout,
    sizes=encoder.Sizes(
      vocabulary=options.vocabulary or 128,
      hidden=hidden,
      num_layers=options.num_hidden or 2,
      num_heads=max(1, hidden // 16),
      feed_forward=4 * hidden,
      max_length=128,
    ),
    variational=name.endswith("variational"),
    implementation=options.implementation,
    dtype=options.dtype,
  )


MODELS = {
  name: functools.partial(_build, name=name)
  for name in ("char_transformer", "char_transformer_variational")
}
