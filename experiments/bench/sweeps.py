"""Cells an hour: a sweep against the same cells in fresh processes.

  python -m experiments.bench_sweep --scale=smoke

A fresh process imports, compiles and trains one cell, and the next begins when
it has ended. The sweep trains them side by side in as few programs as it can.
Both train cells of the scale's own grid, the fresh processes the first
``--alone`` of them; run it on a machine that does nothing else. Expected: at
least 5 times the cells an hour at the smoke scale, 1.5 at the cpu scale.
"""

import json
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.cells import sweeps
from experiments.k_dropout import grids
from experiments.k_dropout import sizes
from experiments.report import passport
from experiments.report import tables
from experiments.run import config as config_lib

absl_flags.DEFINE_integer("alone", 4, "cells that fresh processes train")
absl_flags.DEFINE_integer("cells", 20, "cells that the sweep trains")
experiment_flags.define()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  scale = experiment_flags.scale(sizes.SCALES)
  lines = len(grids.lines(scale, 2, scale.orders)) * scale.seeds
  # Past the two lines: cells of the grid proper, spread over its settings.
  cells = grids.sequential(scale)[lines:]
  chosen = cells[: FLAGS.cells]
  max_members = FLAGS.max_members or scale.max_members
  sweep = _hours(lambda: _sweep(chosen, max_members)) / len(chosen)
  few = chosen[:: max(1, len(chosen) // FLAGS.alone)][: FLAGS.alone]
  alone = _hours(lambda: _alone(few)) / len(few)
  result = {
    "cells_an_hour_sweep": 1 / sweep,
    "cells_an_hour_alone": 1 / alone,
    "ratio": alone / sweep,
    "cells_sweep": len(chosen),
    "cells_alone": len(few),
    "scale": scale.name,
    "command": passport.command(),
    **passport.of_this_machine(),
  }
  print(json.dumps(result, indent=2))
  if FLAGS.publish:
    folder = pathlib.Path(FLAGS.publish)
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_json(folder / f"bench_sweep_{scale.name}.json", result)


def command(cell: config_lib.RunConfig, workdir: str) -> list[str]:
  """Returns the command that trains a cell by itself."""
  arguments = [f"--{k}={_text(v)}" for k, v in cell.identity().items()]
  return [
    sys.executable,
    "-m",
    "experiments.train",
    *arguments,
    f"--workdir={workdir}",
    "--noprogress",
  ]


def _sweep(cells: Sequence[config_lib.RunConfig], max_members: int) -> None:
  """Trains the cells in one fresh process, its start included."""
  with tempfile.TemporaryDirectory() as folder:
    child = multiprocessing.get_context("spawn").Process(
      target=sweeps.run,
      args=(cells, pathlib.Path(folder)),
      kwargs={"max_members": max_members, "progress": False},
    )
    child.start()
    child.join()
  if child.exitcode:
    raise RuntimeError(f"the sweep's process ended with {child.exitcode}")


def _alone(cells: Sequence[config_lib.RunConfig]) -> None:
  for cell in cells:
    with tempfile.TemporaryDirectory() as folder:
      subprocess.run(
        command(cell, folder), check=True, stdout=subprocess.DEVNULL
      )


def _hours(fn) -> float:
  began = time.perf_counter()
  fn()
  return (time.perf_counter() - began) / 3600


def _text(value: Any) -> str:
  if isinstance(value, list):
    return ",".join(map(str, value))
  return str(value)


if __name__ == "__main__":
  experiment.launch(main)
