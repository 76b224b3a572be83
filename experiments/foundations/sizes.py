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
    unlabelled: training images of pretraining, over those with labels.
    layer_steps: steps of pretraining a layer.
    machine: hidden units of a deep Boltzmann machine.
  """

  rates: tuple[float, ...]
  widths: tuple[int, ...]
  train_sizes: tuple[int, ...]
  num_sampled: int = 100
  pair_images: int = 100
  pair_steps: int = 3000
  unlabelled: int = 5
  layer_steps: int = 3000
  machine: tuple[int, int] = (256, 256)


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
  unlabelled=2,
  layer_steps=40,
  machine=(16, 16),
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


def window(scale: Scale) -> int:
  """Returns k, a twentieth of a run's steps."""
  return max(1, scale.num_steps // 20)


def schedules(scale: Scale) -> dict[str, dict[str, Any]]:
  """Returns {words: fields} of conventional dropout, and of k-dropout."""
  return {
    "standard": dict(method="standard"),
    "sequential m=8": dict(method="sequential", k=window(scale), m=8),
    "pooled m=8": dict(method="pooled", pool_size=50, m=8),
  }


FEW = {
  "paper": few(PAPER, 1000),
  "cpu": few(CPU, 1000, batch_size=50, epochs=100),
  "smoke": SMOKE,
}

PRETRAINING = FEW | {
  "cpu": dataclasses.replace(
    few(CPU, 1000, batch_size=50, epochs=50, hidden=128), layer_steps=1000
  )
}
"""Narrower, as each arm is trained twice: layer by layer, and fine-tuned."""

_CIFAR: dict[str, Any] = dict(
  dataset="cifar10", mean_pool=2, hidden=None, num_hidden=None
)

SPATIAL = {
  "paper": few(PAPER, 40_000, **_CIFAR | dict(mean_pool=1)),
  "cpu": few(CPU, 1000, batch_size=50, epochs=50, **_CIFAR),
  "smoke": few(SMOKE, 320, hidden=None, num_hidden=None),
}
"""For convolutions: of CIFAR-10, and narrow enough for two cores."""

_CNN: dict[str, Any] = dict(hidden=None, num_hidden=None)

WAN = {
  "paper": few(PAPER, 40_000, **_CNN | dict(mean_pool=1, epochs=150)),
  "cpu": few(CPU, 1000, batch_size=50, epochs=40, **_CNN),
  "smoke": few(SMOKE, 320, **_CNN | dict(mean_pool=1)),
}
"""For Wan's networks: of MNIST and of CIFAR-10."""

_TEXT: dict[str, Any] = dict(
  dataset="pydoc_topics",
  mean_pool=1,
  hidden=None,
  num_hidden=None,
  lr_schedule="linear",
)

TEXT = {
  "paper": few(PAPER, 4500, **_TEXT | dict(hidden=256, epochs=100)),
  "cpu": few(CPU, 100, batch_size=20, epochs=80, **_TEXT),
  "smoke": few(SMOKE, 64, batch_size=16, epochs=2, **_TEXT | dict(hidden=16)),
}
"""For texts: windows of 64 characters."""
