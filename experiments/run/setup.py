"""From configurations to a compiled program and its data on the devices."""

import collections
import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import data as data_lib
from experiments import models
from experiments.run import config as config_lib
from experiments.run import examples
from experiments.run import methods
from experiments.run import optimizers
from experiments.run import pretrained
from experiments.run import streamed
from kdropout_jax import UnsupportedError
from kdropout_jax.training import guided
from kdropout_jax.training import parallel
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import small
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import windows

_MAX_PROGRAMS = 8
_EVAL_ROWS = {"pairs": 32, "spans": 32}
"""{task: rows that a device evaluates at a time}; attention is large."""

_HOST_FIELDS = (
  "eval_every",
  "checkpoint_every",
  "snapshot_steps",
  "test_curve",
)
"""Fields that no compiled function reads."""


@dataclasses.dataclass(frozen=True)
class Setup:
  """All that a run needs on its devices.

  Attributes:
    program: the compiled functions.
    members: seeds and hyperparameters, replicated over the devices.
    schedules: the schedule of each configuration, or None.
    data: examples of all splits: on every device, or on the host where they
      are streamed; None where they stay on disk.
    splits: {"train" | "valid" | "test": (first example, the one after)}.
    num_steps: steps of the run.
    info: what the dataset says about itself.
    pretrained: file of the parameters to start from, or None.
    feed: what streams the examples, or None where they are on the devices.
    extra: what a metric needs of the test set beside its labels, or None.
  """

  program: program_lib.Program
  members: state_lib.Members
  schedules: tuple[Any, ...]
  data: step_lib.Data | None
  splits: dict[str, tuple[int, int]]
  num_steps: int
  info: data_lib.Info
  pretrained: str | None = None
  feed: streamed.Feed | None = None
  extra: Any = None

  @property
  def task(self) -> step_lib.Task:
    """What the members have in common."""
    return self.program.task

  def init(self) -> state_lib.TrainState:
    """Returns the members' states before step 0."""
    if self.feed is not None:
      example = self.feed.example()
    else:
      example = jax.tree.map(lambda x: np.asarray(x[:1]), self.arrays().inputs)
    state = self.program.init(self.members, example)
    if self.pretrained is None:
      return state
    # No optimizer of ours starts from the values of the parameters.
    params = pretrained.of_members(self.pretrained, state.params)
    params = self.program.devices.replicate(params)
    return dataclasses.replace(state, params=params)

  def arrays(self) -> step_lib.Data:
    """Returns the examples of all splits.

    Raises:
      UnsupportedError: they are on disk alone.
    """
    if self.data is None:
      raise UnsupportedError(
        f"dataset {self.info.name!r} is streamed from disk; this needs all of"
        " its examples in memory"
      )
    return self.data


def make(
  configs: Sequence[config_lib.RunConfig],
  data_dir: str | None = None,
  data_workers: int = 0,
) -> Setup:
  """Returns the set-up of runs that train in one program.

  Args:
    configs: one or more, equal but for `config.MEMBER_FIELDS`.
    data_dir: where prepared datasets live.
    data_workers: processes that read a stream; 0 reads in threads.

  Raises:
    ValueError: configurations that need programs of their own, or that do not
      fit the dataset, the devices, or 2**32 ids of subnets.
  """
  common = check_common(configs)
  models.build(common.model, _options(common, num_classes=2))
  dataset = examples.load(common, data_dir)
  num_steps = common.steps(dataset.num_train)
  if num_steps < 1:
    raise ValueError(
      f"batch_size must be <= {dataset.num_train}, the training examples of"
      f" {common.dataset!r}, got {common.batch_size}"
    )
  schedules = tuple(methods.schedule(c, num_steps) for c in configs)
  for schedule in schedules:
    if schedule is not None:  # Raises where the ids would exceed 2**32.
      schedule.num_subnets(num_steps, common.batch_size)
  per_seed = [
    (s, c, x) for c, x in zip(configs, schedules) for s in c.member_seeds()
  ]
  members = state_lib.stack_members(
    [seed for seed, _, _ in per_seed],
    [config.learning_rate for _, config, _ in per_seed],
    [schedule for _, _, schedule in per_seed],
  )
  program = _program(common, data_dir, dataset, num_steps, members)
  program.check_members(members)
  members = program.devices.replicate(members)
  data, feed = dataset.data, None
  if dataset.is_streamed:
    feed = streamed.Feed(
      program=program,
      members=members,
      sources=dataset.sources,
      num_steps=num_steps,
      seed=common.data_seed,
      num_workers=data_workers,
    )
  else:
    data = program.devices.replicate(data)
  return Setup(
    program=program,
    members=members,
    schedules=schedules,
    data=data,
    splits=dataset.splits,
    num_steps=num_steps,
    info=dataset.info,
    pretrained=common.pretrained,
    feed=feed,
    extra=dataset.extra,
  )


def check_common(
  configs: Sequence[config_lib.RunConfig],
) -> config_lib.RunConfig:
  """Returns what `configs` have in common, the member fields at default.

  Raises:
    ValueError: they differ in a field that needs a program of its own.
  """
  if not configs:
    raise ValueError("configs must hold at least one configuration, got none")
  first = _without_members(configs[0])
  for other in configs[1:]:
    if _without_members(other) != first:
      raise ValueError(
        "runs of one program may differ in"
        f" {', '.join(config_lib.MEMBER_FIELDS)} alone, got"
        f" {configs[0].identity()} and {other.identity()}"
      )
  return first


def _without_members(config: config_lib.RunConfig) -> config_lib.RunConfig:
  fields: dict[str, Any] = {
    f.name: f.default for f in dataclasses.fields(config)
  }
  defaults = {name: fields[name] for name in config_lib.MEMBER_FIELDS}
  if config.method == "pooled":
    # The default pool may be smaller than m, which is wrong without
    # replacement; m itself is not.
    defaults["pool_size"] = max(config.m, defaults["pool_size"])
  return dataclasses.replace(config, **defaults)


_programs: "collections.OrderedDict[Any, program_lib.Program]" = (
  collections.OrderedDict()
)


def _program(
  common, data_dir: str | None, dataset, num_steps: int, members
) -> program_lib.Program:
  """Returns the program of `common`; the last few are kept, compiled."""
  traced = common.identity()
  for name in _HOST_FIELDS:
    traced.pop(name, None)
  key = (
    json.dumps(traced, sort_keys=True),
    data_dir,
    dataset.num_train,
    num_steps,
    _digest(members) if common.subnet_training != "masked" else None,
  )
  if key not in _programs:
    _programs[key] = _new_program(common, dataset, num_steps, members)
    while len(_programs) > _MAX_PROGRAMS:
      _programs.popitem(last=False)
  return _programs[key]


def _digest(members: state_lib.Members) -> str:
  """Names seeds and windows, which decide the sizes of small networks."""
  leaves = jax.tree.leaves((members.key_data, members.schedule))
  return config_lib.digest([np.asarray(leaf).tolist() for leaf in leaves])


def _new_program(
  common, dataset, num_steps: int, members: state_lib.Members
) -> program_lib.Program:
  devices = parallel.Devices(common.num_devices)
  info = dataset.info
  vocabulary = dict(info.counts).get("vocabulary")
  options = _options(common, info.num_classes, vocabulary)
  model = models.build(common.model, options)
  per_epoch = max(dataset.num_train // common.batch_size, 1)
  task = step_lib.Task(
    model=model,
    make_optimizer=optimizers.make(common, num_steps, per_epoch),
    batch_size=common.batch_size,
    num_train=dataset.num_train,
    num_devices=devices.count,
    shuffle=common.shuffle,
    row_layout=common.row_layout,
    rescale=common.rescale,
    num_sites=model.num_sites,  # pyright: ignore[reportAttributeAccessIssue]
    preprocess=_preprocess(common, dataset),
    augment=_augment(common, dataset),
    # A model that is no classifier brings a score of its own.
    score=getattr(model, "losses_and_hits", step_lib.losses_and_hits),
    assign=methods.assign(common, dataset.info.num_classes),
  )
  run_steps = _run_steps(common, dataset, task, num_steps, members)
  eval_rows = _EVAL_ROWS.get(info.task, 512)
  return program_lib.Program(task, devices, run_steps, eval_rows)


def _run_steps(
  common, dataset, task: step_lib.Task, num_steps: int, members
) -> step_lib.RunSteps:
  """Returns what trains many steps of one member."""
  if common.method == "guided":
    if dataset.is_streamed:
      raise UnsupportedError(
        "method=guided trains on examples that are on the device: streamed"
        " batches do not carry its state"
      )
    guided.check(task, members.schedule)
    return guided.run_steps
  if common.subnet_training == "masked":
    return step_lib.run_steps
  first = slice(0, common.batch_size)
  example = step_lib.Data(
    jax.tree.map(lambda x: jnp.asarray(x[first]), dataset.data.inputs),
    jnp.asarray(dataset.data.labels[first], jnp.int32),
  )
  if common.subnet_training == "small":
    return small.plan(task, members, example, num_steps)
  return windows.plan(task, members, example, num_steps, common.dropped_weights)


def _options(
  common, num_classes: int, vocabulary: int | None = None
) -> models.Options:
  return models.Options(
    num_classes=num_classes,
    dropout=methods.site(common),
    hidden=common.hidden,
    num_hidden=common.num_hidden,
    init=common.init,
    dtype=jnp.bfloat16 if common.precision == "bfloat16" else jnp.float32,
    axis_name=parallel.AXIS,
    width_scale=common.width_scale,
    channels=common.channels or None,
    implementation=common.implementation,
    vocabulary=vocabulary,
  )


def _preprocess(common, dataset):
  if dataset.info.task != "image":
    return lambda x: x
  pixels = data_lib.fit_pixels(
    dataset.statistics_x, common.pixels, dataset.info.pixel_max
  )

  def preprocess(images):
    # Training images come cropped; those of an evaluation are cropped here.
    if common.crop is not None and images.shape[1] > common.crop:
      images = data_lib.centre_crop(images, common.crop)
    return pixels(images)

  return preprocess


def _augment(common, dataset):
  if common.crop is None and not common.pad and not common.flip:
    return None
  if dataset.info.task != "image":
    raise ValueError(
      f"crop, pad and flip are for images, got dataset {common.dataset!r}"
    )
  return functools.partial(
    data_lib.augment, crop=common.crop, pad=common.pad, flip=common.flip
  )
