"""Files that are there as a whole or not at all, and what goes into them."""

import contextlib
import itertools
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

__all__ = (
  "is_there",
  "opened_atomically",
  "plain",
  "read_object",
  "replacing",
  "set_aside",
  "write_atomically",
)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a name beside `path`, whose file takes its place at the end.

  A kill leaves the old file, or none; an exception also removes what was
  written of the new one. A link that stands at `path` is replaced, and what
  it points to stays as it is.

  Args:
    path: the file; its folder must be there.

  Returns:
    A context, which gives the name to write to.

  >>> import pathlib, tempfile
  >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
  >>> with replacing(path) as temporary:
  ...   _ = temporary.write_text("whole")
  >>> path.read_text()
  'whole'
  """
  path = pathlib.Path(path)
  # The suffix stays: some writers choose the format by it.
  temporary = path.with_name(f".{os.getpid()}.{path.name}")
  try:
    temporary.unlink(missing_ok=True)  # Nothing is written through a link.
    yield temporary
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def opened_atomically(
  path: str | os.PathLike[str], mode: str = "w"
) -> Iterator[IO[Any]]:
  """Opens a file that takes the place of `path` when the block ends.

  As `replacing` does, and what is written is on the disk before.

  Args:
    path: the file; its folder must be there.
    mode: "w" for text (UTF-8), "wb" for bytes.

  Returns:
    A context, which gives the open file.

  >>> import pathlib, tempfile
  >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.bin"
  >>> with opened_atomically(path, "wb") as file:
  ...   _ = file.write(b"whole")
  >>> path.read_bytes()
  b'whole'
  """
  encoding = None if "b" in mode else "utf-8"
  with replacing(path) as temporary:
    with temporary.open(mode.replace("w", "x"), encoding=encoding) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file that is there as a whole or not at all.

  Args:
    path: the file; its folder must be there.
    text: what it will hold.

  >>> import pathlib, tempfile
  >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
  >>> write_atomically(path, "whole")
  >>> path.read_text()
  'whole'
  """
  with opened_atomically(path) as file:
    file.write(text)


def read_object(path: str | os.PathLike[str]) -> dict[str, Any] | None:
  """Returns a file's JSON object, or None: it holds none, or is not there.

  Args:
    path: the file.

  >>> read_object("/no/such/file") is None
  True
  """
  try:
    found = json.loads(pathlib.Path(path).read_bytes())
  except (OSError, ValueError, RecursionError):
    return None
  return found if isinstance(found, dict) else None


def set_aside(path: str | os.PathLike[str]) -> pathlib.Path:
  """Renames a damaged file or folder, over none, and returns its new path.

  Args:
    path: what is damaged.

  Returns:
    Its new path: the name with ".damaged", and a number where that is taken.

  >>> import pathlib, tempfile
  >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
  >>> write_atomically(path, "half")
  >>> set_aside(path).name
  'a.txt.damaged'
  """
  path = pathlib.Path(path)
  names = (f"{path.name}.damaged{i or ''}" for i in itertools.count())
  free = (path.with_name(n) for n in names if not is_there(path.with_name(n)))
  return path.rename(next(free))


def is_there(path: str | os.PathLike[str]) -> bool:
  """Returns whether anything has this name, a link to nothing too.

  Args:
    path: the name.

  >>> is_there("/no/such/file")
  False
  """
  try:
    return os.path.lexists(path)
  except OSError:  # A name that is too long, say.
    return False


def plain(value: Any) -> Any:
  """Returns data that JSON can hold: arrays as lists, no NaN, keys as text.

  Args:
    value: numbers, texts, arrays, and dicts and lists of them.

  >>> plain({"loss": np.float32(0.5), "accuracy": np.array([1.0, np.nan])})
  {'loss': 0.5, 'accuracy': [1.0, None]}
  """
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if hasattr(value, "tolist"):
    value = np.asarray(value).tolist()
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
