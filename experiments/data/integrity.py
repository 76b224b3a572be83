"""What was prepared is what is read: a digest of every file of a dataset.

``digests.json`` is written with the dataset, before it gets its name, and
compared when it is loaded. A dataset without it (prepared before digests were
kept, or by TFDS itself) is read, and every table says so.
"""

import hashlib
import json
import pathlib
from typing import Any

from kdropout_jax.training import files

DIGESTS = "digests.json"
UNCHECKED = "files unchecked: prepared without digests"
"""What tables say of a dataset that has none."""

_PACKAGE = "tensorflow_datasets.core.features."


def write(folder: pathlib.Path) -> None:
  """Writes the digests of all files that are in `folder`."""
  found = {
    path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    for path in sorted(folder.iterdir())
    if path.is_file() and _is_counted(path.name)
  }
  text = json.dumps({"files": found}, indent=2)
  files.write_atomically(folder / DIGESTS, text + "\n")


def has_digests(folder: pathlib.Path) -> bool:
  """Returns whether the dataset in `folder` can be checked."""
  return (folder / DIGESTS).exists()


def check(
  folder: pathlib.Path, *, is_ours: bool, sizes_alone: bool = False
) -> None:
  """Raises a ValueError where a prepared dataset is not what was prepared.

  Args:
    folder: of one version.
    is_ours: whether a builder of ours made it, which leaves a metadata.json.
    sizes_alone: do not read the shards: of a dataset that takes minutes to
      read, their sizes are compared.
  """
  check_features(folder)
  _check_info(folder)
  if is_ours and not (folder / "metadata.json").is_file():
    raise _wrong(folder / "metadata.json", "the notes of the dataset", "none")
  if has_digests(folder):
    for name, recorded in _recorded(folder).items():
      _check_file(folder / name, recorded, sizes_alone and "record-" in name)


def check_features(folder: pathlib.Path) -> None:
  """Raises a ValueError for a feature that TFDS does not have.

  TFDS imports the module that the file names, and one of that name in the
  current folder would be run.
  """
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  path = folder / "features.json"
  for name in _class_names(read_json(path)):
    module, _, last = name.rpartition(".")
    is_plain = module.removeprefix(_PACKAGE).isidentifier()
    known = isinstance(getattr(tfds.features, last, None), type)
    if not (module.startswith(_PACKAGE) and is_plain and known):
      raise _wrong(path, "features of TFDS", f"{name!r}, which is not imported")


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Returns the object in a JSON file of a dataset.

  Raises:
    ValueError: it holds none, and which file it is.
  """
  try:
    found = json.loads(path.read_bytes())
  except (OSError, ValueError, RecursionError) as error:
    raise _wrong(path, "a JSON object", type(error).__name__) from error
  if not isinstance(found, dict):
    raise _wrong(path, "a JSON object", type(found).__name__)
  return found


def _is_counted(name: str) -> bool:
  # A vocabulary is learnt later, and what begins with a dot is temporary.
  return not name.startswith((".", "vocabulary-")) and name != DIGESTS


def _recorded(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
  found = read_json(folder / DIGESTS).get("files")
  if not isinstance(found, dict) or not found:
    raise _wrong(folder / DIGESTS, "size and sha256 of each file", "none")
  for one in found.values():
    if not isinstance(one, dict) or not isinstance(one.get("bytes"), int):
      raise _wrong(folder / DIGESTS, "size and sha256 of each file", f"{one}")
  there = {p.name for p in folder.iterdir() if _is_counted(p.name)}
  for name in sorted(there - set(found)):
    raise _wrong(folder / name, "no such file", "one that was not prepared")
  return found


def _check_file(
  path: pathlib.Path, recorded: dict[str, Any], size_alone: bool
) -> None:
  if not path.is_file():
    split = path.name.split(".")[0].rpartition("-")[2]
    what = f"a shard of split {split!r}" if "record-" in path.name else "it"
    raise _wrong(path, what, "nothing")
  size, expected = path.stat().st_size, recorded["bytes"]
  if size != expected:
    raise _wrong(path, f"{expected:,} bytes", f"{size:,}")
  if size_alone:
    return
  found = _sha256(path)
  if found != recorded.get("sha256"):
    raise _wrong(path, f"sha256 {recorded.get('sha256')}", found)


def _check_info(folder: pathlib.Path) -> None:
  """Raises a ValueError where the info file names no splits."""
  path = folder / "dataset_info.json"
  info = read_json(path)
  try:
    for split in info["splits"]:
      dict(name=split["name"], rows=list(map(int, split["shardLengths"])))
  except (KeyError, TypeError, ValueError) as error:
    raise _wrong(path, "splits and their lengths", repr(error)) from error


def _class_names(tree: Any) -> list[str]:
  """Returns all that a tree names a Python class, wherever it stands."""
  found, left = [], [tree]
  while left:
    one = left.pop()
    if isinstance(one, dict):
      found += [
        v for k, v in one.items() if _means_class(k) and isinstance(v, str)
      ]
      left += one.values()
    elif isinstance(one, list):
      left += one
  return found


def _means_class(key: str) -> bool:
  # Both spellings are read: protobuf's JSON names and its fields'.
  return key.replace("_", "").lower() in ("pythonclassname", "type")


def _sha256(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _wrong(path: pathlib.Path, expected: str, got: str) -> ValueError:
  return ValueError(
    f"{path}: expected {expected}, got {got}; it is not what was prepared:"
    f" remove {path.parent} and prepare the dataset again"
  )
