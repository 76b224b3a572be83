"""How many subnets a run trains, and for how long each: table 1, corrected.

  python -m experiments.subnet_counts --scale=paper

Prints and writes, for sequential k-dropout, k, the epochs that a subnet is
trained for, and the number of subnets P = T m / k (the paper's P = k m / T has
the wrong dimension); and for pooled k-dropout, how many distinct subnets of a
pool the draws really reach, counted over the run. At paper scale about half a
minute of one CPU core: the counts of the sequential table equal table 1, and
a pool of a million at m = 1 trains 28,677 subnets of the 29,100 that it could
at most. Each flag overrides its scale.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import tqdm
from absl import flags as absl_flags

import kdropout_jax as kd
from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.k_dropout import subnet_tables
from experiments.report import figures
from experiments.run import config as config_lib

# num_train, batch_size, epochs; m; k; pool sizes.
_SCALES = {
  "paper": (
    (50_000, 512, 300),
    (1, 8, 512),
    (1, 5, 15, 50, 97, 485, 970, 2425, 4850, 9700, 29_100),
    (1, 10, 20, 50, 200, 1000, 50_000, 1_000_000),
  ),
  "cpu": (
    (5_120, 128, 60),
    (1, 8, 32, 128),
    (1, 2, 8, 40, 80, 200, 400, 800, 2400),
    (1, 10, 20, 50, 200, 1000, 50_000),
  ),
  "smoke": ((640, 64, 4), (1, 8), (1, 4, 40), (1, 10, 1000)),
}

absl_flags.DEFINE_list("m", None, "subnets a step, m")
absl_flags.DEFINE_list("k", None, "steps a window, k (sequential)")
absl_flags.DEFINE_list("pool_sizes", None, "pools (pooled)")
absl_flags.DEFINE_integer("num_train", None, "training images")
absl_flags.DEFINE_integer("batch_size", None, "rows of a batch")
absl_flags.DEFINE_integer("epochs", None, "epochs of the run")
absl_flags.DEFINE_integer("seed", 0, "seed of the pooled draws")
experiment_flags.define_results("paper")
experiment_flags.define_out()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  config_lib.check_choice("scale", FLAGS.scale, _SCALES)
  lengths, *grids = _SCALES[FLAGS.scale]
  given = (FLAGS.num_train, FLAGS.batch_size, FLAGS.epochs)
  run = subnet_tables.Run(
    *(old if new is None else new for old, new in zip(lengths, given))
  )
  ms, ks, pools = (
    subnet_tables.parse(name, FLAGS[name].value, grid)
    for name, grid in zip(("m", "k", "pool_sizes"), grids)
  )
  cells = [(pool_size, m) for m in ms for pool_size in pools]
  numbers = {
    "run": dataclasses.asdict(run) | {"num_steps": run.num_steps},
    "seed": FLAGS.seed,
    "sequential": [
      subnet_tables.sequential_row(run, k, m) for m in ms for k in ks
    ],
    "pooled": [
      subnet_tables.pooled_row(run, pool_size, m, FLAGS.seed)
      for pool_size, m in tqdm.tqdm(
        cells, desc="pools", unit="pool", disable=not FLAGS.progress
      )
    ],
  }
  experiment.leave(
    "subnet_counts",
    functools.partial(page, run),
    numbers,
    figures.drawing([subnet_tables.panel(numbers["pooled"])]),
  )


def page(run: subnet_tables.Run, numbers: Mapping[str, Any]) -> str:
  """Returns the page over the numbers."""
  standard = kd.Standard().num_subnets(run.num_steps, run.batch_size)
  return (
    f"`python -m experiments.subnet_counts --scale={numbers['scale']}` (flags"
    " that override the scale are in the JSON), jax"
    f" {numbers['versions']['jax']}\n\n"
    f"T = {run.num_steps:,} steps: {run.epochs} epochs of"
    f" {run.steps_per_epoch} batches of {run.batch_size}. Standard dropout"
    f" trains {standard:,} subnets.\n\n"
    f"{subnet_tables.page(numbers['sequential'], numbers['pooled'])}\n"
  )


if __name__ == "__main__":
  experiment.launch(main)
