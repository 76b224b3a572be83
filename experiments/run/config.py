"""`RunConfig`: all that decides a run, checked before anything is traced.

A field is a flag of the same name (see `flags.py`). Two runs with equal
configurations end with the same bits on the same kind of processor or card,
with the same number of threads (cores that the process may use) and the same
jax: a sum over many products is cut by threads, and rounds as it is cut. So a
run's folder, which is named by the configuration's digest, keeps these in
``machine.json``, and a run that continues with others says so.
"""

import dataclasses
import hashlib
import json
from typing import Any, get_args

import jax

import kdropout_jax as kd
from experiments import models
from experiments.data import packets
from experiments.data import pixels as pixels_lib
from experiments.models import inits
from experiments.run import fields
from experiments.run import methods
from kdropout_jax import config as kd_config
from kdropout_jax.ops import dispatch
from kdropout_jax.training import rng
from kdropout_jax.training import sharded

check_choice = fields.check_choice

OPTIMIZERS = ("adam", "sgd", "rmsprop")
LR_SCHEDULES = ("constant", "cosine", "drops", "linear")
DATA_PLACEMENTS = ("auto", "device", "stream")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")

_NOT_NEGATIVE = (lambda v: 0 <= v < float("inf"), ">= 0")
_DROPS = (lambda c: c.lr_schedule == "drops", "lr_schedule=drops")

_field = fields.field


@dataclasses.dataclass(frozen=True)
class RunConfig(methods.Fields):
  """One run, or a few that differ in their seed; each field is a flag."""

  dataset: str = _field("digits", "dataset, by its TFDS name")
  num_train: int | None = _field(
    None,
    "training examples to keep, stratified (of spans, questions); default all",
    int,
    rule=fields.AT_LEAST_1,
  )
  valid_fraction: float = _field(
    0.1,
    "share of the training set that is held out for --eval_every",
    rule=fields.BELOW_1,
  )
  data_seed: int = _field(
    0, "seed of the choice of examples and of the split", rule=fields.AT_LEAST_0
  )
  data_placement: str = _field(
    "auto",
    "device: all examples at once; stream: a batch at a time, in an order of"
    " its own, from --data_seed, that all seeds share; auto: device up to 4"
    " GiB",
    choices=DATA_PLACEMENTS,
  )
  image_size: int | None = _field(
    None,
    "images that stay on disk: side to scale and cut them to; default 256"
    " where they differ in shape",
    int,
    rule=fields.AT_LEAST_1,
  )
  pixels: str = _field(
    "signed", "images: how pixels become floats", choices=pixels_lib.MODES
  )
  mean_pool: int = _field(
    1,
    "images: side of the squares of pixels that are averaged into one",
    rule=fields.AT_LEAST_1,
  )
  crop: int | None = _field(
    None, "side of random crops; default none", int, rule=fields.AT_LEAST_1
  )
  pad: int = _field(
    0, "zeros around an image before it is cropped", rule=fields.AT_LEAST_0
  )
  flip: bool = _field(False, "mirror images at random")

  multi_class: bool = _field(
    False, "packets: classes of attack, not only normal or attack"
  )
  packet_scaling: str = _field(
    "log", "packets: of numbers", choices=packets.SCALINGS
  )
  vocabulary: str | None = _field(
    None, "text: WordPiece vocabulary file; default learnt and kept", str
  )
  max_length: int | None = _field(
    None,
    "text: tokens of an input; default 128 for pairs, 384 for spans",
    int,
    rule=(lambda v: v <= 2**16, "<= 65,536"),
  )
  num_test: int | None = _field(
    None,
    "spans: test questions to keep, at random; default all",
    int,
    rule=fields.AT_LEAST_1,
  )

  model: str = _field("mlp", "the network", choices=models.names)
  hidden: int | None = _field(
    None,
    "units of a hidden layer; default the model's own",
    int,
    rule=fields.AT_LEAST_1,
  )
  num_hidden: int | None = _field(
    None,
    "hidden layers; default the model's own",
    int,
    rule=(lambda v: 1 <= v <= 1000, "in [1, 1000]"),
  )
  width_scale: float = _field(
    1.0, "factor on the model's own widths", rule=fields.ABOVE_0
  )
  channels: tuple[int, ...] = _field(
    (),
    "channels of each convolution; default the model's own",
    rule=fields.AT_LEAST_1,
  )
  init: str | None = _field(
    None, "initialiser; default the model's own", str, choices=inits.NAMES
  )
  pretrained: str | None = _field(
    None,
    "bert: local .safetensors file of the parameters to start from",
    str,
    used=(lambda c: c.model == "bert", "model=bert"),
  )
  implementation: str = _field(
    "auto", "of masked products", choices=get_args(dispatch.Implementation)
  )
  precision: str = _field("float32", "of products", choices=PRECISIONS)

  optimizer: str = _field("adam", "what steps", choices=OPTIMIZERS)
  learning_rate: float = _field(5e-4, "learning rate", rule=fields.ABOVE_0)
  momentum: float = _field(
    0.9,
    "sgd, rmsprop: momentum",
    rule=fields.BELOW_1,
    used=(
      lambda c: c.optimizer in ("sgd", "rmsprop"),
      "optimizer=sgd or rmsprop",
    ),
  )
  epsilon: float = _field(
    1.0,
    "rmsprop: inside the root; the default is the gyro paper's",
    rule=fields.ABOVE_0,
    used=(lambda c: c.optimizer == "rmsprop", "optimizer=rmsprop"),
  )
  lr_schedule: str = _field(
    "constant",
    "of the learning rate, after the warm-up; linear falls to 0",
    choices=LR_SCHEDULES,
  )
  lr_drops: tuple[int, ...] = _field(
    (), "drops: epochs at which the rate is multiplied", used=_DROPS
  )
  lr_drop_factor: float = _field(
    0.1, "drops: what it is multiplied by", rule=fields.NOT_ZERO, used=_DROPS
  )
  warmup_steps: int = _field(
    0, "steps of linear warm-up", rule=fields.AT_LEAST_0
  )
  max_norm: float | None = _field(
    None,
    "largest norm of a unit's incoming weights; default none",
    float,
    rule=fields.ABOVE_0,
  )
  weight_decay: float = _field(
    0.0,
    "decoupled for adam (AdamW), added to the gradient for the others",
    rule=_NOT_NEGATIVE,
  )
  l1: float = _field(
    0.0, "strength of an L1 penalty on weights", rule=_NOT_NEGATIVE
  )
  l1_from: float = _field(
    0.0,
    "share of the run after which it sets in",
    rule=fields.BELOW_1,
    used=(lambda c: c.l1 > 0, "l1 > 0"),
  )
  sparsity: float = _field(
    0.0,
    "strength of a KL penalty on hidden layers' mean activations",
    rule=_NOT_NEGATIVE,
    used=(lambda c: c.subnet_training == "masked", "subnet_training=masked"),
  )
  sparsity_target: float = _field(
    0.05,
    "mean activation that it wants",
    rule=(lambda v: 0 < v < 1, "in (0, 1)"),
    used=(lambda c: c.sparsity > 0, "sparsity > 0"),
  )
  epochs: int = _field(
    30, "epochs; or give --num_steps", rule=fields.AT_LEAST_1
  )
  num_steps: int | None = _field(
    None, "steps, in place of --epochs", int, rule=fields.AT_LEAST_1
  )
  batch_size: int = _field(
    128, "rows of a batch, over all devices", rule=fields.AT_LEAST_1
  )
  seed: int = _field(
    0, "the first seed", rule=(lambda v: 0 <= v < 2**31, "in [0, 2**31)")
  )
  seeds: int = _field(
    1,
    "how many seeds; the flag is `flags.define_seeds`'s",
    rule=fields.AT_LEAST_1,
  )
  shuffle: str = _field(
    "every_epoch",
    "what an epoch reshuffles; rows: the batches stay, their rows are permuted",
    choices=get_args(rng.Shuffle),
  )
  num_devices: int | None = _field(
    None, "devices; default all", int, rule=fields.AT_LEAST_1
  )
  parallel: str = _field(
    "pmap",
    "how a program is spread over devices: pmap, or jit by shardings",
    choices=get_args(sharded.Parallel),
  )
  num_column_devices: int = _field(
    1,
    "how many of the devices share the columns of each matrix",
    rule=fields.AT_LEAST_1,
    used=(lambda c: c.parallel == "jit", "parallel=jit"),
  )
  eval_every: int | None = _field(
    None,
    "steps between evaluations; default an epoch",
    int,
    rule=fields.AT_LEAST_1,
  )
  checkpoint_every: int | None = _field(
    None,
    "steps between checkpoints; default a tenth of the run",
    int,
    rule=fields.AT_LEAST_1,
  )
  snapshot_steps: tuple[int, ...] = _field(
    (), "steps after which the parameters are kept in snapshots/"
  )
  test_curve: bool = _field(
    False, "read the test set at each evaluation, as the papers do"
  )

  def __post_init__(self):
    for one in dataclasses.fields(self):
      if one.metadata.get("kind") is tuple:
        values = fields.integers(one.name, getattr(self, one.name))
        object.__setattr__(self, one.name, values)
    fields.check(self)
    if self.num_steps is not None and self.epochs != DEFAULTS["epochs"]:
      raise ValueError(
        f"give epochs or num_steps, not both: got epochs={self.epochs},"
        f" num_steps={self.num_steps}"
      )
    fields.check_unused(self, methods.USED_IF)
    methods.check(self)

  def identity(self) -> dict[str, Any]:
    """Returns the fields that are not at their default: a run's name."""
    return {
      name: list(value) if isinstance(value, tuple) else value
      for name, value in dataclasses.asdict(self).items()
      if value != DEFAULTS[name]
    }

  def digest(self) -> str:
    """Returns twelve hex digits that name this configuration."""
    return digest(self.identity())

  def schedule(self, num_steps: int) -> kd_config.BuiltIn | kd.Guided | None:
    """Returns the schedule of a run of `num_steps`; None: nothing drops."""
    return methods.schedule(self, num_steps)

  def program_key(self) -> tuple[Any, ...]:
    """Returns what the runs of one compiled program have in common.

    They may differ in their seeds, their learning rate, and the data of their
    schedules: all that is not in the structure of the schedule's tree.
    """
    apart = {*methods.OF_SCHEDULE, "seed", "seeds", "learning_rate"}
    own = dataclasses.fields(self)
    return (
      tuple(
        (f.name, getattr(self, f.name)) for f in own if f.name not in apart
      ),
      jax.tree.structure(self.schedule(num_steps=1)),
    )

  def steps(self, num_train: int) -> int:
    """Returns the steps of the run on `num_train` training examples."""
    if self.num_steps is not None:
      return self.num_steps
    return self.epochs * (num_train // self.batch_size)

  def member_seeds(self) -> range:
    """Returns the seeds that are trained."""
    return range(self.seed, self.seed + self.seeds)


def is_used(values: Any, name: str) -> bool:
  """Returns whether a run of these values has a use for a field.

  Args:
    values: has the fields of a `RunConfig`.
    name: of the field.
  """
  own = RunConfig.__dataclass_fields__[name].metadata["used"]
  rule = methods.USED_IF.get(name, own)
  return rule is None or bool(rule[0](values))


def digest(identity: Any) -> str:
  """Returns twelve hex digits of plain data, the same on every machine."""
  text = json.dumps(identity, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


DEFAULTS = {f.name: f.default for f in dataclasses.fields(RunConfig)}
"""{field: its default}."""
