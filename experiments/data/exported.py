"""A dataset of images as plain NumPy files, for a host without its readers.

``FILE.npz`` stands for parts ``FILE-0-of-4.npz`` and so on, of at most 60 MiB
each, so that they travel where files are small. Each part holds rows of both
splits; the first holds what a table says of the dataset, too.
"""

import dataclasses
import json
import os
import pathlib

import numpy as np

from experiments.data import dataset as dataset_lib

SUFFIX = ".npz"
MAX_BYTES = 60 * 2**20
_ARRAYS = ("train_x", "train_labels", "test_x", "test_labels")
_ROOM = 2**16  # for the headers of a part, and what it says of the dataset


def is_export(data_dir: str | os.PathLike[str] | None) -> bool:
  """Returns whether a ``--data_dir`` means exported arrays."""
  return data_dir is not None and pathlib.Path(data_dir).suffix == SUFFIX


def check_path(path: str | os.PathLike[str]) -> None:
  """Raises a ValueError where a path cannot stand for parts."""
  if not is_export(path):
    raise ValueError(f"export must end in {SUFFIX}, got {str(path)!r}")


def write(
  dataset: dataset_lib.Dataset,
  path: str | os.PathLike[str],
  max_bytes: int = MAX_BYTES,
) -> list[pathlib.Path]:
  """Writes a dataset's parts and returns their files.

  Args:
    dataset: of images.
    path: ``FILE.npz``, which stands for the parts.
    max_bytes: of a part.

  Raises:
    ValueError: no images, or a path that is no ``.npz``.
  """
  path = pathlib.Path(path)
  if dataset.info.task != "image":
    raise ValueError(
      f"export must be of images, got dataset {dataset.info.name!r}, whose task"
      f" is {dataset.info.task}"
    )
  check_path(path)
  whole = {name: getattr(dataset, name) for name in _ARRAYS}
  size = sum(array.nbytes for array in whole.values())
  count = max(1, -(-size // max(1, max_bytes - _ROOM)))
  files = [_part(path, i, count) for i in range(count)]
  for i, file in enumerate(files):
    # Strided by part: parts are of one size, to a row.
    arrays = {name: array[i::count] for name, array in whole.items()}
    if i == 0:
      arrays["info"] = np.array(json.dumps(dataclasses.asdict(dataset.info)))
    np.savez(file, **arrays)
  return files


def read(path: str | os.PathLike[str], name: str) -> dataset_lib.Dataset:
  """Returns a dataset from its parts.

  Args:
    path: ``FILE.npz``, as it was written.
    name: of the dataset that is wanted.

  Raises:
    ValueError: parts that are not there, or of another dataset.
  """
  path = pathlib.Path(path)
  files = sorted(path.parent.glob(f"{path.stem}-*-of-*{SUFFIX}"))
  count = int(files[0].stem.rpartition("-")[2]) if files else 0
  wanted = [_part(path, i, count) for i in range(count)]
  if not files or set(files) != set(wanted):
    raise ValueError(
      f"arrays {str(path)!r} must have all its parts {path.stem}-i-of-n{SUFFIX}"
      f" beside each other, got {[file.name for file in files]}"
    )
  parts = [dict(np.load(file)) for file in wanted]
  info = dataset_lib.Info(**_told(json.loads(parts[0]["info"].item())))
  if info.name != name:
    raise ValueError(
      f"arrays {str(path)!r} must be of dataset {name!r}, got {info.name!r}"
    )
  return dataset_lib.Dataset(info, *(_joined(parts, n) for n in _ARRAYS))


def _part(path: pathlib.Path, index: int, count: int) -> pathlib.Path:
  return path.with_name(f"{path.stem}-{index}-of-{count}{SUFFIX}")


def _joined(parts: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
  rows = sum(len(part[name]) for part in parts)
  first = parts[0][name]
  whole = np.empty((rows, *first.shape[1:]), first.dtype)
  for i, part in enumerate(parts):
    whole[i :: len(parts)] = part[name]
  return whole


def _told(info: dict) -> dict:
  lists = {"class_names": tuple, "counts": lambda c: tuple(map(tuple, c))}
  return {n: lists.get(n, lambda v: v)(value) for n, value in info.items()}
