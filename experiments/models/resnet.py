"""ResNet-18 (He et al. 2016) with a second dense layer, as the gyro paper has.

17 convolutions (besides the 1x1 ones of the shortcuts) and 2 dense layers. The
paper does not give the second layer's width; 512, that of the features, is
assumed. Units are dropped between the dense layers alone.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import convnet
from experiments.models import dense
from experiments.models import inits

STEMS = ("cifar", "imagenet")
_LARGEST_SMALL_IMAGE = 64


class ResNet(nn.Module):
  """Four stages of two basic blocks each, mean pooling, two dense layers.

  A training call whose `batch_stats` may not change, as when one subnet is
  evaluated, normalises by the running statistics.

  Attributes:
    num_classes: size of the output.
    dropout: makes a dropout site from its name.
    channels: of each stage.
    hidden: units of the hidden dense layer.
    stem: "cifar" (3x3) or "imagenet" (7x7 of stride 2, then max pooling);
      None takes "cifar" for images of up to 64 pixels a side.
    initialiser: name of the initialiser.
    axis_name: the axis over devices that statistics are averaged over.
    implementation: of the masked products.
    dtype: of the computation; statistics are float32.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  channels: tuple[int, ...] = (64, 128, 256, 512)
  hidden: int = 512
  stem: str | None = None
  initialiser: str = "he"
  axis_name: str | None = None
  implementation: str = "auto"
  dtype: Any = jnp.float32

  num_sites = 1

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
    x = convnet.check_images(x).astype(self.dtype)
    update = train and self.is_mutable_collection("batch_stats")
    x = self._stem(x, update)
    for stage, channels in enumerate(self.channels):
      for block in range(2):
        stride = 2 if stage > 0 and block == 0 else 1
        name = f"stage_{stage}_block_{block}"
        x = self._block(x, channels, stride, name, update)
    return dense.fully_connected(
      jnp.mean(x, axis=(1, 2)),
      (self.hidden,),
      self.num_classes,
      dropout=self.dropout,
      layers=dense.Layers(self.initialiser, True, self.dtype),
      call=dense.Call(train, subnets, assignment, self.implementation),
    )

  def _stem(self, x: Array, update: bool) -> Array:
    small = max(x.shape[1:3]) <= _LARGEST_SMALL_IMAGE
    stem = self.stem or ("cifar" if small else "imagenet")
    if stem not in STEMS:
      raise ValueError(f"stem must be one of {STEMS}, got {stem!r}")
    size, stride = (3, 1) if stem == "cifar" else (7, 2)
    x = self._convolve(x, self.channels[0], size, stride, "stem")
    x = nn.relu(self._normalise(x, "stem", update))
    if stem == "cifar":
      return x
    edges: Any = ((1, 1), (1, 1))  # Flax's annotation knows names alone.
    return nn.max_pool(x, (3, 3), (2, 2), edges)

  def _block(
    self, x: Array, channels: int, stride: int, name: str, update: bool
  ) -> Array:
    """Two convolutions of 3x3 around a shortcut."""
    y = self._convolve(x, channels, 3, stride, f"{name}_conv_0")
    y = nn.relu(self._normalise(y, f"{name}_conv_0", update))
    y = self._convolve(y, channels, 3, 1, f"{name}_conv_1")
    y = self._normalise(y, f"{name}_conv_1", update)
    if x.shape != y.shape:
      x = self._convolve(x, channels, 1, stride, f"{name}_shortcut")
      x = self._normalise(x, f"{name}_shortcut", update)
    return nn.relu(x + y)

  def _convolve(
    self, x: Array, channels: int, size: int, stride: int, name: str
  ) -> Array:
    # Not "SAME", which pads an even image by a pixel less at stride 2.
    edge = (size // 2, size // 2)
    layer = nn.Conv(
      channels,
      (size, size),
      stride,
      padding=(edge, edge),
      use_bias=False,
      dtype=self.dtype,
      name=name,
      kernel_init=inits.layer_inits(
        self.initialiser, size * size * x.shape[-1]
      )["kernel_init"],
    )
    return layer(x)

  def _normalise(self, x: Array, name: str, update: bool) -> Array:
    layer = nn.BatchNorm(
      use_running_average=not update,
      momentum=0.9,
      epsilon=1e-5,
      axis_name=self.axis_name if update else None,
      dtype=self.dtype,
      name=f"{name}_norm",
    )
    return layer(x)


def _build(options: models.Options) -> ResNet:
  options.refuse(
    "resnet18", *("connections", "input_rate", "num_hidden", "vocabulary")
  )
  channels = options.widths((64, 128, 256, 512))
  return ResNet(
    num_classes=options.num_classes,
    dropout=options.dropout,
    channels=channels,
    hidden=options.width(512),
    initialiser=options.init or "he",
    axis_name=options.axis_name,
    implementation=options.implementation,
    dtype=options.dtype,
  )


MODELS = {"resnet18": _build}
