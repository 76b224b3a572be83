"""Selected settings over several seeds, as points: figure 2.

  python -m experiments.restarts --scale=cpu

About 3 minutes of two cores at the cpu scale, where sweeps have not trained
the same cells before. Expected: short windows and pools lie among the points
of standard dropout, all of them above no dropout.
"""

import time

from absl import flags as absl_flags

from experiments.cells import flags as experiment_flags
from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.k_dropout import claims
from experiments.k_dropout import grids
from experiments.k_dropout import paper
from experiments.k_dropout import sizes
from experiments.k_dropout import sweep
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import flags

experiment_flags.define()

FLAGS = absl_flags.FLAGS

CLAIMS = ("pool_50_is_close", "every_pool_helps", "sixty_subnets_suffice")


def main(argv: list[str]) -> None:
  del argv
  began = time.perf_counter()
  scale = experiment_flags.scale(sizes.SCALES)
  store = experiment_flags.store(scale.max_members)
  depth = FLAGS.depth or 2
  cells = grids.restarts(scale, depth)
  store.results(cells)
  minutes = study.add_minutes(
    store.folder, "restarts", time.perf_counter() - began
  )
  write(cells, store, scale, depth, minutes)


def write(
  cells: sweeps.Cells, store: sweeps.Store, scale, depth: int, minutes: float
) -> None:
  """Writes the report."""
  rows = cell_rows.rows(cells, store.folder)
  groups = rows_lib.group(rows, "method", "k", "pool_size", "m")
  points = {
    f"{same[0]['method']} {sweep.label(same[0])}".strip(): [
      row["accuracy"] for row in same
    ]
    for same in groups.values()
  }
  with_paper = scale.name == "paper" and depth == 3
  panel = figures.Panel(
    title="one point a run",
    dots=points,
    grey_dots={
      name: paper.FIGURE_2[name]
      for name in points
      if with_paper and name in paper.FIGURE_2
    },
  )
  study.write(
    study.Report(
      name="restarts",
      title="Selected settings, several seeds",
      scale=scale.name,
      setting=study.describe(cells[0]),
      header=("setting", "test accuracy", "each run"),
      table=[
        (
          name,
          study.points([v / 100 for v in values]),
          ", ".join(f"{v:.2f}" for v in sorted(values)),
        )
        for name, values in points.items()
      ],
      numbers={"points": points, "rows": rows},
      seeds=sorted({cell.seed for cell in cells}),
      verdicts=study.judge(
        claims.named(*CLAIMS),
        rows,
        scale=scale.name,
        hits=cell_rows.hits(cells, store.folder),
      ),
      minutes=minutes,
    ),
    store.folder,
    draw=lambda path: figures.draw(path, [panel]),
    publish=FLAGS.publish,
  )


if __name__ == "__main__":
  flags.launch(main)
