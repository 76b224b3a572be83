"""Sweeps of the k-dropout paper: figure 1, section 3.1, and one's own.

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
and verdicts. ``--cells='once sequential *'`` takes the cells of such names
alone, which ``--dry_run`` prints; ``--arrays=FILE.npz`` what ``prepare_data
--export=FILE.npz`` wrote, on a host without TFDS. A sweep of your own crosses
any fields of a run, which are flags of the same names; the flags that you give
hold for all of its runs:

  python -m experiments.sweep --grid=custom --vary=k=10,97 --vary=m=1,8
      --seeds=3

Lists are spelt 64+128, and none is what a field has that is not given. Runs
whose schedules differ in numbers alone (k, a pool's size) or in the learning
rate train in one program, up to ``--max_members`` of them.
"""

import dataclasses
import functools
import pathlib

from absl import flags as absl_flags

from experiments.cells import custom
from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.cells import sweeps
from experiments.gyro.grid import cells as gyro_grid
from experiments.gyro.grid import report as gyro_report
from experiments.k_dropout import grids
from experiments.k_dropout import sizes
from experiments.k_dropout import sweep
from experiments.run import config as config_lib
from experiments.run import flags
from kdropout_jax.training import loop

_GYRO, _CUSTOM = "gyro", "custom"
_GRIDS = (*grids.GRIDS, _GYRO, _CUSTOM)
_MAX_MEMBERS = 16

absl_flags.DEFINE_enum("grid", "sequential", _GRIDS, "what is swept")
absl_flags.DEFINE_multi_string(
  "vary", [], "custom: field=value,value of a run; repeat the flag"
)
flags.define_config()
experiment_flags.define()
experiment_flags.define_sharing()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  if FLAGS.grid == _CUSTOM:
    _custom()
    return
  but = ("seeds", "precision")
  _refuse(["vary", *flags.given()], f"grid={_CUSTOM}", but=but)
  if FLAGS.grid == _GYRO:
    experiment_flags.refuse_depth()
    size = experiment_flags.scale(gyro_grid.SIZES)
    cells = gyro_grid.cells(size)
    report = functools.partial(gyro_report.report, cells, scale=size.name)
  else:
    size = experiment_flags.scale(sizes.SCALES)
    cells = grids.get(FLAGS.grid, size, FLAGS.depth)
    report = functools.partial(sweep.report, FLAGS.grid, cells, scale=size)
  cells = _chosen(cells)
  store = experiment.store(size.max_members)
  experiment.share_cells(
    store, FLAGS.grid, cells, lambda: report(folder=store.folder)
  )


def _chosen(cells: sweeps.Cells) -> sweeps.Cells:
  """Returns the cells of ``--cells``, in ``--precision``."""
  if "precision" in flags.given():
    precision = FLAGS.precision
    cells = [dataclasses.replace(c, precision=precision) for c in cells]
  return experiment_flags.chosen(cells, FLAGS.cells)


def _custom() -> None:
  _refuse(["scale", "depth"], "the grids of papers")
  varied = custom.parse(FLAGS.vary, flags.read)
  for name in set(varied) & set(flags.given()):
    raise ValueError(f"{name} must be varied or given, not both")
  is_given = "method" in flags.given()
  method = None if is_given else custom.implied_method(varied)
  own = {"method": method} if method else {}
  seeds = experiment_flags.num_seeds() or 1
  cells = custom.cells(
    custom.settings(varied, functools.partial(flags.run_values, **own)),
    functools.partial(flags.run_config, **own),
    range(FLAGS.seed, FLAGS.seed + seeds),
  )
  store = experiment.Store(
    pathlib.Path(FLAGS.workdir or f"runs/{_CUSTOM}"),
    FLAGS.max_members or _MAX_MEMBERS,
    FLAGS.data_dir,
    FLAGS.progress,
  )
  name = f"{_CUSTOM}-{config_lib.digest([c.identity() for c in cells])}"

  def share(chosen: sweeps.Cells) -> None:
    experiment.share_cells(
      store,
      name,
      chosen,
      lambda: custom.report(name, varied, chosen, store.folder),
      scale=_CUSTOM,
      label=custom.label(varied),
    )

  try:
    share(cells)
  except loop.NonFiniteLoss:
    # A rate that is too high is a finding: the others have their page.
    finished = [c for c in cells if sweeps.result(c, store.folder)]
    if finished and FLAGS["shard"].using_default_value:
      share(finished)
    raise


def _refuse(names: list[str], user: str, but: tuple[str, ...] = ()) -> None:
  """Raises a ValueError for a flag that is given and has no effect."""
  for name in names:
    if name not in but and not FLAGS[name].using_default_value:
      raise ValueError(f"{name} has no effect here: it is for {user}")


if __name__ == "__main__":
  experiment.launch(main)
