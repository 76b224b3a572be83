"""What a prepared dataset's folder holds: splits, columns, names, notes."""

import os
import pathlib
from typing import Any

import numpy as np

from experiments.data import integrity
from experiments.data import registry

_CHUNK = 4096


def open_split(folder: pathlib.Path, split: str):
  """Returns the data source of a split: random access to its examples.

  Raises:
    ValueError: the dataset has no such split, or a file of it is gone.
  """
  builder = open_builder(folder)
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
  try:
    source = builder.as_data_source(split)
    held = len(source.data_source)
  except Exception as error:  # A damaged shard shows as any error.
    raise _damaged(folder, error) from error
  if held != len(source):
    raise _damaged(folder, f"{len(source):,} rows, and {held:,} in its shards")
  return source


def open_builder(folder: pathlib.Path) -> Any:
  """Returns TFDS's builder of a prepared dataset.

  Raises:
    ValueError: its files name a feature that TFDS does not have, or cannot be
      read.
  """
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  integrity.check_features(folder)
  try:
    return tfds.builder_from_directory(os.fspath(folder))
  except Exception as error:  # What a damaged info or feature raises.
    raise _damaged(folder, error) from error


def split_sizes(folder: pathlib.Path) -> dict[str, int]:
  """Returns {split: rows} of a prepared dataset."""
  info = integrity.read_json(folder / "dataset_info.json")
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
    chunk = range(start, min(start + _CHUNK, len(source)))
    try:
      rows = source.__getitems__(chunk)
    except Exception as error:  # A damaged record shows as any error.
      raise _damaged(folder, error) from error
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
  if not integrity.has_digests(folder):
    said += f"; {integrity.UNCHECKED}"
  return said


def metadata(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what our builder wrote beside the dataset, or nothing."""
  file = folder / "metadata.json"
  return integrity.read_json(file) if file.exists() else {}


def class_names(folder: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of the classes, or nothing."""
  file = folder / "label.labels.txt"
  return tuple(file.read_text().splitlines()) if file.exists() else ()


def _damaged(folder: pathlib.Path, error: Any) -> ValueError:
  words = str(error).strip().splitlines() or [type(error).__name__]
  return ValueError(
    f"{folder}: expected a whole dataset, got {words[0][:200]}; remove it and"
    " prepare the dataset again"
  )


def _stack(values: list[Any]) -> Any:
  first = values[0]
  if isinstance(first, (np.ndarray, np.number, int, float)):
    return np.stack(values)
  return values


def _concatenate(chunks: list[Any]) -> Any:
  if isinstance(chunks[0], np.ndarray):
    return np.concatenate(chunks)
  return [value for chunk in chunks for value in chunk]
