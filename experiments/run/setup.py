"""From configurations to a compiled program and its data on the devices."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kdropout_jax as kd
from experiments import data as data_lib
from experiments import models
from experiments.run import config as config_lib
from experiments.run import examples
from experiments.run import footprint
from experiments.run import methods
from experiments.run import optimizers
from experiments.run import pretrained
from experiments.run import streamed
from kdropout_jax.training import disjoint
from kdropout_jax.training import guided
from kdropout_jax.training import parallel
from kdropout_jax.training import permuted
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import sharded
from kdropout_jax.training import small
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from kdropout_jax.training import windows

_MAX_PROGRAMS = 8
_EVAL_ROWS = {"pairs": 32, "spans": 32, "characters": 128}
"""{task: rows that a device evaluates at a time}; attention is large."""

_HOST = {
  "eval_every": None,
  "checkpoint_every": None,
  "snapshot_steps": (),
  "test_curve": False,
}
"""Fields that no compiled function reads, and their defaults."""


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
  data: task_lib.Data | None
  splits: dict[str, tuple[int, int]]
  num_steps: int
  info: data_lib.Info
  pretrained: str | None = None
  feed: streamed.Feed | None = None
  extra: Any = None

  @property
  def task(self) -> task_lib.Task:
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

  def arrays(self) -> task_lib.Data:
    """Returns the examples of all splits.

    Raises:
      UnsupportedError: they are on disk alone.
    """
    if self.data is None:
      raise kd.UnsupportedError(
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
    configs: one or more, of the same `program_key`.
    data_dir: where prepared datasets live.
    data_workers: processes that read a stream; 0 reads in threads.

  Raises:
    ValueError: configurations that need programs of their own, or that do not
      fit the dataset, the devices, or 2**32 ids of subnets.
  """
  check_common(configs)
  common = configs[0]
  models.build(common.model, _options(common, num_classes=2))
  dataset = examples.load(common, data_dir)
  num_steps = common.steps(dataset.num_train)
  if num_steps < 1:
    raise ValueError(
      f"batch_size must be <= {dataset.num_train}, the training examples of"
      f" {common.dataset!r}, got {common.batch_size}"
    )
  if num_steps >= 2**31:
    raise ValueError(f"a run must have < 2**31 steps, got {num_steps:,}")
  task = _task(common, dataset, num_steps)
  first = dataset.sources["train"][0]["x"]
  footprint.check(
    common,
    task,
    jax.tree.map(lambda x: np.asarray(x)[None], first),
    sum(config.seeds for config in configs),
  )
  schedules = tuple(c.schedule(num_steps) for c in configs)
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
  program = _program(common, data_dir, dataset, task, num_steps, members)
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


def check_common(configs: Sequence[config_lib.RunConfig]) -> None:
  """Raises a ValueError where runs need programs of their own."""
  if not configs:
    raise ValueError("configs must hold at least one configuration, got none")
  for other in configs[1:]:
    if other.program_key() != configs[0].program_key():
      raise ValueError(
        "runs of one program may differ in seed, seeds, learning_rate and the"
        " data of their schedules (k, pool_size, temperature, explore) alone,"
        f" got {configs[0].identity()} and {other.identity()}"
      )


_programs: "collections.OrderedDict[Any, program_lib.Program]" = (
  collections.OrderedDict()
)


def _program(
  common,
  data_dir: str | None,
  dataset,
  task: task_lib.Task,
  num_steps: int,
  members: state_lib.Members,
) -> program_lib.Program:
  """Returns the program of `common`; the last few are kept, compiled."""
  key = (
    dataclasses.replace(common, **_HOST).program_key(),
    data_dir,
    dataset.num_train,
    num_steps,
    _digest(members) if common.subnet_training != "masked" else None,
  )
  if key not in _programs:
    run_steps = _run_steps(common, dataset, task, num_steps, members)
    _programs[key] = program_lib.Program(
      task,
      _devices(common),
      run_steps,
      _EVAL_ROWS.get(dataset.info.task, 512),
    )
    while len(_programs) > _MAX_PROGRAMS:
      _programs.popitem(last=False)
  return _programs[key]


def _devices(common) -> parallel.Devices:
  """Returns the devices that the rows of a batch are split over."""
  return sharded.make_devices(
    common.parallel, common.num_devices, common.num_column_devices
  )


def _digest(members: state_lib.Members) -> str:
  """Names seeds and windows, which decide the sizes of small networks."""
  leaves = jax.tree.leaves((members.key_data, members.schedule))
  return config_lib.digest([np.asarray(leaf).tolist() for leaf in leaves])


def _task(common, dataset, num_steps: int) -> task_lib.Task:
  """Returns what all members have in common."""
  info = dataset.info
  vocabulary = dict(info.counts).get("vocabulary")
  options = _options(common, info.num_classes, vocabulary)
  model = models.build(common.model, options)
  per_epoch = max(dataset.num_train // common.batch_size, 1)
  return task_lib.Task(
    model=model,
    make_optimizer=optimizers.make(common, num_steps, per_epoch),
    batch_size=common.batch_size,
    num_train=dataset.num_train,
    num_devices=_devices(common).count,
    shuffle=common.shuffle,
    row_layout=common.row_layout,
    rescale=common.rescale,
    num_sites=model.num_sites,  # pyright: ignore[reportAttributeAccessIssue]
    preprocess=_preprocess(common, dataset),
    augment=_augment(common, dataset),
    # A model that is no classifier brings a score of its own.
    score=getattr(model, "losses_and_hits", task_lib.losses_and_hits),
    assign=methods.assign(common, info.num_classes),
    **_penalty(common),
  )


def _penalty(common) -> dict[str, Any]:
  """Returns the fields of a task that penalise hidden layers' activations."""
  if not common.sparsity:
    return {}

  def penalty(outputs):
    if not outputs:
      raise ValueError(
        f"sparsity is for models with layers hidden_0, hidden_1, ..., got"
        f" {common.model!r}"
      )
    layers = [kd.kl_sparsity(x, common.sparsity_target) for x in outputs]
    return common.sparsity * sum(layers)

  def watched(module, method):
    is_hidden = (module.name or "").startswith("hidden_")
    return is_hidden and method == "__call__"

  return {"watched": watched, "penalty": penalty}


def _run_steps(
  common, dataset, task: task_lib.Task, num_steps: int, members
) -> step_lib.RunSteps | None:
  """Returns what trains many steps of one member; None: what devices suit."""
  if isinstance(members.schedule, kd.Guided):
    if dataset.is_streamed:
      raise kd.UnsupportedError(
        "method=guided trains on examples that are on the device: streamed"
        " batches do not carry its state"
      )
    guided.check(task, members.schedule)
    return guided.run_steps
  if common.subnet_training == "masked":
    return None
  first = slice(0, common.batch_size)
  example = task_lib.Data(
    jax.tree.map(lambda x: jnp.asarray(x[first]), dataset.data.inputs),
    jnp.asarray(dataset.data.labels[first], jnp.int32),
  )
  if common.subnet_training == "small":
    return small.plan(task, members, example, num_steps)
  if common.subnet_training == "permuted":
    return permuted.plan(task, members, example)
  if common.m > 1:
    return disjoint.plan(
      task,
      members,
      example,
      num_steps,
      common.dropped_weights,
      common.shared_parameters,
    )
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
    input_rate=common.input_rate or None,
    connections=methods.connections(common),
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
