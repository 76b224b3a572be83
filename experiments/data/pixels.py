"""Pixels to floats, and random crops and flips, jitted on the device."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

MODES = ("unit", "signed", "mean", "channels", "standardise")


@dataclasses.dataclass(frozen=True, eq=False)
class Pixels:
  """The way from uint8 images to what a network reads.

  ``unit`` is x / max; ``signed`` (x / max - .5) / .5; ``mean`` x / max less
  the training set's mean of each pixel; ``channels`` x / max less the mean of
  each channel, over its standard deviation; ``standardise`` gives each image
  mean 0 and deviation 1 (the deviation at least 1 / sqrt(pixels), as in the
  gyro dropout code).

  Attributes:
    mode: one of `MODES`.
    pixel_max: the largest value of a pixel.
    offset: what is subtracted after the division, [H, W, C] or [C] or 0.
    scale: what it is then divided by, [C] or a number.
  """

  mode: str
  pixel_max: int
  offset: Any = 0.0
  scale: Any = 1.0

  def __call__(
    self, images: UInt8[Array, "B H W C"]
  ) -> Float[Array, "B H W C"]:
    x = jnp.asarray(images, jnp.float32) / self.pixel_max
    if self.mode == "standardise":
      return _standardise(x)
    return (x - _as_rows(self.offset)) / _as_rows(self.scale)


def fit(
  images: UInt8[np.ndarray, "N H W C"], mode: str, pixel_max: int = 255
) -> Pixels:
  """Returns the `Pixels` of a mode, with the training set's statistics.

  Raises:
    ValueError: an unknown mode.

  >>> import numpy as np
  >>> fit(np.zeros((2, 4, 4, 1), np.uint8), "signed")(
  ...     np.full((1, 4, 4, 1), 255, np.uint8)).max().item()
  1.0
  """
  if mode not in MODES:
    raise ValueError(f"pixels must be one of {', '.join(MODES)}, got {mode!r}")
  if mode == "signed":
    return Pixels(mode, pixel_max, 0.5, 0.5)
  if mode == "mean":
    mean = images.mean(0, dtype=np.float64) / pixel_max
    return Pixels(mode, pixel_max, mean.astype(np.float32))
  if mode == "channels":
    # Exact integer counts: the sums do not depend on the order.
    counts = np.stack(
      [
        np.bincount(images[..., c].reshape(-1), minlength=256)
        for c in range(images.shape[-1])
      ]
    )
    values = np.arange(256) / pixel_max
    share = counts / counts.sum(-1, keepdims=True)
    mean = share @ values
    deviation = np.sqrt(share @ values**2 - mean**2)
    return Pixels(
      mode,
      pixel_max,
      mean.astype(np.float32),
      np.maximum(deviation, 1e-6).astype(np.float32),
    )
  return Pixels(mode, pixel_max)


def augment(
  images: UInt8[Array, "B H W C"],
  key: jax.Array,
  *,
  crop: int | None = None,
  pad: int = 0,
  flip: bool = False,
) -> Array:
  """Returns randomly cropped and flipped images; each row has its own draw.

  Args:
    images: [B, H, W, C], of any dtype.
    key: the key of this step; the same key gives the same images, so that a
      run that is continued sees what it would have seen.
    crop: the side of the square that is cut out; None keeps the size.
    pad: zeros around the image before it is cut.
    flip: whether to mirror every other image, at random, left to right.

  Raises:
    ValueError: the crop is larger than the padded image.
  """
  crop_key, flip_key = jax.random.split(key)
  batch, height, width, channels = images.shape
  rows, cols = (height, width) if crop is None else (crop, crop)
  if rows > height + 2 * pad or cols > width + 2 * pad or rows < 1 or pad < 0:
    raise ValueError(
      f"crop must be in [1, {min(height, width) + 2 * pad}] for images of"
      f" {height} x {width} padded by {pad}, got {crop}"
    )
  if pad or crop is not None:
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    room = jnp.array([height + 2 * pad - rows + 1, width + 2 * pad - cols + 1])
    corners = jax.random.randint(crop_key, (batch, 2), 0, room[None, :])

    def cut(image, corner):
      start = (corner[0], corner[1], 0)
      return jax.lax.dynamic_slice(image, start, (rows, cols, channels))

    images = jax.vmap(cut)(padded, corners)
  if flip:
    mirrored = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
    images = jnp.where(mirrored, images[:, :, ::-1], images)
  return images


def centre_crop(images: Array, crop: int) -> Array:
  """Returns the middle crop x crop pixels of images [B, H, W, C]."""
  top, left = ((side - crop) // 2 for side in images.shape[1:3])
  if top < 0 or left < 0:
    raise ValueError(
      f"crop must be at most {min(images.shape[1:3])}, got {crop}"
    )
  return images[:, top : top + crop, left : left + crop]


def _standardise(x: Array) -> Array:
  axes = tuple(range(1, x.ndim))
  mean = x.mean(axes, keepdims=True)
  deviation = x.std(axes, keepdims=True)
  return (x - mean) / jnp.maximum(deviation, x[0].size ** -0.5)


def _as_rows(value: Any) -> Any:
  # Rank promotion is off in the tests: a row axis is written out.
  array = jnp.asarray(value, jnp.float32)
  return array.reshape((1,) * (4 - array.ndim) + array.shape)
