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

import functools

from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.gyro.grid import cells as gyro_grid
from experiments.gyro.grid import report as gyro_report
from experiments.k_dropout import grids
from experiments.k_dropout import sizes
from experiments.k_dropout import sweep
from experiments.run import config as config_lib

_GYRO = "gyro"
_GRIDS = (*grids.GRIDS, _GYRO)

absl_flags.DEFINE_string("grid", "sequential", "grid: " + ", ".join(_GRIDS))
experiment_flags.define()
experiment_flags.define_sharing()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  config_lib.check_choice("grid", FLAGS.grid, _GRIDS)
  if FLAGS.grid == _GYRO:
    experiment_flags.refuse_depth()
    size = experiment_flags.scale(gyro_grid.SIZES)
    cells = gyro_grid.cells(size)
    report = functools.partial(gyro_report.report, cells, scale=size.name)
  else:
    size = experiment_flags.scale(sizes.SCALES)
    cells = grids.get(FLAGS.grid, size, FLAGS.depth)
    report = functools.partial(sweep.report, FLAGS.grid, cells, scale=size)
  store = experiment_flags.store(size.max_members)
  experiment.share_cells(
    store, FLAGS.grid, cells, lambda: report(folder=store.folder)
  )


if __name__ == "__main__":
  experiment_flags.launch(main)
