"""Encoder layers of BERT (Devlin et al. 2019): post-norm, exact GELU."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

import kdropout_jax as kd
from experiments.models import dense

INIT = nn.initializers.truncated_normal(0.02)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """The sizes of an encoder; the defaults are BERT-Base's.

  Attributes:
    vocabulary: tokens.
    hidden: features of a token.
    num_layers: encoder layers.
    num_heads: heads of attention; they divide `hidden`.
    feed_forward: units of a feed-forward layer.
    max_length: positions that are learnt.
  """

  vocabulary: int = 30_522
  hidden: int = 768
  num_layers: int = 12
  num_heads: int = 12
  feed_forward: int = 3072
  max_length: int = 512

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if getattr(self, field.name) < 1:
        raise ValueError(
          f"{field.name} must be >= 1, got {getattr(self, field.name)}"
        )
    if self.hidden % self.num_heads:
      raise ValueError(
        f"hidden must be a multiple of num_heads={self.num_heads}, got"
        f" {self.hidden}"
      )


class EncoderLayer(nn.Module):
  """Attention and feed-forward, each dropped, added and then normalised.

  Attributes:
    sizes: of the encoder.
    dropout: makes a dropout site from its name.
    first_site: number of its first dropout site; it has three.
    dtype: of the computation.
  """

  sizes: Sizes
  dropout: Callable[..., nn.Module]
  first_site: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B L D"],
    bias: Float[Array, "#B 1 #L L"],
    call: dense.Call,
  ) -> Float[Array, "B L D"]:
    """Returns the next layer's input; `bias` is added to attention logits."""
    y = self._attend(x, bias, call)
    y = self._project(y, "attention_output", self.first_site + 1, call)
    x = normalise("attention_norm", self.dtype)(x + y)
    y = project(self.sizes.feed_forward, "feed_forward", self.dtype)(x)
    y = nn.gelu(y, approximate=False)
    y = self._project(y, "feed_forward_output", self.first_site + 2, call)
    return normalise("feed_forward_norm", self.dtype)(x + y)

  def _attend(self, x: Array, bias: Array, call: dense.Call) -> Array:
    """Multi-head attention, before its output layer."""
    heads = self.sizes.num_heads
    size = self.sizes.hidden // heads

    def split(name):
      y = project(self.sizes.hidden, name, self.dtype)(x)
      return y.reshape(*x.shape[:2], heads, size)

    query, key, value = split("query"), split("key"), split("value")
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / size**0.5
    # In float32: a 16-bit softmax over hundreds of tokens loses them.
    shares = nn.softmax(logits.astype(jnp.float32) + bias, axis=-1)
    shares = shares.astype(self.dtype)
    site = self.dropout(name="attention_dropout")
    shares = call.drop(site, self.first_site, shares)
    return jnp.einsum("bhqk,bkhd->bqhd", shares, value).reshape(x.shape)

  def _project(
    self, x: Array, name: str, number: int, call: dense.Call
  ) -> Array:
    """A dense layer back to `hidden` features, and dropout: outputs pruned."""
    site = self.dropout(name=f"{name}_dropout")
    width = self.sizes.hidden
    masks = call.masks(site, number, width, rank=x.ndim)
    rows = {}
    if masks is not None:
      rows = {
        "row_layout": site.row_layout,
        "batch_size": site.batch_size,
        "implementation": call.implementation,
      }
    y = project(width, name, self.dtype, **rows)(
      x,
      out_mask=masks,
      assignment=None if masks is None else call.assignment,
    )
    return call.drop(site, number, y, masks)


def project(
  features: int, name: str, dtype: Any, **settings: Any
) -> kd.linen.MaskedDense:
  """Returns a dense layer with BERT's initialisation."""
  return kd.linen.MaskedDense(
    features, dtype=dtype, kernel_init=INIT, name=name, **settings
  )


def normalise(name: str, dtype: Any) -> nn.LayerNorm:
  """Returns a layer normalisation with BERT's epsilon."""
  return nn.LayerNorm(epsilon=1e-12, dtype=dtype, name=name)
