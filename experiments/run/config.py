"""`RunConfig`: all that decides a run, checked before anything is traced.

A field is a flag of the same name (see `flags.py`). Two runs with equal
configurations end with the same bits; a run's folder is named by its digest.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable
from typing import Any, get_args

from experiments import models
from experiments.run import methods
from kdropout_jax import functional
from kdropout_jax.training import rng

MEMBER_FIELDS = (
  *("seed", "seeds", "k", "pool_size", "temperature", "learning_rate"),
)
"""Fields in which the runs of one compiled program may differ."""

OPTIMIZERS = ("adam", "sgd", "rmsprop")
LR_SCHEDULES = ("constant", "cosine", "drops", "linear")
DATA_PLACEMENTS = ("auto", "device", "stream")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


def _field(default: Any, help_text: str, kind: type | None = None) -> Any:
  metadata = {"help": help_text, "kind": kind or type(default)}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """One run, or a few that differ in their seed; each field is a flag."""

  dataset: str = _field("digits", "dataset, by its TFDS name")
  num_train: int | None = _field(
    None,
    "training examples to keep, stratified (of spans, questions); default all",
    int,
  )
  valid_fraction: float = _field(
    0.1, "share of the training set that is held out for --eval_every"
  )
  data_seed: int = _field(0, "seed of the choice of examples and of the split")
  data_placement: str = _field(
    "auto",
    "device: all examples at once; stream: a batch at a time, in an order of"
    " its own, from --data_seed, that all seeds share; auto: device up to 4"
    " GiB",
  )
  image_size: int | None = _field(
    None,
    "images that stay on disk: side to scale and cut them to; default 256"
    " where they differ in shape",
    int,
  )
  pixels: str = _field(
    "signed", "images: unit, signed, mean, channels or standardise"
  )
  mean_pool: int = _field(
    1, "images: side of the squares of pixels that are averaged into one"
  )
  crop: int | None = _field(None, "side of random crops; default none", int)
  pad: int = _field(0, "zeros around an image before it is cropped")
  flip: bool = _field(False, "mirror images at random")

  multi_class: bool = _field(
    False, "packets: classes of attack, not only normal or attack"
  )
  packet_scaling: str = _field("log", "packets: log or minmax, of numbers")
  vocabulary: str | None = _field(
    None, "text: WordPiece vocabulary file; default learnt and kept", str
  )
  max_length: int | None = _field(
    None, "text: tokens of an input; default 128 for pairs, 384 for spans", int
  )
  num_test: int | None = _field(
    None, "spans: test questions to keep, at random; default all", int
  )

  model: str = _field("mlp", "model: a name of experiments.models")
  hidden: int | None = _field(
    None, "units of a hidden layer; default the model's own", int
  )
  num_hidden: int | None = _field(
    None, "hidden layers; default the model's own", int
  )
  width_scale: float = _field(1.0, "factor on the model's own widths")
  channels: tuple[int, ...] = _field(
    (), "channels of each convolution; default the model's own", tuple
  )
  init: str | None = _field(
    None, "torch_linear, glorot, he or lecun; default the model's own", str
  )
  pretrained: str | None = _field(
    None, "bert: local .safetensors file of the parameters to start from", str
  )
  implementation: str = _field(
    "auto", "of masked products: auto, dense, compact or triton"
  )
  precision: str = _field("float32", "float32, tensorfloat32 or bfloat16")

  method: str = _field(
    "standard", "none, standard, sequential, pooled, gyro or guided"
  )
  k: int = _field(97, "sequential: steps that a subnet trains")
  m: int = _field(8, "sequential, pooled: subnets of one step")
  pool_size: int = _field(50, "pooled: subnets in the pool")
  total: int = _field(1024, "gyro, guided: subnets of the whole run (Sigma)")
  concurrent: int = _field(8, "gyro, guided: subnets of one window (tau)")
  temperature: float = _field(
    0.1, "guided: difference of losses that makes a subnet e times as likely"
  )
  explore: float = _field(0.25, "guided: share of the steps drawn uniformly")
  scheduling: str = _field("consecutive", "gyro: consecutive or random")
  rows_per_subnet: int | None = _field(
    None, "gyro: rows that a subnet takes of a batch (block-wise: 128)", int
  )
  replacement: bool | None = _field(
    None, "pooled (default yes), gyro (default no): draw with it", bool
  )
  per_layer: bool = _field(False, "each layer draws its own subnets")
  rate: float = _field(0.5, "probability of DROPPING a unit")
  pattern: str = _field("bernoulli", "bernoulli, exact or blocks")
  block_size: int = _field(32, "blocks: units of a block")
  rescale: str = _field("expected", "expected, realised or at_test")
  row_layout: str = _field("contiguous", "contiguous or tiled")
  assignment: str = _field(
    "rows", "which subnet an example trains: by its rows, or by its label"
  )

  subnet_training: str = _field(
    "masked",
    "small: train the subnets of each step as small networks, with full-size"
    " gradients; extract: train each window of one subnet as a small network,"
    " optimizer included (method=sequential, m=1); masked: at full size",
  )
  dropped_weights: str = _field(
    "caught_up",
    "extract: caught_up, which is masked training, or frozen, which is not",
  )

  optimizer: str = _field("adam", "adam, sgd or rmsprop")
  learning_rate: float = _field(5e-4, "learning rate")
  momentum: float = _field(0.9, "sgd, rmsprop: momentum")
  lr_schedule: str = _field(
    "constant",
    "constant, cosine, drops, or linear: to 0, after the warm-up",
  )
  lr_drops: tuple[int, ...] = _field(
    (), "drops: epochs at which the rate is multiplied", tuple
  )
  lr_drop_factor: float = _field(0.1, "drops: what it is multiplied by")
  warmup_steps: int = _field(0, "steps of linear warm-up")
  max_norm: float | None = _field(
    None, "largest norm of a unit's incoming weights; default none", float
  )
  weight_decay: float = _field(
    0.0, "decoupled for adam (AdamW), added to the gradient for the others"
  )
  epochs: int = _field(30, "epochs; or give --num_steps")
  num_steps: int | None = _field(None, "steps, in place of --epochs", int)
  batch_size: int = _field(128, "rows of a batch, over all devices")
  seed: int = _field(0, "the first seed")
  seeds: int = _field(1, "seeds, trained side by side in one program")
  shuffle: str = _field(
    "every_epoch",
    "every_epoch; rows: the batches stay, their rows are permuted; once",
  )
  num_devices: int | None = _field(None, "devices; default all", int)
  eval_every: int | None = _field(
    None, "steps between evaluations; default an epoch", int
  )
  checkpoint_every: int | None = _field(
    None, "steps between checkpoints; default a tenth of the run", int
  )
  snapshot_steps: tuple[int, ...] = _field(
    (), "steps after which the parameters are kept in snapshots/", tuple
  )
  test_curve: bool = _field(
    False, "read the test set at each evaluation, as the papers do"
  )

  def __post_init__(self):
    for name in ("channels", "lr_drops", "snapshot_steps"):
      values = tuple(int(v) for v in getattr(self, name))
      object.__setattr__(self, name, values)
    for name in _AT_LEAST_1:
      _check_range(name, getattr(self, name), lambda v: v >= 1, ">= 1")
    for name, (ok, rule) in _RANGES.items():
      _check_range(name, getattr(self, name), ok, rule)
    check_choice("optimizer", self.optimizer, OPTIMIZERS)
    check_choice("lr_schedule", self.lr_schedule, LR_SCHEDULES)
    check_choice("data_placement", self.data_placement, DATA_PLACEMENTS)
    check_choice("precision", self.precision, PRECISIONS)
    check_choice("method", self.method, methods.METHODS)
    check_choice("pattern", self.pattern, methods.PATTERNS)
    check_choice("assignment", self.assignment, methods.ASSIGNMENTS)
    check_choice("model", self.model, models.names())
    check_choice(
      "subnet_training", self.subnet_training, methods.SUBNET_TRAININGS
    )
    check_choice(
      "dropped_weights", self.dropped_weights, methods.DROPPED_WEIGHTS
    )
    check_choice("rescale", self.rescale, get_args(functional.Rescale))
    check_choice("row_layout", self.row_layout, get_args(functional.RowLayout))
    rng.check_shuffle(self.shuffle)
    if self.num_steps is not None and self.epochs != _DEFAULTS["epochs"]:
      raise ValueError(
        f"give epochs or num_steps, not both: got epochs={self.epochs},"
        f" num_steps={self.num_steps}"
      )
    _check_unused(self)
    methods.check(self)

  def identity(self) -> dict[str, Any]:
    """Returns the fields that are not at their default: a run's name."""
    return {
      name: list(value) if isinstance(value, tuple) else value
      for name, value in dataclasses.asdict(self).items()
      if value != _DEFAULTS[name]
    }

  def digest(self) -> str:
    """Returns twelve hex digits that name this configuration."""
    return digest(self.identity())

  def steps(self, num_train: int) -> int:
    """Returns the steps of the run on `num_train` training examples."""
    if self.num_steps is not None:
      return self.num_steps
    return self.epochs * (num_train // self.batch_size)

  def member_seeds(self) -> range:
    """Returns the seeds that are trained."""
    return range(self.seed, self.seed + self.seeds)


def digest(identity: Any) -> str:
  """Returns twelve hex digits of plain data, the same on every machine."""
  text = json.dumps(identity, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  """Raises a ValueError with the nearest names unless `value` is a choice."""
  choices = tuple(choices)
  if value in choices:
    return
  near = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.4)
  hint = f"; did you mean {' or '.join(near)}?" if near else ""
  raise ValueError(
    f"{name} must be one of {', '.join(choices)}, got {value!r}{hint}"
  )


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(RunConfig)}

_AT_LEAST_1 = (
  "num_train",
  "num_test",
  "image_size",
  "mean_pool",
  "crop",
  "hidden",
  "num_hidden",
  "k",
  "m",
  "pool_size",
  "total",
  "concurrent",
  "rows_per_subnet",
  "block_size",
  "epochs",
  "num_steps",
  "batch_size",
  "seeds",
  "num_devices",
  "eval_every",
  "checkpoint_every",
)

_RANGES = {
  "valid_fraction": (lambda v: 0 <= v < 1, "in [0, 1)"),
  "rate": (lambda v: 0 <= v <= 1, "in [0, 1]"),
  "width_scale": (lambda v: 0 < v < float("inf"), "> 0"),
  "learning_rate": (lambda v: 0 < v < float("inf"), "> 0"),
  "momentum": (lambda v: 0 <= v < 1, "in [0, 1)"),
  "lr_drop_factor": (lambda v: 0 < v <= 1, "in (0, 1]"),
  "warmup_steps": (lambda v: v >= 0, ">= 0"),
  "max_norm": (lambda v: 0 < v < float("inf"), "> 0"),
  "weight_decay": (lambda v: 0 <= v < float("inf"), ">= 0"),
  "temperature": (lambda v: 0 < v < float("inf"), "> 0"),
  "explore": (lambda v: 0 < v <= 1, "in (0, 1]"),
  "pad": (lambda v: v >= 0, ">= 0"),
  "seed": (lambda v: 0 <= v < 2**31, "in [0, 2**31)"),
}

_USED_IF = {
  "pretrained": (lambda c: c.model == "bert", "model=bert"),
  "momentum": (
    lambda c: c.optimizer in ("sgd", "rmsprop"),
    "optimizer=sgd or rmsprop",
  ),
  "lr_drops": (lambda c: c.lr_schedule == "drops", "lr_schedule=drops"),
  "lr_drop_factor": (lambda c: c.lr_schedule == "drops", "lr_schedule=drops"),
}


def _check_range(name: str, value, ok, rule: str) -> None:
  if value is not None and not ok(value):
    raise ValueError(f"{name} must be {rule}, got {value}")


def _check_unused(config: RunConfig) -> None:
  """Raises a ValueError for a flag that is set and has no effect."""
  for name, (is_used, rule) in {**methods.USED_IF, **_USED_IF}.items():
    value = getattr(config, name)
    if value != _DEFAULTS[name] and not is_used(config):
      raise ValueError(
        f"{name}={value!r} has no effect here: it is for {rule}. Leave it at"
        f" its default, {_DEFAULTS[name]!r}."
      )
