"""Metrics of a run: one line of JSON a record, and TensorBoard events.

A record is a flat mapping from names to numbers, or to lists of them with one
entry a member. A continued run first drops what was logged past its
checkpoint, so that the file reads as if the run had never stopped. A line ends
with a checksum of itself, "crc", so that a digit that changed is noticed.
"""

import json
import logging
import os
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from kdropout_jax.training import files

__all__ = (
  "JsonlWriter",
  "TensorBoardWriter",
  "Writer",
  "Writers",
  "read_jsonl",
)

Record = Mapping[str, Any]

_SPLITS = ("train", "valid", "test")


class Writer(Protocol):
  """What takes records."""

  def write(self, step: int, record: Record) -> None:
    """Takes the record of `step`.

    Args:
      step: steps that are done.
      record: {name: number, or one a member}.
    """
    ...

  def close(self) -> None:
    """Finishes."""
    ...


class JsonlWriter:
  """Appends records to a file, one line of JSON each.

  Args:
    path: the file; its folder must be there.
    resume_step: records of later steps are dropped; 0 empties the file.
  """

  def __init__(self, path: str | os.PathLike[str], resume_step: int = 0):
    path = pathlib.Path(path)
    if path.is_dir():
      aside = files.set_aside(path).name
      logging.getLogger(__name__).warning(
        f"{path} is a folder and was set aside as {aside}"
      )
    kept = [
      _line(record)
      for record in read_jsonl(path)
      if record["step"] <= resume_step
    ]
    files.write_atomically(path, "".join(f"{line}\n" for line in kept))
    self._file = path.open("a")

  def write(self, step: int, record: Record) -> None:
    """Appends the record of `step`.

    Args:
      step: steps that are done.
      record: {name: number, or one a member}.
    """
    self._file.write(f"{_line({'step': step, **files.plain(record)})}\n")
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class TensorBoardWriter:
  """Writes records as TensorBoard events: the mean over members.

  Tags are in groups: ``train_loss`` becomes ``train/loss``, likewise valid and
  test; what is of no split, such as ``epoch``, becomes ``run/epoch``.

  Args:
    folder: where the event files go.
    resume_step: events of later steps are hidden.

  Raises:
    ImportError: tensorboardX, of the extra "tensorboard", is not installed.
  """

  def __init__(self, folder: str | os.PathLike[str], resume_step: int = 0):
    try:
      import tensorboardX
    except ImportError as error:
      raise ImportError(
        "TensorBoard events need tensorboardX:"
        " pip install 'kdropout-jax[tensorboard]'"
      ) from error
    self._writer = tensorboardX.SummaryWriter(
      os.fspath(folder), purge_step=resume_step + 1, write_to_disk=True
    )

  def write(self, step: int, record: Record) -> None:
    """Writes the record of `step`; a mean that is not finite is left out.

    Args:
      step: steps that are done.
      record: {name: number, or one a member}.
    """
    for name, value in files.plain(record).items():
      if isinstance(value, (int, float, list)):
        # What is None in a plain record is NaN here.
        mean = float(np.mean(np.asarray(value, np.float64)))
        if np.isfinite(mean):
          self._writer.add_scalar(_tag(name), mean, step)

  def close(self) -> None:
    """Flushes and closes the file."""
    self._writer.close()


class Writers:
  """Gives each record to several writers."""

  def __init__(self, writers: Sequence[Writer] = ()):
    self._writers = tuple(writers)

  def write(self, step: int, record: Record) -> None:
    """Gives the record of `step` to each.

    Args:
      step: steps that are done.
      record: {name: number, or one a member}.
    """
    for writer in self._writers:
      writer.write(step, record)

  def close(self) -> None:
    """Closes each."""
    for writer in self._writers:
      writer.close()


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the records of a file; a line that is none is skipped.

  A kill may cut off the last line, and a damage may hit any; the good ones
  around it stay.

  Args:
    path: the file; none where it is not there.

  >>> read_jsonl("/no/such/file")
  []
  """
  path = pathlib.Path(path)
  text = path.read_text(errors="replace") if path.is_file() else ""
  found = [r for r in map(_record, text.split("\n")) if r is not None]
  # In a file with checksums, a line without one is not the run's.
  has_checksums = any("crc" in record for record in found)
  return [
    {name: value for name, value in record.items() if name != "crc"}
    for record in found
    if "crc" in record or not has_checksums
  ]


def _tag(name: str) -> str:
  """Returns the tag of a metric, "group/name"."""
  split, _, rest = name.partition("_")
  if split in _SPLITS and rest:
    return f"{split}/{rest}"
  return name if "/" in name else f"run/{name}"


def _record(line: str) -> dict[str, Any] | None:
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(record, dict) or type(record.get("step")) is not int:
    return None
  # What was written before there were checksums has none.
  if "crc" not in record:
    return record
  values = {name: value for name, value in record.items() if name != "crc"}
  return record if record["crc"] == _crc(values) else None


def _line(record: Record) -> str:
  return json.dumps({**record, "crc": _crc(record)}, allow_nan=False)


def _crc(record: Record) -> str:
  return f"{zlib.crc32(json.dumps(record).encode()):08x}"
