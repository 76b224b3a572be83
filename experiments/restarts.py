"""Selected settings over several seeds, as points: figure 2.

  python -m experiments.restarts --scale=cpu

About 3 minutes of two cores at the cpu scale, where sweeps have not trained
the same cells before. Expected: short windows and pools lie among the points
of standard dropout, all of them above no dropout.
"""

import time

from absl import flags as absl_flags

from experiments.shared import flags
from experiments.shared.papers import paper_kdropout
from experiments.shared.reporting import figures
from experiments.shared.reporting import report
from experiments.shared.results import sweep_report
from experiments.shared.sweeping import experiment_flags
from experiments.shared.sweeping import grids
from experiments.shared.sweeping import sweep_rows
from experiments.shared.sweeping import sweeps

experiment_flags.define()

FLAGS = absl_flags.FLAGS

CLAIMS = ("pool_50_is_close", "every_pool_helps", "sixty_subnets_suffice")


def main(argv: list[str]) -> None:
  del argv
  began = time.perf_counter()
  scale, store = experiment_flags.scale(), experiment_flags.store()
  depth = FLAGS.depth or 2
  cells = grids.restarts(scale, depth)
  store.results(cells)
  minutes = report.add_minutes(
    store.folder, "restarts", time.perf_counter() - began
  )
  write(cells, store, scale, depth, minutes)


def write(
  cells: sweeps.Cells, store: sweeps.Store, scale, depth: int, minutes: float
) -> None:
  """Writes the report."""
  rows = sweep_rows.rows(cells, store.folder)
  groups = sweep_rows.group(rows, "method", "k", "pool_size", "m")
  points = {
    f"{same[0]['method']} {sweep_report.label(same[0])}".strip(): [
      row["accuracy"] for row in same
    ]
    for same in groups.values()
  }
  with_paper = scale.name == "paper" and depth == 3
  panel = figures.Panel(
    title="one point a run",
    dots=points,
    grey_dots={
      name: paper_kdropout.FIGURE_2[name]
      for name in points
      if with_paper and name in paper_kdropout.FIGURE_2
    },
  )
  report.write(
    report.Report(
      name="restarts",
      title="Selected settings, several seeds",
      scale=scale.name,
      setting=report.describe(cells[0]),
      header=("setting", "test accuracy", "each run"),
      table=[
        (
          name,
          report.points([v / 100 for v in values]),
          ", ".join(f"{v:.2f}" for v in sorted(values)),
        )
        for name, values in points.items()
      ],
      numbers={"points": points, "rows": rows},
      seeds=sorted({cell.seed for cell in cells}),
      verdicts=report.judge(
        CLAIMS,
        rows,
        scale=scale.name,
        hits=sweep_rows.hits(cells, store.folder),
      ),
      minutes=minutes,
    ),
    store.folder,
    draw=lambda path: figures.draw(path, [panel]),
    publish=FLAGS.publish,
  )


if __name__ == "__main__":
  flags.launch(main)
