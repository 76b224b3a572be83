"""Runs that another machine made, read from a file and checked.

A line a run: {"cell", "result", "hits"}. `cell` is the identity of its
configuration, `result` what its ``result.json`` held, `hits` its test images,
right or wrong, by `np.packbits` and base64. A line before them, {"made"},
says where, when and by what, and what all results share.
"""

import base64
import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from experiments.cells import sweeps
from experiments.run import config as config_lib

_EVERY = "every_run"
_LARGEST_GAP = 1e-4
"""Share of the images: accuracy and hits come from two programs, which in
TF32 may tell an image of 10,000 apart."""


class Run(NamedTuple):
  """One run, checked.

  Attributes:
    cell: its configuration.
    result: what its ``result.json`` held.
    hits: of its test images.
    gap: images that its accuracy counts and its hits do not.
  """

  cell: config_lib.RunConfig
  result: dict[str, Any]
  hits: Bool[np.ndarray, "N"]
  gap: int


@dataclasses.dataclass(frozen=True)
class Runs:
  """A file of runs.

  Attributes:
    made: where and by what; "num_images" of the test set, and "every_run",
      what all their results share.
    runs: one a line.
  """

  made: dict[str, Any]
  runs: tuple[Run, ...]

  def cells(self) -> list[config_lib.RunConfig]:
    """Returns the configurations, in the order of the lines."""
    return [run.cell for run in self.runs]


def read(path: pathlib.Path) -> Runs:
  """Reads a file of runs and checks each.

  Args:
    path: JSON lines.

  Raises:
    ValueError: an identity that today's `RunConfig` would name otherwise, a
      run that is there twice, or an accuracy that its hits do not give.
  """
  first, *lines = path.read_text().splitlines()
  made = json.loads(first)["made"]
  runs = tuple(
    _run(json.loads(line), made, f"{path.name}, line {number}")
    for number, line in enumerate(lines, 2)
  )
  digests = [run.cell.digest() for run in runs]
  if len(set(digests)) < len(digests):
    raise ValueError(f"{path.name} must hold each run once, got {len(runs)}")
  return Runs(made, runs)


def add(found: Runs, folder: pathlib.Path) -> int:
  """Makes the runs finished cells of a sweep's folder, where they are not.

  Returns:
    How many were added.
  """
  missing = {c.digest() for c in sweeps.unfinished(found.cells(), folder)}
  new = [run for run in found.runs if run.cell.digest() in missing]
  for run in new:
    sweeps.put(run.cell, folder, run.result, run.hits)
  return len(new)


def _run(line: dict[str, Any], made: dict[str, Any], place: str) -> Run:
  identity, count = line["cell"], made["num_images"]
  cell = config_lib.RunConfig(**identity)
  if cell.digest() != config_lib.digest(identity):
    raise ValueError(
      f"cell of {place} must be what its configuration is named by, got"
      f" {identity}, and {cell.identity()} today"
    )
  result = {**made[_EVERY], "config": dataclasses.asdict(cell)}
  result |= line["result"]
  packed = np.frombuffer(base64.b64decode(line["hits"]), np.uint8)
  if packed.size != -(-count // 8):
    raise ValueError(
      f"hits of {place} must be of {count} images, got {packed.size} bytes"
    )
  hits = np.unpackbits(packed, count=count).astype(bool)
  gap = round(result["test_accuracy"][0] * count) - int(hits.sum())
  if abs(gap) > _LARGEST_GAP * count:
    raise ValueError(
      f"test_accuracy of {place} must be the hits', {hits.sum()} of {count},"
      f" got {result['test_accuracy'][0]}"
    )
  return Run(cell, result, hits, gap)
