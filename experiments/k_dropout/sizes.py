"""Three sizes of the k-dropout paper's experiments, as plain data.

``paper`` is the paper's own setting, ``cpu`` one that two cores finish, and
``smoke`` one that a test runs. A window of k steps cannot keep both its share
of the run, k / T, and its number of epochs: tables give both.
"""

import dataclasses
from typing import Any

from experiments.cells import sizes
from experiments.k_dropout import paper

ORDERS = ("every_epoch", "once", "rows")
"""Orders of the batches; the paper's authors froze theirs ("once")."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale(sizes.Scale):
  """One size.

  Attributes:
    deep_seeds: seeds of a cell of the grid with three hidden layers.
    orders: orders of the batches.
    ks: windows of the sequential grid, T the last.
    fine_ks: windows around the transition.
    ms: concurrent subnets of the sequential grid.
    pool_sizes: of the pooled grid.
    pool_ms: concurrent subnets of the pooled grid.
    rates: drop rates.
    image_counts: training images of the runs with one window, frozen.
    windows: windows whose subnets are followed one by one.
    deep_ks: windows of the grid with three hidden layers.
    num_rows: held-out or test images of those evaluations.
    num_random: random subnets of a box plot.
    num_members: members of an ensemble, pool of subnets.
  """

  deep_seeds: int
  orders: tuple[str, ...]
  ks: tuple[int, ...]
  fine_ks: tuple[int, ...]
  ms: tuple[int, ...]
  pool_sizes: tuple[int, ...]
  pool_ms: tuple[int, ...]
  rates: tuple[float, ...]
  image_counts: tuple[int, ...]
  windows: tuple[int, ...]
  deep_ks: tuple[int, ...]
  num_rows: int
  num_random: int
  num_members: int


_MLP = dict(
  model="kdropout_mlp",
  init="torch_linear",
  pixels="signed",
  optimizer="adam",
  num_devices=1,
)

PAPER = Scale(
  name="paper",
  common=_MLP
  | dict(
    dataset="cifar10",
    valid_fraction=0.0,
    hidden=2000,
    num_hidden=2,
    batch_size=512,
    epochs=300,
    learning_rate=5e-4,
  ),
  batches=97,
  seeds=5,
  deep_seeds=5,
  orders=ORDERS,
  ks=paper.FIGURE_1_KS,
  fine_ks=(97, 146, 194, 243, 323, 485),
  ms=tuple(paper.FIGURE_1_SEQUENTIAL),
  pool_sizes=paper.FIGURE_1_POOL_SIZES,
  pool_ms=tuple(paper.FIGURE_1_POOLED),
  rates=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
  image_counts=(12_500, 25_000, 50_000),
  windows=(15, 97, 485, 970, 2425, 4850),
  deep_ks=(97, 485, 29_100),
  num_points=60,
  num_rows=10_000,
  num_random=20,
  num_members=50,
  max_members=5,
)

CPU = Scale(
  name="cpu",
  common=_MLP
  | dict(
    dataset="cifar10",
    mean_pool=2,
    num_train=5120,
    hidden=256,
    num_hidden=2,
    batch_size=128,
    epochs=60,
    learning_rate=5e-4,
  ),
  batches=40,
  seeds=5,
  deep_seeds=3,
  orders=ORDERS,
  ks=(1, 2, 8, 40, 80, 200, 400, 800, 2400),
  fine_ks=(1, 2, 4, 8, 12, 16, 20, 24, 32, 40),
  ms=(1, 8, 32, 128),
  pool_sizes=(1, 10, 20, 50, 200, 1000, 50_000),
  pool_ms=(1, 8, 128),
  rates=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
  image_counts=(1280, 5120, 20_480),
  windows=(8, 40, 80, 200, 400),
  deep_ks=(1, 40, 400, 2400),
  num_points=60,
  num_rows=2000,
  num_random=20,
  num_members=50,
  max_members=5,
)

SMOKE = Scale(
  name="smoke",
  common=_MLP
  | dict(
    dataset="digits",
    num_train=320,
    valid_fraction=0.2,
    hidden=32,
    num_hidden=2,
    batch_size=32,
    epochs=12,
    learning_rate=3e-3,
  ),
  batches=10,
  seeds=2,
  deep_seeds=1,
  orders=("every_epoch",),
  ks=(1, 10, 120),
  fine_ks=(5, 10),
  ms=(1, 8),
  pool_sizes=(1, 10, 50),
  pool_ms=(1, 8),
  rates=(0.2, 0.5),
  image_counts=(160, 320),
  windows=(10, 30),
  deep_ks=(10, 120),
  num_points=12,
  num_rows=100,
  num_random=5,
  num_members=4,
  max_members=64,
)

SCALES = {scale.name: scale for scale in (PAPER, CPU, SMOKE)}


def resized(scale: Scale, seeds: int, **common: Any) -> Scale:
  """Returns a scale with other seeds and other fields of its runs."""
  return dataclasses.replace(
    scale, seeds=seeds, common=scale.common | common, max_members=seeds
  )
