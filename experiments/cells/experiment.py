"""The frame of an experiment, which itself says what it measures and found.

Flags, folder, minutes, verdicts and files are the frame's. Most binaries are
one function and a line:

  main = experiment.main(measure, sizes.SCALES)
"""

import dataclasses
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
from experiments.run import flags as run_flags
from experiments.run import workdirs

FLAGS = absl_flags.FLAGS

_WHOLE = "0/1"


@dataclasses.dataclass(frozen=True)
class Store:
  """A folder of cells, and how to fill it: what an experiment is given.

  Attributes:
    folder: of the sweep.
    max_members: cells of one program, at most.
    data_dir: where prepared datasets live.
    progress: whether to show a bar.
  """

  folder: pathlib.Path
  max_members: int
  data_dir: str | None = None
  progress: bool = True

  def train(
    self,
    cells: sweeps.Cells,
    which: str = "0/1",
    make: Callable[..., Any] | None = None,
  ) -> int:
    """Trains the cells of a shard that are not there; returns how many.

    Args:
      cells: of one sweep.
      which: the shard, "i/n".
      make: see `sweeps.run`.
    """
    return sweeps.run(
      cells,
      self.folder,
      max_members=self.max_members,
      which=which,
      data_dir=self.data_dir,
      make=make,
      progress=self.progress,
    )

  def results(
    self, cells: sweeps.Cells, make: Callable[..., Any] | None = None
  ) -> list[dict[str, Any]]:
    """Trains what is not there and returns one result a cell."""
    self.train(cells, make=make)
    found = [sweeps.result(cell, self.folder) for cell in cells]
    return [values for values in found if values is not None]


def main[S: sizes.Scale](
  measure: Callable[[S, Store], study.Report],
  scales: Mapping[str, S],
  shared: str = "k-dropout",
) -> Callable[[list[str]], None]:
  """Defines a binary's flags, and returns its `main`, which measures.

  Args:
    measure: trains what the store lacks, and says what it found.
    scales: {name: scale}.
    shared: name of the folder that experiments share where no flag says it.
  """

  def run(argv: list[str]) -> None:
    del argv
    scale = flags.scale(scales)
    given = store(scale.max_members, shared)
    report(given.folder, lambda: measure(scale, given))

  flags.define()
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
  page: Callable[[Mapping[str, Any]], str],
  numbers: Mapping[str, Any],
  draw: Callable[[pathlib.Path], None],
) -> None:
  """Leaves a page of an experiment that trains nothing and has no claims.

  Args:
    name: of the files, which lie in ``runs/NAME`` where no flag says it.
    page: from the numbers, with scale, device and versions, to Markdown.
    numbers: plain data.
    draw: writes the figure to a path.
  """
  folder = pathlib.Path(FLAGS.workdir or f"runs/{name}")
  facts = {"scale": FLAGS.scale, **numbers, **passport.of_this_machine()}
  with workdirs.locked(folder, passport.module()):
    study.leave(
      name, page(facts), facts, folder, draw=draw, publish=FLAGS.publish
    )


def launch(main: Callable[[list[str]], None]) -> None:
  """Runs an experiment's `main`; a user's mistake ends in a line."""
  run_flags.launch(main)


def depth() -> int:
  """Returns the hidden layers; the two of the paper's text by default."""
  return FLAGS.depth or 2


def store(max_members: int, shared: str = "k-dropout") -> Store:
  """Returns the folder of the cells with what fills it.

  Args:
    max_members: cells of one program, at most, where no flag says it.
    shared: name of the folder that experiments share where no flag says it.
  """
  return Store(
    pathlib.Path(FLAGS.workdir or f"runs/{shared}-{FLAGS.scale}"),
    FLAGS.max_members or max_members,
    FLAGS.data_dir,
    FLAGS.progress,
  )


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
  store: Store,
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
