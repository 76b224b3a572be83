"""Files that are there as a whole or not at all, and what goes into them."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np


@contextlib.contextmanager
def opened_atomically(
  path: str | os.PathLike[str], mode: str = "w"
) -> Iterator[IO[Any]]:
  """Opens a file that takes the place of `path` when the block ends.

  A kill leaves the old file, or none; an exception also removes what was
  written of the new one.

  Args:
    path: the file; its folder must be there.
    mode: "w" for text (UTF-8), "wb" for bytes.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  encoding = None if "b" in mode else "utf-8"
  try:
    with temporary.open(mode, encoding=encoding) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file that is there as a whole or not at all."""
  with opened_atomically(path) as file:
    file.write(text)


def plain(value: Any) -> Any:
  """Returns data that JSON can hold: arrays as lists, no NaN, keys as text.

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
