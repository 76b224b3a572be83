"""A small convolutional network that drops units, or whole channels.

After each convolution, ReLU and pooling there is a dropout: of units in
`cnn_units`, of channels in `cnn_channels` (SpatialDropout, Tompson et al. 2015,
"Efficient Object Localization Using Convolutional Networks": neighbours in a
channel are alike, so that a unit that is dropped is hardly missed).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import convnet
from experiments.models import convolution
from experiments.models import dense
from experiments.models import inits


class SpatialConvNet(nn.Module):
  """Convolutions of 3x3, each with ReLU, 2x2 pooling and dropout, then logits.

  Attributes:
    num_classes: size of the output.
    dropout: makes a dropout site from its name and fields.
    whole_channels: whether all places of a channel share one mask.
    channels: of each convolution.
    initialiser: name of the initialiser.
    implementation: of the masked products.
    dtype: of the computation.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  whole_channels: bool = False
  channels: tuple[int, ...] = (16, 32)
  initialiser: str = "he"
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return len(self.channels)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B H W C"],
    *,
    train: bool,
    subnets: UInt[Array, "..."] | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B C"]:
    """Returns logits [B, num_classes]."""
    call = dense.Call(train, subnets, assignment, self.implementation)
    x = convnet.check_images(x).astype(self.dtype)
    shared = (1, 2) if self.whole_channels else ()
    for i, channels in enumerate(self.channels):
      x = convolution.max_pool(nn.relu(self._convolve(x, channels, i)))
      site = self.dropout(name=f"dropout_{i}", broadcast_dims=shared)
      x = call.drop(site, i, x)
    layers = dense.Layers(self.initialiser, True, self.dtype)
    return layers.dense(
      x.reshape(x.shape[0], -1), self.num_classes, "logits", call
    )

  def _convolve(self, x: Array, channels: int, number: int) -> Array:
    layer = nn.Conv(
      channels,
      (3, 3),
      padding="SAME",
      dtype=self.dtype,
      name=f"conv_{number}",
      conv_general_dilated=convolution.conv_general_dilated,
      **inits.layer_inits(self.initialiser, 9 * x.shape[-1]),
    )
    return layer(x)


def _build(options: models.Options, *, name: str) -> SpatialConvNet:
  options.refuse(
    name, *("connections", "hidden", "input_rate", "num_hidden", "vocabulary")
  )
  return SpatialConvNet(
    num_classes=options.num_classes,
    dropout=options.dropout,
    whole_channels=name == "cnn_channels",
    channels=options.widths((16, 32)),
    initialiser=options.init or "he",
    implementation=options.implementation,
    dtype=options.dtype,
  )


MODELS = {
  name: functools.partial(_build, name=name)
  for name in ("cnn_channels", "cnn_units")
}
