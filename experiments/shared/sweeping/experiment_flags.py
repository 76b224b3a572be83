"""Flags that all experiments of the paper share, and what follows from them."""

import dataclasses
import pathlib

from absl import flags as absl_flags

from experiments.shared import flags
from experiments.shared import scales
from experiments.shared.sweeping import sweeps

FLAGS = absl_flags.FLAGS


def define() -> None:
  """Defines the flags of an experiment; names that are there already stay."""
  flags.define_machine()
  if "scale" not in FLAGS:
    absl_flags.DEFINE_string("scale", "cpu", "paper, cpu, or smoke")
  if "publish" in FLAGS:
    return
  absl_flags.DEFINE_string(
    "publish", None, "a second folder for table, figure and numbers"
  )
  absl_flags.DEFINE_integer(
    "max_members", None, "cells of one program, at most; default the scale's"
  )
  absl_flags.DEFINE_integer(
    "num_seeds", None, "seeds of a cell; default the scale's"
  )
  absl_flags.DEFINE_integer(
    "depth", None, "hidden layers, 2 (the paper's text) or 3 (its code)"
  )


def define_sharing() -> None:
  """Defines the flags of a list of cells that processes may share."""
  if "shard" not in FLAGS:
    absl_flags.DEFINE_string(
      "shard", "0/1", "i/n: train the i-th of n parts alone"
    )
    absl_flags.DEFINE_bool(
      "dry_run", False, "print cells, steps and time; no run"
    )


def scale() -> scales.Scale:
  """Returns the scale that the flags say."""
  chosen = scales.get(FLAGS.scale)
  if FLAGS.num_seeds is None:
    return chosen
  if FLAGS.num_seeds < 1:
    raise ValueError(f"num_seeds must be >= 1, got {FLAGS.num_seeds}")
  return dataclasses.replace(
    chosen, seeds=FLAGS.num_seeds, deep_seeds=FLAGS.num_seeds
  )


def refuse_depth() -> None:
  """Raises a ValueError for ``--depth`` where each model has its own."""
  if FLAGS.depth is not None:
    raise ValueError(
      "depth must be left alone here, where each model has its own, got"
      f" {FLAGS.depth}"
    )


def folder() -> pathlib.Path:
  """Returns the folder of the cells, which all experiments share."""
  return pathlib.Path(FLAGS.workdir or f"runs/k-dropout-{FLAGS.scale}")


def store() -> sweeps.Store:
  """Returns the folder of the cells with what fills it."""
  return sweeps.Store(
    folder(),
    FLAGS.max_members or scale().max_members,
    FLAGS.data_dir,
    FLAGS.progress,
  )
