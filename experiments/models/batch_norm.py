"""Perceptrons with batch normalisation, and dropout before or after it.

Li et al. 2019, "Understanding the Disharmony between Dropout and Batch
Normalization by Variance Shift": dropout changes the variance of what comes
after it, in training alone, and a normalisation there keeps the variance of
training for the test. `mlp_norm_before` drops units before each normalisation,
`mlp_norm_after` after each (which is before the next layer's), `mlp_norm_last`
after the last one alone.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import dense

PLACES = ("before", "after", "last")


class NormalisedMlp(nn.Module):
  """Flattens its input; each hidden layer is dense, ReLU, normalisation.

  A training call whose `batch_stats` may not change, as when one subnet is
  evaluated, normalises by the running statistics.

  Attributes:
    num_classes: size of the output.
    dropout: makes a dropout site from its name.
    place: of dropout: "before" or "after" each normalisation, or after the
      "last" one alone.
    hidden: units of a hidden layer.
    num_hidden: number of hidden layers.
    axis_name: the axis over devices that statistics are averaged over.
    initialiser: name of the initialiser.
    implementation: of the masked products.
    dtype: of the computation; statistics are float32.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  place: str = "before"
  hidden: int = 256
  num_hidden: int = 2
  axis_name: str | None = None
  initialiser: str = "he"
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return 1 if self.place == "last" else self.num_hidden

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B ..."],
    *,
    train: bool,
    subnets: UInt[Array, "..."] | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B C"]:
    """Returns logits [B, num_classes]."""
    if self.place not in PLACES:
      raise ValueError(f"place must be one of {PLACES}, got {self.place!r}")
    call = dense.Call(train, subnets, assignment, self.implementation)
    layers = dense.Layers(self.initialiser, True, self.dtype)
    x = x.reshape(x.shape[0], -1).astype(self.dtype)
    for i in range(self.num_hidden):
      x = layers.dense(x, self.hidden, f"hidden_{i}", call, activation="relu")
      if self.place == "before":
        x = self._drop(x, i, i, call)
      x = self._normalise(x, i, call)
      if self.place == "after":
        x = self._drop(x, i, i, call)
    if self.place == "last":
      x = self._drop(x, self.num_hidden - 1, 0, call)
    return layers.dense(x, self.num_classes, "logits", call)

  def _drop(self, x: Array, layer: int, site: int, call: dense.Call) -> Array:
    return call.drop(self.dropout(name=f"dropout_{layer}"), site, x)

  def _normalise(self, x: Array, layer: int, call: dense.Call) -> Array:
    update = call.train and self.is_mutable_collection("batch_stats")
    normalise = nn.BatchNorm(
      use_running_average=not update,
      momentum=0.9,
      epsilon=1e-5,
      axis_name=self.axis_name if update else None,
      dtype=self.dtype,
      name=f"norm_{layer}",
    )
    return normalise(x)


def _build(options: models.Options, *, place: str) -> NormalisedMlp:
  options.refuse(
    f"mlp_norm_{place}",
    *("connections", "channels", "input_rate", "vocabulary"),
  )
  return NormalisedMlp(
    num_classes=options.num_classes,
    dropout=options.dropout,
    place=place,
    hidden=options.width(256),
    num_hidden=options.num_hidden or 2,
    axis_name=options.axis_name,
    initialiser=options.init or "he",
    implementation=options.implementation,
    dtype=options.dtype,
  )


MODELS = {
  f"mlp_norm_{place}": functools.partial(_build, place=place)
  for place in PLACES
}
