"""Three sizes of the older sources' experiments on MNIST, as plain data.

``paper`` is Srivastava et al.'s setting as far as the lecture tells it, ``cpu``
one that two cores finish, and ``smoke`` one that a test runs.
"""

import dataclasses
from typing import Any

from experiments.cells import sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale(sizes.Scale):
  """One size.

  Attributes:
    rates: drop rates of the hidden units, for the effect of p.
    widths: hidden units, for the effect of the width.
    train_sizes: training images, for the effect of their number.
    num_sampled: sampled subnets of a Monte-Carlo average, at most.
    pair_images: training images of two digits, for linear models.
    pair_steps: their steps.
  """

  rates: tuple[float, ...]
  widths: tuple[int, ...]
  train_sizes: tuple[int, ...]
  num_sampled: int = 100
  pair_images: int = 100
  pair_steps: int = 3000


_MNIST = dict(
  dataset="mnist",
  model="mlp",
  pixels="unit",
  optimizer="adam",
  num_devices=1,
)

PAPER = Scale(
  name="paper",
  common=_MNIST
  | dict(
    valid_fraction=1 / 6,
    hidden=1024,
    num_hidden=3,
    batch_size=100,
    epochs=200,
    learning_rate=5e-4,
  ),
  batches=500,
  seeds=5,
  num_points=10,
  rates=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
  widths=(256, 512, 1024, 2048),
  train_sizes=(100, 500, 1000, 5000, 10_000, 50_000),
)

CPU = Scale(
  name="cpu",
  common=_MNIST
  | dict(
    mean_pool=2,
    num_train=3000,
    hidden=256,
    num_hidden=2,
    batch_size=100,
    epochs=30,
    learning_rate=1e-3,
  ),
  batches=30,
  seeds=5,
  num_points=10,
  rates=(0.1, 0.3, 0.5, 0.7, 0.9),
  widths=(64, 128, 256, 512),
  train_sizes=(100, 500, 2000),
)

SMOKE = Scale(
  name="smoke",
  common=_MNIST
  | dict(
    dataset="digits",
    num_train=320,
    valid_fraction=0.2,
    hidden=32,
    num_hidden=2,
    batch_size=32,
    epochs=4,
    learning_rate=3e-3,
  ),
  batches=10,
  seeds=2,
  num_points=2,
  rates=(0.2, 0.5),
  widths=(16, 32),
  train_sizes=(64, 320),
  num_sampled=5,
  pair_images=40,
  pair_steps=30,
  max_members=64,
)

SHARED = "foundations"
"""Name of the folder of cells that these experiments share."""

SCALES = {scale.name: scale for scale in (PAPER, CPU, SMOKE)}


def few(scale: Scale, num_train: int, **fields: Any) -> Scale:
  """Returns a size with few images, each read many times over.

  What dropout is for: networks that learn their images by heart. 3,000 images
  30 times over, as `CPU` has, are too few steps for it: it still underfits.
  """
  common = scale.common | {"num_train": num_train} | fields
  batches = num_train // common["batch_size"]
  return dataclasses.replace(scale, common=common, batches=batches)


FEW = {
  "paper": few(PAPER, 1000),
  "cpu": few(CPU, 1000, batch_size=50, epochs=100),
  "smoke": SMOKE,
}
