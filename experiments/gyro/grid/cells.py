"""The gyro dropout paper's grids over Sigma, tau and blocks, as plain data.

Figure 1, tables 1, 2 and 6. The paper's grids exist for SVHN (an MLP) and
CIFAR-100 (LeNet, AlexNet); the cpu scale has a stand-in, MLP2 on CIFAR-10.
"""

import dataclasses
from typing import Any

from experiments.cells import sizes
from experiments.run import config as config_lib

_CODE = dict(
  pixels="standardise",
  optimizer="rmsprop",
  learning_rate=0.007,
  lr_schedule="drops",
  init="glorot",
  batch_size=256,
  num_devices=1,
)
"""The authors' code: TensorFlow 1's RMSProp, Glorot, images standardised."""

_CNN = dict(dataset="cifar100", crop=24, flip=True, batch_size=256)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(sizes.Size):
  """A scale's values.

  Attributes:
    models: {label: fields of its runs}.
    totals: Sigma of figure 1, with tau = min(256, Sigma).
    square: (Sigma, tau) of table 1.
    blocks: block sizes of table 2, each with 128 rows.
    wide_block: the block size of table 2's last comparison, with 32 rows.
    block_totals: Sigma of table 2.
    block_taus: tau of table 2.
    epochs: of a run; the rate drops after 40 and 80 per cent.
  """

  models: dict[str, dict[str, Any]]
  totals: tuple[int, ...]
  square: tuple[tuple[int, ...], tuple[int, ...]]
  blocks: tuple[int, ...]
  wide_block: int
  block_totals: tuple[int, ...]
  block_taus: tuple[int, ...]
  epochs: int

  def common(self, label: str) -> dict[str, Any]:
    """Returns the fields that all runs of a model share."""
    drops = (2 * self.epochs // 5, 4 * self.epochs // 5)
    own = dict(epochs=self.epochs, lr_drops=drops)
    return _CODE | own | self.models[label]


SIZES = {
  "paper": Size(
    name="paper",
    models={
      "MLP1/SVHN": dict(dataset="svhn_cropped", model="mlp1"),
      "LeNet/CIFAR-100": _CNN | dict(model="lenet"),
      "AlexNet/CIFAR-100": _CNN | dict(model="alexnet"),
    },
    totals=tuple(2**i for i in range(15)),
    square=((16, 256, 1024, 2048, 8192), (4, 8, 16, 32, 64, 128, 256)),
    blocks=(128, 64, 32, 16),
    wide_block=128,
    block_totals=(256, 1024, 2048, 8192),
    block_taus=(2, 4, 8),
    epochs=100,
    seeds=10,
  ),
  "cpu": Size(
    name="cpu",
    models={
      "MLP2/CIFAR-10": dict(
        dataset="cifar10", model="mlp2", mean_pool=2, num_train=5120, hidden=256
      )
    },
    totals=(1, 4, 16, 64, 256, 1024, 4096, 16_384),
    square=((16, 256, 1024, 8192), (4, 16, 64, 256)),
    blocks=(32, 16, 8, 4),
    wide_block=32,
    block_totals=(256, 1024),
    block_taus=(2, 8),
    epochs=120,
    seeds=5,
  ),
  "smoke": Size(
    name="smoke",
    max_members=64,
    models={
      "MLP2/digits": dict(
        dataset="digits",
        model="mlp2",
        num_train=320,
        hidden=32,
        batch_size=64,
        learning_rate=0.003,
      )
    },
    totals=(1, 64),
    square=((16,), (4,)),
    blocks=(8,),
    wide_block=8,
    block_totals=(16,),
    block_taus=(2,),
    epochs=5,
    seeds=1,
  ),
}


def cells(size: Size) -> list[config_lib.RunConfig]:
  """Returns all cells of a size, one seed each."""
  found = {}
  for label in size.models:
    common = size.common(label)
    for own in settings(size):
      for seed in range(size.seeds):
        config = config_lib.RunConfig(**(common | own), seed=seed)
        found[config] = config
  return list(found)


def settings(size: Size) -> list[dict[str, Any]]:
  """Returns the methods that a model is trained with, in the tables' order."""
  found = [dict(method="none"), dict(method="standard")]
  found += [_gyro(total, min(256, total)) for total in size.totals]
  for total in size.square[0]:
    for tau in size.square[1]:
      if tau <= total:
        found.append(_gyro(total, tau))
        # Table 6 at EQUAL (Sigma, tau), which the paper did not keep.
        found.append(_gyro(total, tau, scheduling="random"))
  for total in size.block_totals:
    for tau in size.block_taus:
      found += [_block(total, tau, 128, size) for size in size.blocks]
      found.append(_block(total, tau, 32, size.wide_block))
  return found


def _gyro(total: int, tau: int, **fields: Any) -> dict[str, Any]:
  return dict(method="gyro", total=total, concurrent=tau, **fields)


def _block(total: int, tau: int, rows: int, size: int) -> dict[str, Any]:
  own = dict(rows_per_subnet=rows, pattern="blocks", block_size=size)
  return _gyro(total, tau, **own)
