"""Plain convolutional networks, of which LeNet and AlexNet are two."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import convolution
from experiments.models import dense
from experiments.models import inits


class ConvNet(nn.Module):
  """Convolutions of 5x5 with ReLU, some pooled, then dense layers.

  Padding is "SAME" everywhere and there are no biases, as in the gyro dropout
  authors' code. Units are dropped in the dense layers alone.

  Attributes:
    num_classes: size of the output.
    dropout: makes a dropout site from its name.
    channels: of each convolution.
    pools: for each convolution, whether 2x2 max pooling follows it.
    hidden: units of a hidden dense layer.
    num_hidden: number of hidden dense layers.
    connections: makes a hidden layer that drops weights, in place of units.
    initialiser: name of the initialiser.
    implementation: of the masked products.
    dtype: of the computation.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  channels: tuple[int, ...]
  pools: tuple[bool, ...]
  hidden: int = 1024
  num_hidden: int = 2
  connections: Callable[..., nn.Module] | None = None
  initialiser: str = "glorot"
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return self.num_hidden

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
    x = check_images(x).astype(self.dtype)
    for i, (channels, pool) in enumerate(zip(self.channels, self.pools)):
      x = nn.relu(self._convolve(x, channels, f"conv_{i}"))
      if pool:
        x = convolution.max_pool(x)
    return dense.fully_connected(
      x.reshape(x.shape[0], -1),
      (self.hidden,) * self.num_hidden,
      self.num_classes,
      dropout=self.dropout,
      layers=dense.Layers(
        self.initialiser, False, self.dtype, self.connections
      ),
      call=dense.Call(train, subnets, assignment, self.implementation),
    )

  def _convolve(self, x: Array, channels: int, name: str) -> Array:
    layer = nn.Conv(
      channels,
      (5, 5),
      padding="SAME",
      use_bias=False,
      dtype=self.dtype,
      name=name,
      conv_general_dilated=convolution.conv_general_dilated,
      **inits.layer_inits(self.initialiser, 25 * x.shape[-1]),
    )
    return layer(x)


def build(
  options: models.Options,
  *,
  name: str,
  channels: tuple[int, ...],
  pools: tuple[bool, ...],
  hidden: int = 1024,
  num_hidden: int = 2,
) -> ConvNet:
  """Returns a network of this kind."""
  options.refuse(name, "input_rate", "vocabulary")
  return ConvNet(
    num_classes=options.num_classes,
    dropout=options.dropout,
    channels=options.widths(channels),
    pools=pools,
    hidden=options.width(hidden),
    num_hidden=options.num_hidden or num_hidden,
    connections=options.connections,
    initialiser=options.init or "glorot",
    implementation=options.implementation,
    dtype=options.dtype,
  )


def check_images(x: Any) -> Array:
  """Returns `x`, or raises a ValueError where it holds no images."""
  x = jnp.asarray(x)
  if x.ndim != 4:
    raise ValueError(
      f"images must have shape [B, H, W, C], got {x.shape}; give a model of"
      " images a dataset of images"
    )
  return x
