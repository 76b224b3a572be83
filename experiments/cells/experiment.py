"""The frame of an experiment, which itself says what it measures and found.

Flags, folder, minutes, verdicts and files are the frame's. Most binaries are
one function and a line:

  main = experiment.main(measure, sizes.SCALES)
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags as absl_flags

from experiments.cells import estimates
from experiments.cells import flags
from experiments.cells import sizes
from experiments.cells import sweeps
from experiments.report import passport
from experiments.report import study
from experiments.run import config as config_lib
from experiments.run import workdirs

FLAGS = absl_flags.FLAGS

_WHOLE = "0/1"


def main[S: sizes.Scale](
  measure: Callable[[S, sweeps.Store], study.Report],
  scales: Mapping[str, S],
  shared: str = "k-dropout",
) -> Callable[[list[str]], None]:
  """Returns a binary's `main`: it measures at the scale of the flags.

  Args:
    measure: trains what the store lacks, and says what it found.
    scales: {name: scale}.
    shared: name of the folder that experiments share where no flag says it.
  """

  def run(argv: list[str]) -> None:
    del argv
    scale = flags.scale(scales)
    store = flags.store(scale.max_members, shared)
    report(store.folder, lambda: measure(scale, store))

  return run


def report(folder: pathlib.Path, measure: Callable[[], study.Report]) -> None:
  """Measures, and writes what was found.

  Args:
    folder: where to; a second one is ``--publish``.
    measure: trains what is not there yet, and says what it found.
  """
  with workdirs.locked(folder, passport.module()):
    began = time.perf_counter()
    found = measure()
    _write(found, folder, _minutes(folder, found.name, began))


def leave(
  name: str,
  page: str,
  numbers: Mapping[str, Any],
  draw: Callable[[pathlib.Path], None],
) -> None:
  """Leaves a page of an experiment that trains nothing and has no claims.

  Args:
    name: of the files, which lie in ``runs/NAME`` where no flag says it.
    page: Markdown.
    numbers: plain data.
    draw: writes the figure to a path.
  """
  folder = pathlib.Path(FLAGS.workdir or f"runs/{name}")
  with workdirs.locked(folder, passport.module()):
    study.leave(name, page, numbers, folder, draw=draw, publish=FLAGS.publish)


def share(
  folder: pathlib.Path,
  name: str,
  *,
  plan: Callable[[], str],
  train: Callable[[], object],
  done: Callable[[], str],
  report: Callable[[], study.Report],
  scale: str | None = None,
) -> None:
  """Trains the ``--shard`` of a list of cells; without it, reports them all.

  Args:
    folder: of the cells.
    name: of the experiment.
    plan: what is to be trained, in words, for ``--dry_run``.
    train: trains the shard.
    done: what became of it, in words.
    report: what all the cells say.
    scale: name of the scale; default ``--scale``.
  """
  if FLAGS.dry_run:
    print(plan())
    return
  part = "" if FLAGS.shard == _WHOLE else f"-{FLAGS.shard.replace('/', '-of-')}"
  with workdirs.locked(folder, f"{name}{part}"):
    began = time.perf_counter()
    train()
    minutes = _minutes(folder, name, began)
    if FLAGS.shard != _WHOLE:
      print(f"shard {FLAGS.shard} is done{done()}")
      return
    _write(report(), folder, minutes, scale)


def share_cells(
  store: sweeps.Store,
  name: str,
  cells: sweeps.Cells,
  report: Callable[[], study.Report],
  *,
  scale: str | None = None,
  label: Callable[[config_lib.RunConfig], str] | None = None,
) -> None:
  """Trains and reports, as `share`, a list of cells."""

  def done() -> str:
    left = len(sweeps.unfinished(cells, store.folder))
    return f"; {left} of {len(cells)} cells are left"

  share(
    store.folder,
    name,
    plan=lambda: estimates.describe(
      cells, store.folder, store.max_members, FLAGS.shard, label
    ),
    train=lambda: store.train(cells, FLAGS.shard),
    done=done,
    report=report,
    scale=scale,
  )


def _minutes(folder: pathlib.Path, name: str, began: float) -> float:
  return study.add_minutes(folder, name, time.perf_counter() - began)


def _write(
  found: study.Report,
  folder: pathlib.Path,
  minutes: float,
  scale: str | None = None,
) -> None:
  study.write(
    found,
    folder,
    scale=scale or FLAGS.scale,
    minutes=minutes,
    publish=FLAGS.publish,
  )
