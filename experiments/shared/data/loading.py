"""One path from any prepared TFDS dataset to arrays on the host."""

import json
import os
import pathlib
from typing import Any

import numpy as np

from experiments.shared.data import dataset as dataset_lib
from experiments.shared.data import preparation
from experiments.shared.data import registry

_CHUNK = 4096


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
      ``$KDROPOUT_DATA_DIR``, or ``~/.cache/kdropout_jax/data``.
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
  spec = preparation.resolve(name, preparation.data_folder(data_dir))
  _check_options(spec, options)
  folder = preparation.prepare(name, data_dir, local_files, progress)
  if spec.task == "spans":
    # Questions are chosen before they are cut into windows.
    return _build_spans(spec, folder, num_train=num_train, seed=seed, **options)
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


def open_split(folder: pathlib.Path, split: str):
  """Returns the data source of a split: random access to its examples.

  Raises:
    ValueError: the dataset has no such split, or a file of it is gone.
  """
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  builder: Any = tfds.builder_from_directory(os.fspath(folder))
  if split not in builder.info.splits:
    raise ValueError(
      f"split must be one of {', '.join(builder.info.splits)} of {folder},"
      f" got {split!r}"
    )
  for file in map(pathlib.Path, builder.info.splits[split].filepaths):
    if not file.exists():
      raise ValueError(
        f"{file}: expected a shard of split {split!r}, got nothing; remove"
        f" {folder} and prepare the dataset again"
      )
  return builder.as_data_source(split)


def split_sizes(folder: pathlib.Path) -> dict[str, int]:
  """Returns {split: rows} of a prepared dataset."""
  info = json.loads((folder / "dataset_info.json").read_text())
  return {
    split["name"]: sum(int(rows) for rows in split["shardLengths"])
    for split in info["splits"]
  }


def columns(folder: pathlib.Path, split: str) -> dict[str, Any]:
  """Returns a whole split as {feature: array [N, ...] or list of N}."""
  source: Any = open_split(folder, split)
  if not len(source):
    raise ValueError(f"{folder}: split {split!r} is empty; prepare it again")
  parts: dict[str, list[Any]] = {}
  for start in range(0, len(source), _CHUNK):
    rows = source.__getitems__(range(start, min(start + _CHUNK, len(source))))
    for key in rows[0]:
      parts.setdefault(key, []).append(_stack([row[key] for row in rows]))
  return {key: _concatenate(chunks) for key, chunks in parts.items()}


def note(spec: registry.Spec, folder: pathlib.Path) -> str:
  """Returns what every table must say about the dataset's split.

  That is what the preparation wrote, and what is missing of a whole copy.
  """
  said = str(metadata(folder).get("note", "official split"))
  sizes = split_sizes(folder)
  missing = [
    f"{sizes.get(split, 0):,} of {rows:,} {name} rows"
    for split, name, rows in zip(
      ("train", spec.test_split), ("training", "test"), spec.rows
    )
    if rows and sizes.get(split, 0) != rows
  ]
  if missing and "partial" not in said:
    said += f"; partial: {', '.join(missing)}"
  return said


def metadata(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what our builder wrote beside the dataset, or nothing."""
  file = folder / "metadata.json"
  return json.loads(file.read_text()) if file.exists() else {}


def _stack(values: list[Any]) -> Any:
  first = values[0]
  if isinstance(first, (np.ndarray, np.number, int, float)):
    return np.stack(values)
  return values


def _concatenate(chunks: list[Any]) -> Any:
  if isinstance(chunks[0], np.ndarray):
    return np.concatenate(chunks)
  return [value for chunk in chunks for value in chunk]


def _build_images(spec, folder) -> dataset_lib.Dataset:
  if spec.streams:
    raise ValueError(
      f"dataset {spec.name!r} is too large for arrays; leave"
      " --data_placement at auto, or give stream"
    )
  num_classes, test_split = _image_features(spec, folder)
  train, test = columns(folder, "train"), columns(folder, test_split)
  return dataset_lib.Dataset(
    info=dataset_lib.Info(
      name=spec.name,
      task=spec.task,
      num_classes=num_classes,
      class_names=class_names(folder),
      note=note(spec, folder),
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
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  info = tfds.builder_from_directory(os.fspath(folder)).info
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


def class_names(folder: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of the classes, or nothing."""
  file = folder / "label.labels.txt"
  return tuple(file.read_text().splitlines()) if file.exists() else ()


def _build_packets(spec, folder, **options) -> dataset_lib.Dataset:
  from experiments.shared.data import packets  # pylint: disable=g-import-not-at-top

  return packets.build(spec, folder, **options)


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


def _build_pairs(spec, folder, **options) -> dataset_lib.Dataset:
  from experiments.shared.data import pairs  # pylint: disable=g-import-not-at-top

  return pairs.build(spec, folder, **options)


def _build_spans(spec, folder, **options) -> dataset_lib.Dataset:
  from experiments.shared.data import spans  # pylint: disable=g-import-not-at-top

  return spans.build(spec, folder, **options)


_TEXT = ("vocabulary", "vocabulary_size", "max_length", "lowercase")
_OPTIONS = {
  "image": (),
  "packets": ("multi_class", "scaling", "test_split"),
  "pairs": _TEXT,
  "spans": (*_TEXT, "stride", "num_test"),
}
_BUILD = {
  "image": _build_images,
  "packets": _build_packets,
  "pairs": _build_pairs,
}
