"""Selected settings over several seeds, as points: figure 2.

  python -m experiments.restarts --scale=cpu

About 3 minutes of two cores at the cpu scale, where sweeps have not trained
the same cells before. Expected: short windows and pools lie among the points
of standard dropout, all of them above no dropout. It judges no claim: its runs
are those of the sweeps, which judge them already.
"""

from experiments.cells import experiment
from experiments.cells import rows as cell_rows
from experiments.k_dropout import grids
from experiments.k_dropout import paper
from experiments.k_dropout import sizes
from experiments.k_dropout import sweep
from experiments.k_dropout import words
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_SETTING = ("method", "k", "pool_size", "m")


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains the settings, and returns each run of them."""
  depth = experiment.depth()
  cells = grids.restarts(scale, depth)
  store.results(cells)
  rows = cell_rows.rows(cells, store.folder)
  points = _points(rows)
  return study.Report(
    name="restarts",
    title="Selected settings, several seeds",
    setting=study.describe(cells[0]),
    table=columns.table(
      rows,
      _SETTING,
      {
        "setting": _name,
        "test accuracy": columns.spread("accuracy"),
        "each run": _each_run,
      },
    ),
    rows=rows,
    numbers={"points": points},
    draw=figures.drawing([panel(rows, scale, depth)]),
  )


def panel(rows, scale: sizes.Scale, depth: int) -> figures.Panel:
  """Returns a column of points a setting, one a run."""
  points = _points(rows)
  with_paper = scale.name == "paper" and depth == 3
  known = paper.FIGURE_2 if with_paper else {}
  return figures.Panel(
    title="one point a run",
    levels=words.levels(rows),
    dots=points,
    grey_dots={name: known[name] for name in points if name in known},
  )


def _points(rows: list[rows_lib.Row]) -> dict[str, list[float]]:
  return {
    _name(same): [row["accuracy"] for row in same]
    for same in rows_lib.group(rows, *_SETTING).values()
  }


def _name(same: list[rows_lib.Row]) -> str:
  return f"{same[0]['method']} {sweep.label(same[0])}".strip()


def _each_run(same: list[rows_lib.Row]) -> str:
  return ", ".join(f"{v:.2f}" for v in sorted(r["accuracy"] for r in same))


main = experiment.main(measure, sizes.SCALES)

if __name__ == "__main__":
  experiment.launch(main)
