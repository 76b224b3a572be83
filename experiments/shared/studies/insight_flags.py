"""Flags of the gyro dropout paper's analysis, and what follows from them."""

import pathlib

from absl import flags as absl_flags

from experiments.shared.studies import insight_cells
from experiments.shared.sweeping import experiment_flags
from experiments.shared.sweeping import sweeps

FLAGS = absl_flags.FLAGS


def define() -> None:
  """Defines the flags; names that are there already stay."""
  experiment_flags.define()
  if "rows" not in FLAGS:
    absl_flags.DEFINE_list(
      "rows", None, "labels of the scale's rows; default all"
    )


def scale() -> insight_cells.Scale:
  """Returns the scale that the flags say.

  Raises:
    ValueError: a wrong scale, row or number of seeds, or a depth.
  """
  experiment_flags.refuse_depth()
  return insight_cells.get(FLAGS.scale, FLAGS.num_seeds, FLAGS.rows)


def store() -> sweeps.Store:
  """Returns the folder of the cells with what fills it."""
  return sweeps.Store(
    pathlib.Path(FLAGS.workdir or f"runs/gyro-{FLAGS.scale}"),
    FLAGS.max_members or scale().max_members,
    FLAGS.data_dir,
    FLAGS.progress,
  )
