"""A sweep: a list of cells, each one deterministic run in its own folder.

A cell's folder is named by the digest of its configuration, so that grids
share cells, finished ones are skipped, and stopped ones continue. Cells that
have one `program_key` train side by side in one program, a
*pack*; which cells share a pack follows from the list, not from the shard.
"""

import json
import pathlib
import shutil
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from jaxtyping import Bool

from experiments import models
from experiments.run import config as config_lib
from experiments.run import predictions
from experiments.run import runner
from experiments.run import setup as setup_lib
from experiments.run import snapshots
from experiments.run import workdirs
from kdropout_jax.training import files
from kdropout_jax.training import loop
from kdropout_jax.training import metrics

Cells = Sequence[config_lib.RunConfig]
Pack = tuple[config_lib.RunConfig, ...]

_WHERE = "pack.json"
_SAVE_AFTER = 300.0
"""Seconds: a pack that takes less is sooner trained again than saved."""

_READ = ("num_subnets", "steps", "train_accuracy", "test_accuracy")
"""What is read of any cell's result."""


def packs(cells: Cells, max_members: int) -> list[Pack]:
  """Groups cells that one program can train, in the order of their first.

  On a CPU a cell with convolutions trains alone: side by side they become
  grouped convolutions there, 3 times slower (measured, 2 cells of LeNet).

  Args:
    cells: configurations of one seed each.
    max_members: cells of one program, at most.

  Raises:
    ValueError: a cell of several seeds, or a wrong number.
  """
  if max_members < 1:
    raise ValueError(f"max_members must be >= 1, got {max_members}")
  groups: dict[Any, list[config_lib.RunConfig]] = {}
  for cell in cells:
    if cell.seeds != 1:
      raise ValueError(f"a cell must have one seed, got seeds={cell.seeds}")
    groups.setdefault(cell.program_key(), []).append(cell)
  alone = models.CONVOLUTIONAL if jax.default_backend() == "cpu" else ()
  found = []
  for group in groups.values():
    size = 1 if group[0].model in alone else max_members
    firsts = range(0, len(group), size)
    found += [tuple(group[first : first + size]) for first in firsts]
  return found


def shard(all_packs: Sequence[Pack], which: str) -> list[Pack]:
  """Returns the i-th of n parts, for ``which="i/n"``, i from 0.

  Raises:
    ValueError: not of that form.
  """
  try:
    index, count = (int(part) for part in which.split("/"))
  except ValueError:
    index, count = -1, 0
  if not 0 <= index < count:
    raise ValueError(f"shard must be i/n with 0 <= i < n, got {which!r}")
  return list(all_packs[index::count])


def run(
  cells: Cells,
  folder: pathlib.Path,
  *,
  max_members: int,
  which: str = "0/1",
  data_dir: str | None = None,
  make: runner.MakeFn | None = None,
  progress: bool = True,
) -> int:
  """Trains the cells of a shard that are not finished.

  Args:
    cells: configurations of one seed each.
    folder: of the sweep; several processes may share it.
    max_members: cells of one program, at most.
    which: the shard, "i/n".
    data_dir: where prepared datasets live.
    make: makes the set-up of a pack, as for `runner.run`.
    progress: whether to show a bar over cells.

  Returns:
    How many cells were trained.

  Raises:
    ValueError: wrong cells or shard.
    loop.NonFiniteLoss: after all others, if cells diverged; it names them.
    loop.Stopped: Ctrl-C; the same call continues.
  """
  mine = shard(packs(cells, max_members), which)
  trained, diverged = 0, []
  with tqdm.tqdm(
    total=sum(map(len, mine)),
    unit="cell",
    disable=not progress,
    dynamic_ncols=True,
  ) as bar:
    for pack in mine:
      todo = unfinished(pack, folder)
      _skip(bar, len(pack) - len(todo))
      if not todo:
        continue
      lost = _train_all(todo, folder, data_dir, make, bar)
      trained += len(todo) - len(lost)
      diverged += lost
      bar.update(len(todo))
  if diverged:
    raise loop.NonFiniteLoss("cells without a result: " + "; ".join(diverged))
  return trained


def _skip(bar: tqdm.tqdm, count: int) -> None:
  """Counts cells as done that took no time, which the time left must not."""
  if count and not bar.disable:
    bar.initial += count
    bar.update(count)


def unfinished(cells: Cells, folder: pathlib.Path) -> Pack:
  """Returns the cells that have no result yet."""
  return tuple(cell for cell in cells if result(cell, folder) is None)


def result(
  cell: config_lib.RunConfig, folder: pathlib.Path
) -> dict[str, Any] | None:
  """Returns what a finished cell's ``result.json`` says, or None."""
  return workdirs.result(cell_folder(cell, folder), _READ)


def cell_folder(
  cell: config_lib.RunConfig, folder: pathlib.Path
) -> pathlib.Path:
  """Returns the folder of a cell."""
  return folder / "cells" / cell.digest()


def hits(cell: config_lib.RunConfig, folder: pathlib.Path) -> np.ndarray:
  """Returns whether a finished cell is right on each test image, bool [N]."""
  pack, member = _where(cell, folder)
  return predictions.read(pack)[member]


def curve(
  cell: config_lib.RunConfig, folder: pathlib.Path
) -> list[dict[str, Any]]:
  """Returns what a finished cell logged, one record an evaluation."""
  pack, member = _where(cell, folder)
  return [
    {
      name: value[member] if isinstance(value, list) else value
      for name, value in record.items()
    }
    for record in metrics.read_jsonl(pack / runner.METRICS)
  ]


def params(
  cell: config_lib.RunConfig, folder: pathlib.Path, step: int, like: Any
) -> Any:
  """Returns the parameters of a cell after `step` steps.

  Args:
    cell: a finished cell, with `step` among its `snapshot_steps`.
    folder: of the sweep.
    step: number of steps that were done.
    like: parameters of one member, for their structure.
  """
  pack, member = _where(cell, folder)
  tree = snapshots.read(pack, step, like)
  return jax.tree.map(lambda leaf: leaf[member], tree)


def put(
  cell: config_lib.RunConfig,
  folder: pathlib.Path,
  values: dict[str, Any],
  own_hits: Bool[np.ndarray, "N"],
) -> None:
  """Makes a run of another machine a finished cell, a pack of its own.

  Args:
    cell: its configuration, of one seed.
    folder: of the sweep.
    values: what its ``result.json`` held.
    own_hits: whether it is right on each test image.

  Raises:
    ValueError: its folder belongs to another run.
  """
  name = cell.digest()
  workdirs.claim(folder / "packs" / name, cell.identity())
  predictions.write(folder / "packs" / name, own_hits[None])
  _finish(cell, folder, values, {"pack": name, "member": 0})


def measured(cells: Cells, folder: pathlib.Path) -> dict[str, float]:
  """Returns seconds a step and cell of finished cells, {cell digest: s}."""
  found = {}
  for cell in cells:
    values = result(cell, folder)
    if values is not None and values["examples_per_second"]:
      rate = values["examples_per_second"]
      found[cell.digest()] = cell.batch_size / rate
  return found


def _train_all(todo: Pack, *how: Any) -> list[str]:
  """Trains a pack; where one member diverges, each of them alone.

  Returns:
    Those without a result, and why.
  """
  try:
    _train(todo, *how)
    return []
  except loop.NonFiniteLoss as error:
    if len(todo) == 1:
      return [f"{todo[0].digest()}: {error}"]
  return [line for cell in todo for line in _train_all((cell,), *how)]


def _train(
  todo: Pack,
  folder: pathlib.Path,
  data_dir: str | None,
  make: runner.MakeFn | None,
  bar: tqdm.tqdm,
) -> None:
  name = config_lib.digest(runner.identity_of(todo))
  pack_folder = folder / "packs" / name

  began = time.monotonic()

  def said(*args: Any) -> setup_lib.Setup:
    found = (make or setup_lib.make)(*args)
    if not any(found.program.num_traces().values()):
      bar.set_postfix_str(f"compiling {todo[0].model} for {len(todo)}")
    return found

  def show(done: int, state: Any, since_log: Any) -> None:
    del state, since_log
    bar.set_postfix_str(f"{len(todo)} at step {done:,}")

  def hooks(run_: runner.Run) -> list[loop.Hook]:
    bar.set_postfix_str(f"compiled in {time.monotonic() - began:.0f} s")
    tenth = max(1, run_.setup.num_steps // 10)
    return [predictions.hook(run_), loop.Hook(show, every=tenth)]

  results = runner.run(
    todo,
    pack_folder,
    data_dir=data_dir,
    hooks=hooks,
    make=said,
    progress=False,
    save_after=_SAVE_AFTER,
  )
  for member, (cell, values) in enumerate(zip(todo, results)):
    _finish(cell, folder, values, {"pack": name, "member": member})
  # Every cell has its result; what continues a stopped run is not needed.
  shutil.rmtree(pack_folder / "checkpoints", ignore_errors=True)


def _finish(
  cell: config_lib.RunConfig,
  folder: pathlib.Path,
  values: dict[str, Any],
  where: dict[str, Any],
) -> None:
  own = cell_folder(cell, folder)
  workdirs.claim(own, cell.identity())
  files.write_atomically(own / _WHERE, json.dumps(where) + "\n")
  workdirs.write_result(own, values)  # Last: it marks the cell as finished.


def _where(
  cell: config_lib.RunConfig, folder: pathlib.Path
) -> tuple[pathlib.Path, int]:
  where = files.read_object(cell_folder(cell, folder) / _WHERE) or {}
  if not (
    isinstance(where.get("pack"), str) and isinstance(where.get("member"), int)
  ):
    raise ValueError(
      f"cell {cell.digest()} has not been trained in {folder}: run its sweep"
    )
  return folder / "packs" / where["pack"], where["member"]
