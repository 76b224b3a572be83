"""The examples of a run: on the device, on the host, or left on disk."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, SupportsIndex

import jax
import numpy as np

from experiments import data as data_lib
from experiments.data import dataset as dataset_lib
from experiments.data import pooling
from experiments.data import preparation
from experiments.data import prepared
from experiments.data import streaming
from experiments.run import config as config_lib
from kdropout_jax.training import task as task_lib

DEVICE_BYTES = 4 * 2**30
"""What ``data_placement=auto`` puts on a device at most."""

_IMAGE_SIZE = 256
_STATISTICS_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Examples:
  """The examples of all splits.

  Attributes:
    info: what the dataset says about itself.
    is_streamed: whether they go to the device a batch at a time.
    splits: {"train" | "valid" | "test": (first example, the one after)}.
    sources: {split: examples of random access}; what is streamed.
    statistics_x: training inputs that the pixels' statistics come from.
    data: all of them on the host, or None where they stay on disk.
    extra: what a metric needs of the test set beside its labels, or None.
  """

  info: data_lib.Info
  is_streamed: bool
  splits: dict[str, tuple[int, int]]
  sources: Mapping[str, Any]
  statistics_x: Any
  data: task_lib.Data | None
  extra: Any = None

  @property
  def num_train(self) -> int:
    """Training examples."""
    return len(self.sources["train"])


@dataclasses.dataclass(frozen=True)
class Rows:
  """Some rows of a source."""

  source: Any
  rows: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: SupportsIndex) -> streaming.Example:
    return self.source[int(self.rows[index.__index__()])]


def load(common: config_lib.RunConfig, data_dir: str | None) -> Examples:
  """Returns the examples of a run.

  Raises:
    ValueError: flags that do not fit the dataset, or where it is.
  """
  spec = preparation.resolve(common.dataset, preparation.data_folder(data_dir))
  asked = common.data_placement
  # Foreign images may differ in shape, and then no array holds them.
  is_foreign = spec.task == "image" and not spec.num_classes
  if asked != "device" and (spec.streams or is_foreign and asked == "stream"):
    found = _on_disk(common, spec, data_dir)
  else:
    found = _in_memory(common, spec.task, data_dir)
  if found.is_streamed and common.subnet_training != "masked":
    raise ValueError(
      "subnet_training must be masked where examples are streamed, got"
      f" {common.subnet_training!r}: it trains on examples that are on the"
      " device"
    )
  return found


def _in_memory(common, task: str, data_dir: str | None) -> Examples:
  if common.image_size is not None:
    raise ValueError(
      "image_size must be left alone for a dataset that fits the memory, got"
      f" {common.image_size} for {common.dataset!r}"
    )
  dataset = _load_cached(
    common.dataset,
    task,
    data_dir,
    common.num_train,
    common.valid_fraction,
    common.data_seed,
    common.mean_pool,
    _data_options(common),
  )
  data, splits = _all_splits(dataset)
  num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
  return Examples(
    info=dataset.info,
    is_streamed=common.data_placement == "stream"
    or (common.data_placement == "auto" and num_bytes > DEVICE_BYTES),
    splits=splits,
    sources={
      name: streaming.Arrays(
        dataset_lib.take(data.inputs, slice(*span)),
        np.asarray(data.labels)[slice(*span)],
      )
      for name, span in splits.items()
    },
    statistics_x=dataset.train_x,
    data=data,
    extra=dataset.extra,
  )


def _on_disk(common, spec, data_dir: str | None) -> Examples:
  """Opens images that are decoded as they are read.

  To hold out or to choose examples by their class, all would have to be
  decoded first; here they are chosen at random. The pixels' statistics come
  from a random thousand of the training examples.
  """
  _check_on_disk(common)
  info, is_ragged = _image_info(common, spec, data_dir)
  size = common.image_size or (_IMAGE_SIZE if is_ragged else None)
  train = streaming.open_images(common.dataset, "train", data_dir, size)
  test = streaming.open_images(common.dataset, "test", data_dir, size)
  train_rows, valid_rows = _choose(common, len(train))
  sources: dict[str, Any] = {"train": Rows(train, train_rows)}
  if len(valid_rows):
    sources["valid"] = Rows(train, valid_rows)
  sources["test"] = test
  splits, first = {}, 0
  for name, source in sources.items():
    splits[name] = (first, first + len(source))
    first += len(source)
  return Examples(
    info=info,
    is_streamed=True,
    splits=splits,
    sources=sources,
    statistics_x=_sample(sources["train"], common),
    data=None,
  )


def _check_on_disk(common) -> None:
  defaults = config_lib.RunConfig()
  for name in (
    *("mean_pool", "multi_class", "packet_scaling", "vocabulary"),
    *("max_length", "num_test"),
  ):
    value = getattr(common, name)
    if value != getattr(defaults, name):
      raise ValueError(
        f"{name} must be left alone for images that stay on disk, got {value!r}"
      )


def _image_info(common, spec, data_dir) -> tuple[data_lib.Info, bool]:
  """Returns the facts of a dataset of images, and if their shapes differ."""
  folder = preparation.prepare(common.dataset, data_dir)
  features: Any = prepared.open_builder(folder).info.features
  info = data_lib.Info(
    name=spec.name,
    task=spec.task,
    num_classes=spec.num_classes or features["label"].num_classes,
    class_names=prepared.class_names(folder),
    note=prepared.note(spec, folder),
    pixel_max=spec.pixel_max,
  )
  return info, None in features["image"].shape


def _choose(common, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns sorted rows to train on, and rows that are held out."""
  order = np.random.default_rng(common.data_seed).permutation(size)
  held_out = round(common.valid_fraction * size)
  wanted = common.num_train
  if wanted is not None and wanted > size - held_out:
    raise ValueError(
      f"num_train must be in [1, {size - held_out}] for dataset"
      f" {common.dataset!r}, got {wanted}"
    )
  stop = None if wanted is None else held_out + wanted
  return np.sort(order[held_out:stop]), np.sort(order[:held_out])


def _sample(train: Rows, common) -> np.ndarray | None:
  """Returns training images for statistics, where the pixels need some."""
  if common.pixels not in ("mean", "channels"):
    return None
  rng = np.random.default_rng(common.data_seed)
  rows = rng.permutation(len(train))[:_STATISTICS_ROWS]
  return np.stack([train[row]["x"] for row in np.sort(rows)])


@functools.lru_cache(maxsize=2)
def _load_cached(
  name: str,
  task: str,
  data_dir: str | None,
  num_train: int | None,
  valid_fraction: float,
  seed: int,
  mean_pool: int,
  options: tuple[tuple[str, Any], ...],
) -> data_lib.Dataset:
  # Questions are chosen before they are cut into windows: most are never cut.
  is_chosen = task == "spans" and num_train is not None
  own = {"num_train": num_train, "seed": seed} if is_chosen else {}
  dataset = data_lib.load(name, data_dir, **own, **dict(options))
  if mean_pool != 1:
    dataset = pooling.mean_pool(dataset, mean_pool)
  # The held-out examples are taken first: they stay the same, and stay many,
  # where few examples are trained on.
  dataset = data_lib.holdout(dataset, valid_fraction, seed)
  if num_train is None or is_chosen:
    return dataset
  return data_lib.subset(dataset, num_train, seed)


def _data_options(common) -> tuple[tuple[str, Any], ...]:
  """Returns what only some datasets understand, where it is asked for."""
  scaling = common.packet_scaling
  options = {
    "multi_class": common.multi_class or None,
    "scaling": None if scaling == "log" else scaling,
    "vocabulary": common.vocabulary,
    "max_length": common.max_length,
    "num_test": common.num_test,
  }
  return tuple((k, v) for k, v in options.items() if v is not None)


def _all_splits(
  dataset: data_lib.Dataset,
) -> tuple[task_lib.Data, dict[str, tuple[int, int]]]:
  """Puts all splits into one set of arrays: one program evaluates them all."""
  parts: dict[str, Any] = {"train": (dataset.train_x, dataset.train_labels)}
  if dataset.valid_x is not None:
    parts["valid"] = (dataset.valid_x, dataset.valid_labels)
  parts["test"] = (dataset.test_x, dataset.test_labels)
  splits, first = {}, 0
  for name, (_, labels) in parts.items():
    splits[name] = (first, first + len(labels))
    first += len(labels)
  inputs, labels = jax.tree.map(lambda *x: np.concatenate(x), *parts.values())
  return task_lib.Data(inputs, labels.astype(np.int32)), splits
