"""The runs behind the gyro dropout paper's analysis: figures 5 and 6.

A row is a dataset and a model, trained with conventional, gyro and block-wise
dropout at a fixed Sigma and tau: table 3's, which all train at every scale.
``paper`` takes the presets of the rows that the paper counts (26 of 42 tickets
are 14 rows at 20, 10 and 5 %), ``cpu`` has stand-ins that two cores finish.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.cells import estimates
from experiments.gyro.grid import cells as grid_cells
from experiments.run import config as config_lib
from experiments.run import presets

METHODS = ("conventional", "gyro", "blockwise")

_BLOCK_ROWS = presets.BLOCK_ROWS


@dataclasses.dataclass(frozen=True)
class TableRow:
  """A dataset and a model.

  Attributes:
    runs: {method: fields of its runs}.
    rewind_epochs: epochs after which tickets start; 0: at the initialisation.
    scope: of magnitude pruning, "layer" or "global".
  """

  runs: Mapping[str, Mapping[str, Any]]
  rewind_epochs: int = 0
  scope: str = "layer"

  @property
  def names(self) -> dict[str, str]:
    """The fields "dataset" and "model", as claims name them."""
    common = self.runs["conventional"]
    return {name: common[name] for name in ("dataset", "model")}


@dataclasses.dataclass(frozen=True)
class Scale:
  """One size.

  Attributes:
    name: of the scale.
    rows: {label: row}.
    seeds: seeds of a cell.
    num_subnets: subnets of the last epoch that are compared; the paper's ten.
    fractions: share of the weights that each round of pruning leaves.
    max_members: runs that train side by side in one program, at most.
  """

  name: str
  rows: Mapping[str, TableRow]
  seeds: int
  num_subnets: int = 10
  fractions: tuple[float, ...] = (0.45, 0.2, 0.1, 0.05)
  max_members: int = 5


def cells(
  scale: Scale, label: str, method: str, data_dir: str | None = None
) -> list[config_lib.RunConfig]:
  """Returns a row's cells with one method, one a seed.

  They keep the parameters at their end and, where tickets rewind to an epoch,
  at that epoch.

  Args:
    scale: the size.
    label: of the row.
    method: one of `METHODS`.
    data_dir: where prepared datasets live; read for the steps of an epoch
      where the row trains on all examples.
  """
  row = scale.rows[label]
  cell = config_lib.RunConfig(**row.runs[method])
  steps = estimates.num_steps(cell, data_dir)
  rewind = rewind_step(row, cell, steps)
  cell = dataclasses.replace(
    cell,
    snapshot_steps=(*([rewind] if rewind else []), steps),
    eval_every=steps,
    checkpoint_every=None if scale.name == "paper" else -(-steps // 2),
  )
  return [dataclasses.replace(cell, seed=seed) for seed in range(scale.seeds)]


def rewind_step(
  row: TableRow, cell: config_lib.RunConfig, num_steps: int
) -> int:
  """Returns the step whose parameters a row's tickets start from."""
  return row.rewind_epochs * num_steps // cell.epochs


def get(
  name: str, seeds: int | None = None, labels: Iterable[str] | None = None
) -> Scale:
  """Returns the scale called `name`.

  Args:
    name: of the scale.
    seeds: in place of the scale's.
    labels: of rows; default all.

  Raises:
    ValueError: there is no such scale or row, or no seed.
  """
  config_lib.check_choice("scale", name, SCALES)
  scale = SCALES[name]
  if seeds is not None and seeds < 1:
    raise ValueError(f"num_seeds must be >= 1, got {seeds}")
  chosen = list(scale.rows if labels is None else labels)
  for label in chosen:
    config_lib.check_choice("rows", label, scale.rows)
  return dataclasses.replace(
    scale,
    seeds=scale.seeds if seeds is None else seeds,
    rows={label: scale.rows[label] for label in chosen},
  )


def _own(
  common: Mapping[str, Any], total: int, tau: int, block: int
) -> TableRow:
  """Returns a row of the fields that all its methods share."""
  gyro = {**common, "method": "gyro", "total": total, "concurrent": tau}
  blocks = dict(pattern="blocks", block_size=block, rows_per_subnet=_BLOCK_ROWS)
  return TableRow(
    {
      "conventional": {**common, "method": "standard"},
      "gyro": gyro,
      "blockwise": gyro | blocks,
    }
  )


def _preset(name: str, **fields: Any) -> TableRow:
  """Returns the row of a preset; a deep network's tickets rewind to epoch 1."""
  runs = {
    "conventional": presets.flags(name, "standard") | fields,
    "gyro": presets.flags(name, "gyro") | fields,
    "blockwise": presets.flags(name, "gyro", "blocks") | fields,
  }
  if runs["gyro"]["model"] == "resnet18":
    return TableRow(runs, rewind_epochs=1, scope="global")
  return TableRow(runs)


def _packets() -> TableRow:
  """Returns NSL-KDD at a quarter of the width, a sixth of the examples."""
  row = _preset(
    "gyro-mlp3-nsl_kdd",
    packet_scaling="minmax",
    num_train=20_480,
    hidden=256,
    epochs=10,
    lr_drops=(4, 8),
    num_devices=1,
  )
  # The ratio of block to width is kept: 32 of 1024.
  runs = {**row.runs, "blockwise": {**row.runs["blockwise"], "block_size": 8}}
  return dataclasses.replace(row, runs=runs)


def _digits() -> TableRow:
  """Returns digits, four times as long as in the grid: it learns something."""
  common = grid_cells.SIZES["smoke"].common("MLP2/digits")
  longer = dict(epochs=20, lr_drops=(8, 16), learning_rate=0.05)
  return _own(common | longer, 16, 4, 8)


def _of_grid(
  scale: str, label: str, total: int, tau: int, block: int
) -> TableRow:
  return _own(grid_cells.SIZES[scale].common(label), total, tau, block)


_PAPER = (
  *("gyro-mlp1-svhn", "gyro-resnet18-svhn"),
  *(
    f"gyro-{model}-{dataset}"
    for dataset in ("cifar10", "cifar100")
    for model in ("mlp2", "lenet", "alexnet", "resnet18")
  ),
  "gyro-resnet18-tiny_imagenet",
  *(f"gyro-mlp3-{data}" for data in ("kddcup99", "nsl_kdd", "unsw_nb15")),
)

SCALES = {
  "paper": Scale(
    name="paper", rows={name: _preset(name) for name in _PAPER}, seeds=10
  ),
  "cpu": Scale(
    name="cpu",
    rows={
      "MLP2/CIFAR-10": _of_grid("cpu", "MLP2/CIFAR-10", 256, 16, 8),
      "MLP3/NSL-KDD": _packets(),
    },
    seeds=5,
  ),
  "smoke": Scale(
    name="smoke",
    rows={"MLP2/digits": _digits()},
    seeds=2,
    num_subnets=4,
    fractions=(0.45, 0.2),
  ),
}
