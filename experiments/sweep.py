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

from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.cells import sweeps
from experiments.gyro.grid import cells as gyro_grid
from experiments.gyro.grid import report as gyro_report
from experiments.k_dropout import grids
from experiments.k_dropout import sizes
from experiments.k_dropout import sweep
from experiments.report import study
from experiments.run import config as config_lib
from experiments.run import flags

_GYRO = "gyro"
_GRIDS = (*grids.GRIDS, _GYRO)

absl_flags.DEFINE_string("grid", "sequential", "grid: " + ", ".join(_GRIDS))
experiment_flags.define()
experiment_flags.define_sharing()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  scale = experiment_flags.scale(sizes.SCALES)
  cells = _cells(scale)
  store = experiment_flags.store(scale.max_members)

  def report() -> study.Report:
    if FLAGS.grid == _GYRO:
      return gyro_report.report(cells, store.folder, scale.name)
    return sweep.report(FLAGS.grid, cells, store.folder, scale)

  experiment.share_cells(store, FLAGS.grid, cells, report)


def _cells(scale: sizes.Scale) -> sweeps.Cells:
  """Returns the cells of the grid that the flags say."""
  config_lib.check_choice("grid", FLAGS.grid, _GRIDS)
  if FLAGS.grid != _GYRO:
    return grids.get(FLAGS.grid, scale, FLAGS.depth)
  experiment_flags.refuse_depth()
  return gyro_grid.cells(scale.name, experiment_flags.num_seeds())


if __name__ == "__main__":
  flags.launch(main)
