"""The rows of the gyro dropout paper's tables 4 and 5, as plain data.

A row is a dataset and a model, trained without dropout and with conventional,
gyro and block-wise dropout, at table 3's fixed Sigma and tau: nothing is
selected. Settings are the presets'; a smaller scale changes what `TableRow.own`
says, and the blocks, whose ratio to the width stays. Packets are scaled to
[0, 1] by the training set's range.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.cells import sizes
from experiments.run import config as config_lib
from experiments.run import presets

METHODS = {
  "none": ("none", "bernoulli"),
  "conventional": ("standard", "bernoulli"),
  "gyro": ("gyro", "bernoulli"),
  "blockwise": ("gyro", "blocks"),
  "fresh_blocks": ("standard", "blocks"),
}
"""{the paper's name: (method, pattern)}; what SparseDrop does (Lewis et al.
2024), fresh masks of blocks at each step, is beyond the paper."""

LONG = "long"
"""The size of two rows alone, longer and with more seeds than the others."""

_WIDTH = 1024  # of the paper's hidden layers, which its blocks of 32 are for


@dataclasses.dataclass(frozen=True)
class TableRow:
  """A row at one scale.

  Attributes:
    label: as in the paper's table.
    group: packets, mlp, cnn, resnet or bert.
    preset: whose settings it has.
    own: fields of its runs that the preset does not have so.
    seeds: seeds of a cell.
    not_run: why this scale leaves it out; empty where it does not.
    methods: those of the paper's row, keys of `METHODS`.
    command: what runs it at the paper's scale, where not this binary.
  """

  label: str
  group: str
  preset: str
  own: Mapping[str, Any]
  seeds: int
  not_run: str = ""
  methods: tuple[str, ...] = tuple(METHODS)
  command: str = ""

  @property
  def names(self) -> dict[str, Any]:
    """The fields "dataset" and "model", as claims name them."""
    fields = {**presets.get(self.preset).flags, **self.own}
    return {name: fields[name] for name in ("dataset", "model")}

  @property
  def assumed(self) -> tuple[str, ...]:
    """Settings that neither the paper nor its authors' code states."""
    packets = tuple(_PACKETS) if self.group == "packets" else ()
    return (*presets.get(self.preset).assumed, *packets)

  def cells(self, method: str) -> list[config_lib.RunConfig]:
    """Returns the cells of one of `methods`, one a seed."""
    name, pattern = METHODS[method]
    fields = presets.flags(self.preset, name, pattern) | dict(self.own)
    if pattern == "blocks":
      width = fields.get("hidden", _WIDTH)
      fields["block_size"] = max(1, presets.BLOCK_SIZE * width // _WIDTH)
    if pattern != "blocks" or name != "gyro":
      fields.pop("rows_per_subnet", None)
    if name != "gyro":
      for own in ("total", "concurrent"):
        fields.pop(own, None)
    cell = config_lib.RunConfig(**fields)
    return [dataclasses.replace(cell, seed=seed) for seed in range(self.seeds)]

  def all_cells(self) -> dict[str, list[config_lib.RunConfig]]:
    """Returns {method: cells}; {} where the row is not run."""
    if self.not_run:
      return {}
    return {method: self.cells(method) for method in self.methods}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale(sizes.Size):
  """One size: all rows, in the paper's order, each with seeds of its own."""

  rows: tuple[TableRow, ...]


def rows(scale: str, seeds: int | None = None) -> tuple[TableRow, ...]:
  """Returns all rows of a scale, in the paper's order.

  Args:
    scale: its name.
    seeds: of a cell; default the row's own.
  """
  found = SCALES[scale].rows
  if seeds is not None:
    found = tuple(dataclasses.replace(row, seeds=seeds) for row in found)
  return found


def choose(
  all_rows: Iterable[TableRow], names: Iterable[str] | None
) -> list[TableRow]:
  """Returns the rows with one of `names`, groups or labels; all for None.

  Raises:
    ValueError: a name that is neither.
  """
  all_rows = list(all_rows)
  if names is None:
    return all_rows
  names = list(names)
  known = dict.fromkeys(
    [row.group for row in all_rows] + [row.label for row in all_rows]
  )
  for name in names:
    config_lib.check_choice("rows", name, known)
  return [r for r in all_rows if r.group in names or r.label in names]


_WITHOUT_BLOCKS = ("none", "conventional", "gyro")

# The test set is read at each evaluation, for the column of the best one; the
# last evaluation is the headline.
_COMMON = {"num_devices": 1, "test_curve": True}
_PACKETS = {"packet_scaling": "minmax"}

_TABLE = (
  ("SVHN/MLP1", "mlp", "gyro-mlp1-svhn"),
  ("SVHN/ResNet-18", "resnet", "gyro-resnet18-svhn"),
  ("CIFAR10/MLP2", "mlp", "gyro-mlp2-cifar10"),
  ("CIFAR10/LeNet", "cnn", "gyro-lenet-cifar10"),
  ("CIFAR10/AlexNet", "cnn", "gyro-alexnet-cifar10"),
  ("CIFAR10/ResNet-18", "resnet", "gyro-resnet18-cifar10"),
  ("CIFAR100/MLP2", "mlp", "gyro-mlp2-cifar100"),
  ("CIFAR100/LeNet", "cnn", "gyro-lenet-cifar100"),
  ("CIFAR100/AlexNet", "cnn", "gyro-alexnet-cifar100"),
  ("CIFAR100/ResNet-18", "resnet", "gyro-resnet18-cifar100"),
  ("TinyImageNet/ResNet-18", "resnet", "gyro-resnet18-tiny_imagenet"),
  ("ImageNet/ResNet-18", "resnet", "gyro-resnet18-imagenet"),
  ("KDDCup99/MLP3", "packets", "gyro-mlp3-kddcup99"),
  ("NSL-KDD/MLP3", "packets", "gyro-mlp3-nsl_kdd"),
  ("UNSW-NB15/MLP3", "packets", "gyro-mlp3-unsw_nb15"),
  ("MRPC/BERT", "bert", "gyro-bert-mrpc"),
  ("SQuAD/BERT", "bert", "gyro-bert-squad"),
)

_ELSEWHERE = {
  "ImageNet/ResNet-18": (
    "its images are streamed",
    "python -m experiments.train --preset=gyro-resnet18-imagenet --method=gyro"
    " --seeds=10",
  ),
  "MRPC/BERT": (
    "no pretrained weights at hand",
    "python -m experiments.text_results --preset=gyro-bert-mrpc"
    " --pretrained=FILE --vocabulary=FILE --method=gyro --seed=0",
  ),
  "SQuAD/BERT": (
    "no pretrained weights at hand",
    "python -m experiments.text_results --preset=gyro-bert-squad"
    " --pretrained=FILE --vocabulary=FILE --method=gyro --seed=0",
  ),
}
"""{label: (why, command)} of rows that no sweep trains."""

_CPU_OWN = {
  # 492, 152 and 398 steps an epoch; evaluated once an epoch.
  "packets": dict(
    hidden=256, epochs=10, lr_drops=(4, 8), checkpoint_every=2000
  ),
  # 20 steps an epoch; 10 evaluations.
  "mlp": dict(
    hidden=256,
    mean_pool=2,
    num_train=5120,
    epochs=60,
    lr_drops=(24, 48),
    eval_every=120,
    checkpoint_every=600,
  ),
  # 19 steps an epoch; 5 evaluations.
  "cnn": dict(
    hidden=256,
    num_train=5000,
    epochs=20,
    lr_drops=(8, 16),
    eval_every=76,
    checkpoint_every=190,
  ),
}
"""{group: fields}: sizes that two cores finish."""

_CPU_SEEDS = {"packets": 10, "mlp": 10, "cnn": 5}
_CPU_CHANNELS = {"lenet": (16, 32), "alexnet": (16, 32, 48)}


def _row(
  label: str, group: str, preset: str, own, seeds: int, not_run=""
) -> TableRow:
  why, command = _ELSEWHERE.get(label, ("", ""))
  packets = _PACKETS if group == "packets" else {}
  has_blocks = group not in ("resnet", "bert")
  return TableRow(
    label=label,
    group=group,
    preset=preset,
    own={**_COMMON, **packets, **own},
    seeds=seeds,
    not_run=why or not_run,
    methods=tuple(METHODS) if has_blocks else _WITHOUT_BLOCKS,
    command=command,
  )


def _cpu_row(label: str, group: str, preset: str) -> TableRow:
  if group not in _CPU_OWN:
    return _row(label, group, preset, {}, 10, "too large for this scale")
  own: dict[str, Any] = dict(_CPU_OWN[group])
  model = presets.get(preset).flags["model"]
  if model in _CPU_CHANNELS:
    own["channels"] = _CPU_CHANNELS[model]
  return _row(label, group, preset, own, _CPU_SEEDS[group])


def _long_row(label: str, group: str, preset: str) -> TableRow:
  """Four times the epochs of the cpu scale, where dropout has time to help."""
  if label not in ("CIFAR10/MLP2", "CIFAR100/MLP2"):
    return _row(label, group, preset, {}, 20, "at the cpu scale alone")
  own = dict(_CPU_OWN["mlp"])
  own |= dict(epochs=240, lr_drops=(96, 192), eval_every=480)
  return _row(label, group, preset, own | {"checkpoint_every": 2400}, 20)


def _smoke_row(label: str, group: str, preset: str, **own: Any) -> TableRow:
  small = dict(
    dataset="digits",
    num_train=320,
    hidden=32,
    batch_size=64,
    epochs=4,
    lr_drops=(2, 3),
    learning_rate=0.05,
    total=16,
    concurrent=8,
    rows_per_subnet=32,
  )
  row = _row(label, group, preset, small | own, 2)
  own = {k: v for k, v in row.own.items() if k != "packet_scaling"}
  return dataclasses.replace(row, own=own)


SCALES = {
  "paper": Scale(
    name="paper", seeds=10, rows=tuple(_row(*names, {}, 10) for names in _TABLE)
  ),
  "cpu": Scale(
    name="cpu", seeds=10, rows=tuple(_cpu_row(*names) for names in _TABLE)
  ),
  LONG: Scale(
    name=LONG, seeds=20, rows=tuple(_long_row(*names) for names in _TABLE)
  ),
  "smoke": Scale(
    name="smoke",
    seeds=2,
    max_members=64,
    rows=(
      _smoke_row("digits/MLP3", "packets", "gyro-mlp3-nsl_kdd"),
      _smoke_row(
        "digits/LeNet", "cnn", "gyro-lenet-cifar10", channels=(2, 3), crop=6
      ),
      _row("SVHN/MLP1", "mlp", "gyro-mlp1-svhn", {}, 2, "too large"),
    ),
  ),
}
