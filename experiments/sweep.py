"""Sweeps of the k-dropout paper: figure 1, section 3.1, and their like.

  python -m experiments.sweep --grid=sequential --scale=cpu

Grids: sequential (k x m), pooled (pool size x m), rate, transition (twice the
steps), deep (three hidden layers), restarts (figure 2) and gyro (the gyro
dropout paper's figure 1 and tables 1, 2 and 6; about 40 minutes). At
``--scale=cpu`` (real CIFAR-10, 16 x 16) sequential and pooled together take
about 65 minutes of two cores, at ``--scale=smoke`` (digits) one. ``--dry_run``
prints cells, steps and estimated time. The same command skips what is finished
and continues what was stopped. Processes may share a list, as in Slurm's

  #SBATCH --array=0-7
  python -m experiments.sweep --scale=paper --shard=$SLURM_ARRAY_TASK_ID/8

and the same command without ``--shard`` then writes table.md, figure, numbers
and verdicts.
"""

import pathlib
import time

from absl import flags as absl_flags

from experiments.shared import flags
from experiments.shared import scales
from experiments.shared.reporting import figures
from experiments.shared.reporting import report
from experiments.shared.results import gyro_report
from experiments.shared.results import sweep_report
from experiments.shared.sweeping import estimates
from experiments.shared.sweeping import experiment_flags
from experiments.shared.sweeping import grids
from experiments.shared.sweeping import gyro_grid
from experiments.shared.sweeping import sweep_rows
from experiments.shared.sweeping import sweeps

absl_flags.DEFINE_string(
  "grid", "sequential", "grid: " + ", ".join(grids.GRIDS)
)
experiment_flags.define()
experiment_flags.define_sharing()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  scale = experiment_flags.scale()
  cells = _cells(scale)
  folder = experiment_flags.folder()
  max_members = FLAGS.max_members or scale.max_members
  if FLAGS.dry_run:
    print(estimates.describe(cells, folder, max_members, FLAGS.shard))
    return
  began = time.perf_counter()
  sweeps.run(
    cells,
    folder,
    max_members=max_members,
    which=FLAGS.shard,
    data_dir=FLAGS.data_dir,
    progress=FLAGS.progress,
  )
  minutes = report.add_minutes(folder, FLAGS.grid, time.perf_counter() - began)
  left = len(sweeps.unfinished(cells, folder))
  if FLAGS.shard != "0/1":
    print(f"shard {FLAGS.shard} is done; {left} of {len(cells)} cells are left")
    return
  if FLAGS.grid == "gyro":
    page, panels = gyro_report.page(cells, folder, scale.name, minutes)
    report.write(
      page,
      folder,
      draw=lambda path: figures.draw(path, panels, columns=2),
      publish=FLAGS.publish,
    )
  else:
    write(cells, folder, scale, minutes)


def _cells(scale: scales.Scale) -> sweeps.Cells:
  """Returns the cells of the grid that the flags say."""
  if FLAGS.grid != "gyro":
    return grids.get(FLAGS.grid, scale, FLAGS.depth)
  experiment_flags.refuse_depth()
  return gyro_grid.cells(scale, FLAGS.num_seeds)


def write(
  cells: sweeps.Cells,
  folder: pathlib.Path,
  scale: scales.Scale,
  minutes: float,
) -> None:
  """Writes the report of a finished grid of the k-dropout paper."""
  grid, depth = FLAGS.grid, cells[0].num_hidden or 0
  rows = sweep_rows.rows(cells, folder)
  hits = sweep_rows.hits(cells, folder)
  judged = rows
  if grid == "pooled":
    # Sequential cells, where they are there, for the comparison at equal P.
    partners = grids.get("sequential", scale, FLAGS.depth)
    others = sweep_rows.rows(partners, folder)
    judged = rows + [r for r in others if r["method"] == "sequential"]
  header, table = sweep_report.table(grid, rows)
  panels = sweep_report.panels(grid, rows, scale, depth)
  derived = sweep_rows.derived(judged) if grid in sweep_report.CLAIMS else []
  report.write(
    report.Report(
      name=grid,
      title=f"Sweep: {grid}",
      scale=scale.name,
      setting=report.describe(cells[0]),
      header=header,
      table=table,
      numbers={"rows": rows, "derived": derived},
      seeds=sorted({cell.seed for cell in cells}),
      verdicts=report.judge(
        sweep_report.CLAIMS.get(grid, ()),
        [*judged, *derived],
        scale=scale.name,
        hits=hits,
      ),
      notes=sweep_report.notes(rows, grid),
      minutes=minutes,
    ),
    folder,
    draw=lambda path: sweep_report.draw(path, panels),
    publish=FLAGS.publish,
  )


if __name__ == "__main__":
  flags.launch(main)
