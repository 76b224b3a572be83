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
import json
import pathlib

import tqdm
from absl import flags as absl_flags

import kdropout_jax as kd
from experiments.k_dropout import subnet_tables
from experiments.report import passport
from experiments.run import flags

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

_SCALE = absl_flags.DEFINE_enum("scale", "paper", list(_SCALES), "The setting.")
_NUM_TRAIN = absl_flags.DEFINE_integer("num_train", None, "Training images.")
_BATCH_SIZE = absl_flags.DEFINE_integer("batch_size", None, "Rows of a batch.")
_EPOCHS = absl_flags.DEFINE_integer("epochs", None, "Epochs of the run.")
_M = absl_flags.DEFINE_list("m", None, "Subnets a step, m.")
_K = absl_flags.DEFINE_list("k", None, "Steps a window, k (sequential).")
_POOLS = absl_flags.DEFINE_list("pool_sizes", None, "Pools (pooled).")
_SEED = absl_flags.DEFINE_integer("seed", 0, "Seed of the pooled draws.")
_OUT = absl_flags.DEFINE_string("out", "runs/subnet_counts", "Output folder.")


def main(argv: list[str]) -> None:
  del argv
  lengths, *grids = _SCALES[_SCALE.value]
  given = (_NUM_TRAIN.value, _BATCH_SIZE.value, _EPOCHS.value)
  run = subnet_tables.Run(
    *(old if new is None else new for old, new in zip(lengths, given))
  )
  ms, ks, pools = (
    subnet_tables.parse(flag.name, flag.value, grid)
    for flag, grid in zip((_M, _K, _POOLS), grids)
  )
  sequential = [subnet_tables.sequential_row(run, k, m) for m in ms for k in ks]
  cells = [(pool_size, m) for m in ms for pool_size in pools]
  pooled = [
    subnet_tables.pooled_row(run, pool_size, m, _SEED.value)
    for pool_size, m in tqdm.tqdm(cells, desc="pools", unit="pool")
  ]
  _write(run, sequential, pooled)


def _write(run: subnet_tables.Run, sequential, pooled) -> None:
  standard = kd.Standard().num_subnets(run.num_steps, run.batch_size)
  origin = passport.of_this_machine()
  text = (
    f"`python -m experiments.subnet_counts --scale={_SCALE.value}` (flags that"
    f" override the scale are in the JSON), jax {origin['versions']['jax']}\n\n"
    f"T = {run.num_steps:,} steps: {run.epochs} epochs of"
    f" {run.steps_per_epoch} batches of {run.batch_size}. Standard dropout"
    f" trains {standard:,} subnets.\n\n"
    f"{subnet_tables.markdown(sequential, pooled)}"
  )
  print(text)
  out = pathlib.Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  (out / "subnet_counts.md").write_text(f"{text}\n")
  result = {
    "run": dataclasses.asdict(run) | {"num_steps": run.num_steps},
    "scale": _SCALE.value,
    "seed": _SEED.value,
    "sequential": sequential,
    "pooled": pooled,
    **origin,
  }
  (out / "subnet_counts.json").write_text(json.dumps(result, indent=1) + "\n")
  subnet_tables.draw(out / "subnet_counts.png", pooled)
  print(f"\nwritten to {out}/subnet_counts.md, .json and .png")


if __name__ == "__main__":
  flags.launch(main)
