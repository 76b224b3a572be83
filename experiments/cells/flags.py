"""Flags that all papers' experiments share, and what follows from them."""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence

from absl import flags as absl_flags

from experiments.cells import estimates
from experiments.cells import sizes
from experiments.cells import sweeps
from experiments.run import config as config_lib
from experiments.run import flags
from experiments.run import footprint

FLAGS = absl_flags.FLAGS


def define_results(scale: str = "cpu") -> None:
  """Defines the size and where results go; names that are there already stay.

  Args:
    scale: the default.
  """
  flags.define_machine()
  if "scale" not in FLAGS:
    absl_flags.DEFINE_string("scale", scale, "paper, cpu, or smoke")
  if "publish" not in FLAGS:
    absl_flags.DEFINE_string(
      "publish", None, "a second folder for table, figure and numbers"
    )


def define_out() -> None:
  """Defines ``--out``, which commands in print have in place of --workdir."""
  if "out" not in FLAGS:
    absl_flags.DEFINE_alias("out", "workdir")


def define() -> None:
  """Defines the flags of an experiment; names that are there already stay."""
  define_results()
  flags.define_seeds()
  if "max_members" in FLAGS:
    return
  absl_flags.DEFINE_integer(
    "max_members", None, "cells of one program, at most; default the scale's"
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
    absl_flags.DEFINE_list(
      "cells",
      None,
      "names of cells, or patterns of them (*, ?), as --dry_run prints them:"
      " train these alone",
    )


def scale[S: sizes.Size](scales: Mapping[str, S]) -> S:
  """Returns the one of `scales` that the flags say.

  Raises:
    ValueError: there is no such scale, or no seed.
  """
  config_lib.check_choice("scale", FLAGS.scale, scales)
  chosen, seeds = scales[FLAGS.scale], num_seeds()
  if seeds is None:
    return chosen
  own = {n: seeds for n in ("seeds", "deep_seeds") if hasattr(chosen, n)}
  return dataclasses.replace(chosen, **own)


def chosen(cells: sweeps.Cells, names: Sequence[str] | None) -> sweeps.Cells:
  """Returns the cells that one of the patterns names; all for None.

  Raises:
    ValueError: a pattern that names none.
  """
  if names is None:
    return cells
  known = [estimates.name(cell) for cell in cells]
  for pattern in names:
    if not fnmatch.filter(known, pattern):
      raise ValueError(
        f"cells must name some of this list, which --dry_run prints, got"
        f" {pattern!r}"
      )
  return [
    cell
    for cell, name in zip(cells, known)
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in names)
  ]


def num_seeds() -> int | None:
  """Returns ``--seeds``; None: the scale's own.

  Raises:
    ValueError: there is none.
  """
  count = FLAGS.seeds
  if count is not None and count < 1:
    raise ValueError(f"seeds must be >= 1, got {count}")
  if count is not None:
    footprint.check_cells("seeds", count)
  return count


def refuse_depth() -> None:
  """Raises a ValueError for ``--depth`` where each model has its own."""
  if FLAGS.depth is not None:
    raise ValueError(
      "depth must be left alone here, where each model has its own, got"
      f" {FLAGS.depth}"
    )
