"""BERT (Devlin et al. 2019): a post-norm encoder with heads for pairs, spans.

Units are dropped where the original drops them: after the embeddings, after
attention and the feed-forward layers, of the attention's probabilities, and
before the classifier. `bert_weights` loads published parameters.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import dense
from experiments.models import encoder

INPUTS = ("input_ids", "token_type_ids", "attention_mask")


class Bert(nn.Module):
  """The encoder and a head.

  Attributes:
    num_classes: classes of a pair, read from the pooled first token; 0 scores
      each token as the start and the end of a span, with no pooler.
    dropout: makes a dropout site from its name.
    sizes: of the encoder.
    implementation: of the masked products.
    dtype: of the computation.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  sizes: encoder.Sizes = encoder.Sizes()
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return 1 + 3 * self.sizes.num_layers + (self.num_classes > 0)

  @nn.compact
  def __call__(
    self,
    x: Mapping[str, Int[Array, "B L"]],
    *,
    train: bool,
    subnets: UInt[Array, "..."] | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ..."]:
    """Returns logits: [B, num_classes], or [B, 2, L] of starts and ends.

    Args:
      x: "input_ids", "token_type_ids" and "attention_mask" (1 on text).
      train: whether units are dropped.
      subnets: uint32 [T], or [num_sites, T].
      assignment: int32 [B] of slots.
    """
    _check(x, self.sizes)
    call = dense.Call(train, subnets, assignment, self.implementation)
    y = encoder.normalise("embeddings_norm", self.dtype)(self._embed(x))
    y = call.drop(self.dropout(name="embeddings_dropout"), 0, y)
    bias = jnp.where(x["attention_mask"] > 0, 0.0, -1e9)[:, None, None, :]
    for i in range(self.sizes.num_layers):
      layer = encoder.EncoderLayer(
        self.sizes, self.dropout, 1 + 3 * i, self.dtype, name=f"layer_{i}"
      )
      y = layer(y, bias, call)
    if self.num_classes == 0:
      scores = encoder.project(2, "spans", self.dtype)(y)
      return jnp.moveaxis(scores, -1, 1)
    pooled = jnp.tanh(
      encoder.project(self.sizes.hidden, "pooler", self.dtype)(y[:, 0])
    )
    site = self.dropout(name="classifier_dropout")
    pooled = call.drop(site, self.num_sites - 1, pooled)
    return encoder.project(self.num_classes, "classifier", self.dtype)(pooled)

  def _embed(self, x: Mapping[str, Array]) -> Float[Array, "B L D"]:
    sizes, ids = self.sizes, x["input_ids"]

    def table(rows, name):
      return nn.Embed(
        rows, sizes.hidden, self.dtype, embedding_init=encoder.INIT, name=name
      )

    positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
    return (
      table(sizes.vocabulary, "words")(ids)
      + table(2, "types")(x["token_type_ids"])
      + table(sizes.max_length, "positions")(positions)
    )


def _check(x: Any, sizes: encoder.Sizes) -> None:
  """Raises a ValueError unless `x` is text that the encoder can read."""
  if not isinstance(x, Mapping) or not set(INPUTS) <= set(x):
    got = sorted(x) if isinstance(x, Mapping) else type(x).__name__
    raise ValueError(
      f"inputs of BERT must be a dict of {', '.join(INPUTS)}, got {got}; give"
      " it a dataset of text"
    )
  for name in INPUTS:
    shape = jnp.shape(x[name])
    if len(shape) != 2 or shape != jnp.shape(x["input_ids"]):
      raise ValueError(
        f"{name} must be [B, L], the shape of input_ids, got {shape}"
      )
  length = x["input_ids"].shape[1]
  if length > sizes.max_length:
    raise ValueError(
      f"input_ids must have at most {sizes.max_length} tokens, the positions"
      f" that are learnt, got {length}"
    )


def _build(options: models.Options) -> Bert:
  """Widths are those of whole heads of 64 features."""
  options.refuse("bert", *("connections", "channels", "init", "input_rate"))
  hidden = options.hidden or 64 * max(1, round(12 * options.width_scale))
  sizes = encoder.Sizes(
    vocabulary=options.vocabulary or encoder.Sizes.vocabulary,
    hidden=hidden,
    num_layers=options.num_hidden or encoder.Sizes.num_layers,
    num_heads=max(1, hidden // 64),
    feed_forward=4 * hidden,
  )
  return Bert(
    num_classes=options.num_classes,
    dropout=options.dropout,
    sizes=sizes,
    implementation=options.implementation,
    dtype=options.dtype,
  )


MODELS = {"bert": _build}
