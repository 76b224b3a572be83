"""One path from any prepared TFDS dataset to arrays on the host."""

import os
from typing import Any

import numpy as np

from experiments.data import characters
from experiments.data import dataset as dataset_lib
from experiments.data import exported
from experiments.data import packets
from experiments.data import pairs
from experiments.data import preparation
from experiments.data import prepared
from experiments.data import registry
from experiments.data import spans


def load(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  *,
  num_train: int | None = None,
  seed: int = 0,
  local_files: str | os.PathLike[str] | None = None,
  progress: bool = True,
  **options: Any,
) -> dataset_lib.Dataset:
  """Returns a dataset's arrays; prepares it first if it is not there.

  Args:
    name: a name of `registry.names()`.
    data_dir: where prepared datasets live; the default is
      ``$KDROPOUT_DATA_DIR``, or ``~/.cache/kdropout_jax/data``. Or the file of
      `exported.write`, which needs no reader of datasets.
    num_train: keep so many training examples only, stratified.
    seed: picks them.
    local_files: where to prepare it from, if it is not prepared.
    progress: whether to show a progress bar while preparing.
    **options: of the task: for packets those of `packets.build`, for text
      those of `pairs.build` and `spans.build`.

  Raises:
    ValueError: unknown dataset, or one that is not there and cannot be
      prepared; the message says what to do.
  """
  if exported.is_export(data_dir):
    assert data_dir is not None
    whole = exported.read(data_dir, name)
    return (
      whole if num_train is None else dataset_lib.subset(whole, num_train, seed)
    )
  spec = preparation.resolve(name, preparation.data_folder(data_dir))
  _check_options(spec, options)
  folder = preparation.prepare(name, data_dir, local_files, progress)
  if spec.task == "spans":
    # Questions are chosen before they are cut into windows.
    return spans.build(spec, folder, num_train=num_train, seed=seed, **options)
  result = _BUILD[spec.task](spec, folder, **options)
  _check(spec, result)
  if num_train is None:
    return result
  return dataset_lib.subset(result, num_train, seed)


def _check_options(spec: registry.Spec, options: dict[str, Any]) -> None:
  known = _OPTIONS[spec.task]
  for name in options:
    if name not in known:
      raise ValueError(
        f"{name} must be left alone for dataset {spec.name!r}, whose options"
        f" are: {', '.join(known) or 'none'}"
      )


def _build_images(spec, folder) -> dataset_lib.Dataset:
  if spec.streams:
    raise ValueError(
      f"dataset {spec.name!r} is too large for arrays; leave"
      " --data_placement at auto, or give stream"
    )
  num_classes, test_split = _image_features(spec, folder)
  train, test = (
    prepared.columns(folder, "train"),
    prepared.columns(folder, test_split),
  )
  return dataset_lib.Dataset(
    info=dataset_lib.Info(
      name=spec.name,
      task=spec.task,
      num_classes=num_classes,
      class_names=prepared.class_names(folder),
      note=prepared.note(spec, folder),
      pixel_max=spec.pixel_max,
    ),
    train_x=train["image"],
    train_labels=train["label"].astype(np.int32),
    test_x=test["image"],
    test_labels=test["label"].astype(np.int32),
  )


def _image_features(spec, folder) -> tuple[int, str]:
  """Returns the number of classes and the name of the test split."""
  if spec.num_classes:
    return spec.num_classes, spec.test_split
  info = prepared.open_builder(folder).info
  features: Any = info.features
  if not {"image", "label"} <= set(features) or (
    None in features["image"].shape
  ):
    raise ValueError(
      f"dataset {spec.name!r}: expected features image, of one shape, and"
      f" label, got {', '.join(features)}; no model here reads that"
    )
  split = "test" if "test" in info.splits else "validation"
  return features["label"].num_classes, split


def _check(spec: registry.Spec, result: dataset_lib.Dataset) -> None:
  """Raises a ValueError where labels do not fit the classes."""
  classes = result.info.num_classes
  for split in ("train", "test"):
    labels = getattr(result, f"{split}_labels")
    if not (0 <= labels.min() and labels.max() < classes):
      raise ValueError(
        f"dataset {spec.name!r}, split {split!r}: expected labels in [0,"
        f" {classes}), got {labels.min()} to {labels.max()}; prepare it"
        " again in another --data_dir"
      )


_TEXT = ("vocabulary", "vocabulary_size", "max_length", "lowercase")
_OPTIONS = {
  "characters": (),
  "image": (),
  "packets": ("multi_class", "scaling", "test_split"),
  "pairs": _TEXT,
  "spans": (*_TEXT, "stride", "num_test"),
}
_BUILD = {
  "characters": characters.build,
  "image": _build_images,
  "packets": packets.build,
  "pairs": pairs.build,
}
