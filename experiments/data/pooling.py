"""Smaller images: squares of pixels averaged into one."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from experiments.data import dataset as dataset_lib

_CHUNK = 4096


def mean_pool(dataset: dataset_lib.Dataset, side: int) -> dataset_lib.Dataset:
  """Averages squares of `side` x `side` pixels in every image of a dataset.

  Args:
    dataset: one of images.
    side: of the squares; it must divide the images' height and width.

  Raises:
    ValueError: no images, or squares that do not fill them.
  """
  if dataset.info.task != "image":
    raise ValueError(
      f"mean_pool is for images, got dataset {dataset.info.name!r}"
    )
  changed = {
    name: pool_images(getattr(dataset, name), side)
    for name in ("train_x", "valid_x", "test_x")
    if getattr(dataset, name) is not None
  }
  return dataclasses.replace(dataset, **changed)


def pool_images(
  images: UInt8[np.ndarray, "N H W C"], side: int
) -> UInt8[np.ndarray, "N h w C"]:
  """Returns the mean of each square, rounded to the nearest integer.

  Rounding adds an error of at most half a step of the pixel's scale, and
  keeps images as compact, and as whole, as they came.

  >>> import numpy as np
  >>> image = np.array([[0, 1], [3, 3]], np.uint8).reshape(1, 2, 2, 1)
  >>> pool_images(image, 2).tolist()
  [[[[2]]]]
  """
  count, height, width, channels = images.shape
  if side < 1 or height % side or width % side:
    raise ValueError(
      f"mean_pool must divide the images' {height} x {width} pixels, got {side}"
    )
  shape = (height // side, side, width // side, side, channels)
  pooled = np.empty(
    (count, height // side, width // side, channels), images.dtype
  )
  for first in range(0, count, _CHUNK):  # Sums in chunks: they are wide.
    part = images[first : first + _CHUNK]
    sums = part.reshape(-1, *shape).sum((2, 4), dtype=np.uint32)
    pooled[first : first + _CHUNK] = (sums + side * side // 2) // side**2
  return pooled
