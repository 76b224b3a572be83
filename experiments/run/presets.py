"""Presets: the papers' settings, as values of flags.

A preset says what a paper, its authors' code or, where both are silent, we
chose; the last are listed as assumed. A flag that is given overrides it.

Gyro dropout: section 5 and table 3 of the paper, and its authors' code, which
exists for MLP2, LeNet and AlexNet on CIFAR alone. k-dropout: section 3 of the
paper, and its authors' code. The learning rate of TensorFlow's RMSProp is
constant there but for two drops; BERT's falls linearly to 0 after a warm-up of
a tenth of the steps, as in the original.
"""

import dataclasses
import difflib
import types
from collections.abc import Mapping
from typing import Any

from experiments.run import methods

BLOCK_ROWS = 128
BLOCK_SIZE = 32
"""The gyro dropout paper's blocks: 128 rows by 32 units (section 4.2)."""


@dataclasses.dataclass(frozen=True)
class Preset:
  """The settings of one model on one dataset.

  Attributes:
    source: where they stand.
    flags: {flag: value}, for whatever method.
    total: gyro's number of subnets (Sigma); the pool of "pooled".
    concurrent: gyro's subnets of a window (tau); m of the other methods.
    assumed: flags whose values neither the paper nor its code gives.
  """

  source: str
  flags: Mapping[str, Any]
  total: int | None = None
  concurrent: int | None = None
  assumed: tuple[str, ...] = ()


def names() -> tuple[str, ...]:
  """Returns the names of all presets, sorted."""
  return tuple(sorted(PRESETS))


def get(name: str) -> Preset:
  """Returns a preset.

  Raises:
    ValueError: there is none of this name; the message has the nearest.
  """
  if name not in PRESETS:
    near = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
      f"preset must be one of {', '.join(names())}, got {name!r}{hint}"
    )
  return PRESETS[name]


def flags(
  name: str, method: str = "standard", pattern: str = "bernoulli"
) -> dict[str, Any]:
  """Returns {flag: value} of a preset for one method.

  Flags that the method does not use are left out. Block-wise gyro dropout is
  method "gyro" with pattern "blocks".

  Args:
    name: the preset's.
    method: as the flag.
    pattern: as the flag.

  >>> flags("gyro-lenet-cifar10", "gyro")["concurrent"]
  16
  """
  preset = get(name)
  values = {**preset.flags, "method": method, "pattern": pattern}
  if preset.total is not None:
    values |= {"total": preset.total, "pool_size": preset.total}
    values |= {"concurrent": preset.concurrent, "m": preset.concurrent}
  if pattern == "blocks":
    values |= {"block_size": BLOCK_SIZE, "rows_per_subnet": BLOCK_ROWS}
  config = types.SimpleNamespace(method=method, pattern=pattern)
  return {
    flag: value
    for flag, value in values.items()
    if flag not in methods.USED_IF or methods.USED_IF[flag][0](config)
  }


_RMSPROP = {
  "rate": 0.5,
  "optimizer": "rmsprop",
  "learning_rate": 7e-3,
  "momentum": 0.9,
  "lr_schedule": "drops",
  "lr_drops": (40, 80),
  "lr_drop_factor": 0.1,
  "epochs": 100,
  "batch_size": 256,
  # The papers train on the whole training set.
  "valid_fraction": 0.0,
}

_UNKNOWN = (
  "learning_rate",
  "momentum",
  "lr_schedule",
  "lr_drops",
  "lr_drop_factor",
  "epochs",
)

_CROPPED = {"pixels": "standardise", "crop": 24, "flip": True}


def _gyro(
  model: str,
  dataset: str,
  sizes: tuple[int, int],
  inputs: Mapping[str, Any],
  assumed: tuple[str, ...] = (),
) -> Preset:
  source = "Lee et al., Gyro Dropout: table 3, section 5, authors' code"
  values = {"model": model, "dataset": dataset, **_RMSPROP, **inputs}
  return Preset(source, values, *sizes, assumed)


def _resnet(
  dataset: str, inputs: Mapping[str, Any], batch_size: int = 256
) -> Preset:
  inputs = {**inputs, "batch_size": batch_size}
  assumed = (*_UNKNOWN, "batch_size", *inputs)
  return _gyro("resnet18", dataset, (1024, 8), inputs, assumed)


def _packets(dataset: str) -> Preset:
  return _gyro("mlp3", dataset, (1024, 8), {}, (*_UNKNOWN, "batch_size"))


def _bert(dataset: str, warmup_steps: int) -> Preset:
  return Preset(
    "Lee et al., Gyro Dropout: table 3, section 5; Devlin et al., BERT",
    {
      "model": "bert",
      "dataset": dataset,
      "rate": 0.1,
      "optimizer": "adam",
      "learning_rate": 2e-5,
      "lr_schedule": "linear",
      "warmup_steps": warmup_steps,
      "epochs": 3,
      "batch_size": 32,
      "valid_fraction": 0.0,
    },
    1024,
    8,
    ("learning_rate", "lr_schedule", "warmup_steps", "epochs", "batch_size"),
  )


_SGD = {"optimizer": "sgd", "momentum": 0.0}
_UNKNOWN_SGD = ("momentum", "learning_rate", "lr_schedule", "epochs")


def _wan(model: str, dataset: str, epochs: int, learning_rate: float) -> Preset:
  """Returns a row of their tables; its rate falls in ways we leave out."""
  return Preset(
    "Wan et al. 2013: section 6, tables 3 and 4",
    {
      **_SGD,
      "model": model,
      "dataset": dataset,
      "pixels": "unit",
      "rate": 0.5,
      "learning_rate": learning_rate,
      "epochs": epochs,
      "batch_size": 128,
      "valid_fraction": 0.0,
    },
    assumed=("pixels",),
  )


_KDROPOUT = {
  "model": "kdropout_mlp",
  "dataset": "cifar10",
  "pixels": "signed",
  "hidden": 2000,
  "num_hidden": 3,
  "init": "torch_linear",
  "rate": 0.5,
  "optimizer": "adam",
  "learning_rate": 5e-4,
  "epochs": 300,
  "batch_size": 512,
  "valid_fraction": 0.0,
}

_SOURCE = "Pauly and Bailey, K-Dropout: section 3"

PRESETS = {
  "kdropout-mlp": Preset(f"{_SOURCE}, authors' code", _KDROPOUT),
  "kdropout-mlp-authors": Preset(
    f"{_SOURCE}, authors' code: frozen batches, tiled rows",
    {**_KDROPOUT, "shuffle": "once", "row_layout": "tiled"},
  ),
  "kdropout-mlp-text": Preset(
    f"{_SOURCE}: two hidden layers", {**_KDROPOUT, "num_hidden": 2}
  ),
  "gyro-mlp1-svhn": _gyro(
    "mlp1", "svhn_cropped", (1024, 8), {"pixels": "standardise"}, _UNKNOWN
  ),
  **{
    f"gyro-mlp2-{dataset}": _gyro(
      "mlp2", dataset, (256, 16), {"pixels": "standardise"}
    )
    for dataset in ("cifar10", "cifar100")
  },
  **{
    f"gyro-{model}-{dataset}": _gyro(model, dataset, (256, 16), _CROPPED)
    for model in ("lenet", "alexnet")
    for dataset in ("cifar10", "cifar100")
  },
  "gyro-mlp3-kddcup99": _packets("kddcup99"),
  "gyro-mlp3-nsl_kdd": _packets("nsl_kdd"),
  "gyro-mlp3-unsw_nb15": _packets("unsw_nb15"),
  "gyro-resnet18-svhn": _resnet("svhn_cropped", {"pixels": "channels"}),
  **{
    f"gyro-resnet18-{dataset}": _resnet(
      dataset, {"pixels": "channels", "pad": 4, "crop": 32, "flip": True}
    )
    for dataset in ("cifar10", "cifar100")
  },
  "gyro-resnet18-tiny_imagenet": _resnet(
    "tiny_imagenet", {"pixels": "channels", "pad": 8, "crop": 64, "flip": True}
  ),
  "gyro-resnet18-imagenet": _resnet(
    "imagenet2012", {"pixels": "channels", "crop": 224, "flip": True}
  ),
  # A tenth of the steps: 3,668 pairs, and about 88,500 windows.
  "gyro-bert-mrpc": _bert("glue/mrpc", 34),
  "gyro-bert-squad": _bert("squad", 830),
  "autoencoder-mnist": Preset(
    "Srivastava et al. 2014: section 7.1, figure 7",
    {
      "model": "autoencoder",
      "dataset": "mnist",
      "pixels": "unit",
      "rate": 0.5,
      "optimizer": "adam",
      "learning_rate": 1e-3,
      "epochs": 50,
      "batch_size": 128,
      "valid_fraction": 0.0,
    },
    assumed=("optimizer", "learning_rate", "epochs", "batch_size"),
  ),
  "table9-mnist": Preset(
    "Srivastava et al. 2014: table 9",
    {
      **_SGD,
      "model": "table9_mlp",
      "dataset": "mnist",
      "pixels": "unit",
      "rate": 0.5,
      "input_rate": 0.2,
      "max_norm": 2.0,
      "momentum": 0.95,
      "learning_rate": 0.03,
      "lr_schedule": "linear",
      "epochs": 200,
      "batch_size": 100,
      "valid_fraction": 1 / 6,
    },
    assumed=(*_UNKNOWN_SGD, "max_norm"),
  ),
  "wan-cnn-mnist": _wan("cnn_wan", "mnist", 1000, 0.01),
  "wan-cnn-cifar10": _wan("cnn_wan_cifar", "cifar10", 150, 0.001),
}
