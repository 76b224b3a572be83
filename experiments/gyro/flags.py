"""Flags of the gyro dropout paper's analysis, and what follows from them."""

from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.gyro import analysed

FLAGS = absl_flags.FLAGS


def define() -> None:
  """Defines the flags; names that are there already stay."""
  experiment_flags.define()
  if "rows" not in FLAGS:
    absl_flags.DEFINE_list(
      "rows", None, "labels of the scale's rows; default all"
    )


def scale() -> analysed.Scale:
  """Returns the scale that the flags say.

  Raises:
    ValueError: a wrong scale, row or number of seeds, or a depth.
  """
  experiment_flags.refuse_depth()
  chosen = experiment_flags.scale(analysed.SCALES)
  return analysed.choose(chosen, FLAGS.rows)


def store() -> experiment.Store:
  """Returns the folder of the cells with what fills it."""
  return experiment.store(scale().max_members, "gyro")
