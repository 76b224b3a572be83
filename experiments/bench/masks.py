"""How much cheaper reused masks are: sampling, whole steps, memory.

  uv run python -m experiments.bench_masks

Against what a user runs today: `jax.random.bernoulli` of the full (batch,
width), and a training step with `flax.linen.Dropout` (MLP of two hidden
layers, Adam). Each candidate is one compiled scan; all take turns in one
process. About eight minutes of two CPU cores; prints the table and writes
bench_masks.{md,json} under --out. Expected on two cores at (512, 2048), T = 8:
sampling over 15 times cheaper (8 with exact counts), the step a little faster
than Flax's; see docs/results/masks.md.
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import tqdm
from absl import flags

import kdropout_jax as kd
from experiments.bench import flags as bench_flags
from experiments.bench import steps as steps_lib
from experiments.bench import timing
from experiments.report import tables
from experiments.run import flags as run_flags
from kdropout_jax import config as kd_config
from kdropout_jax.training import files

FLAGS = bench_flags.of_results("runs/bench_masks")


def _integer(name: str, default: int, help_text: str) -> flags.FlagHolder[int]:
  return flags.DEFINE_integer(name, default, help_text, 1, flag_values=FLAGS)


_BATCH = _integer("batch_size", 512, "Rows B of a batch.")
_WIDTH = _integer("width", 2048, "Units W of a hidden layer.")
_INPUTS = _integer("inputs", 3072, "Features of an input.")
_STEPS = _integer("steps", 50, "Steps of one compiled scan.")
_ROUNDS = _integer("rounds", 5, "Timed rounds.")

_BASELINE = "flax"
_RATE = 0.5


def candidates(batch_size):
  """Returns {name: (schedule, pattern)}; the baseline is not among them."""
  patterns = {
    "Bernoulli": kd.Bernoulli,
    "ExactCount": kd.ExactCount,
    "Blocks(32)": functools.partial(kd.Blocks, block_size=32),
  }
  found: dict[str, tuple[kd_config.Schedule, Any]] = {
    f"T={m} {name}": (kd.Sequential(k=97, m=m), pattern)
    for m in (1, 8)
    if m <= batch_size
    for name, pattern in patterns.items()
  }
  for name in ("Bernoulli", "ExactCount"):
    found[f"Standard {name}"] = (kd.Standard(), patterns[name])
  return found


def sampling_program(schedule, pattern, batch_size, width, num_steps):
  """Returns a compiled scan that samples the masks of `num_steps` steps."""

  def sample(step, key):
    if schedule is None:
      key = jax.random.fold_in(key, step)
      return jax.random.bernoulli(key, 1 - _RATE, (batch_size, width))
    ids = kd.subnet_ids(step, key, schedule, batch_size)
    return kd.subnet_masks(key, ids, width, pattern(_RATE)).keep

  @jax.jit
  def run(key):
    def body(carry, _):
      step, _ = carry
      # Behind the barrier and in the carry, so that no step is optimised away.
      masks = jax.lax.optimization_barrier(sample(step, key))
      return (step + 1, masks), None

    first = (jnp.int32(0), jnp.zeros_like(sample(0, key)))
    return jax.lax.scan(body, first, length=num_steps)[0]

  return functools.partial(run, jax.random.key(0))


def step_program(
  schedule, pattern, net: steps_lib.Network, num_steps: int
) -> timing.Program:
  """Returns a compiled scan of whole training steps; no schedule: Flax's."""
  if schedule is None:
    return steps_lib.conventional(net, num_steps)
  return steps_lib.masked(
    net,
    num_steps,
    pattern=pattern,
    make_schedule=lambda net: schedule,
    implementation="dense",  # Masks alone, no product that skips.
  )


def measure(batch_size, width, inputs, num_steps, rounds):
  """Returns one row of figures a candidate, the baseline first."""
  settings = {_BASELINE: (None, None), **candidates(batch_size)}
  net = steps_lib.Network(
    "masks", width, 2, True, inputs=inputs, batch_size=batch_size, rate=_RATE
  )
  sampling = {
    name: sampling_program(schedule, pattern, batch_size, width, num_steps)
    for name, (schedule, pattern) in settings.items()
  }
  steps = {
    name: step_program(schedule, pattern, net, num_steps)
    for name, (schedule, pattern) in settings.items()
  }
  with tqdm.tqdm(total=2 * rounds, desc="rounds", unit="round") as bar:

    def advance(done: int) -> None:
      del done
      bar.update()

    sampled = timing.interleave(sampling, rounds, advance)
    stepped = timing.interleave(steps, rounds, advance)
  return [
    {
      "candidate": name,
      "sampling_us": sampled[name].median / num_steps * 1e6,
      "sampling_speedup": sampled[name].speedup_over(sampled[_BASELINE]),
      "step_ms": stepped[name].median / num_steps * 1e3,
      "step_speedup": stepped[name].speedup_over(stepped[_BASELINE]),
      "temp_mib": steps[name].temp_bytes / 2**20,
    }
    for name in settings
  ]


def table(rows) -> str:
  """Formats the rows as a Markdown table; ratios are medians [low, high]."""
  return tables.text(
    (
      *("masks", "sampling, us a step", "times cheaper"),
      *("step, ms", "times faster", "temporaries, MiB"),
    ),
    [
      (
        row["candidate"],
        f"{row['sampling_us']:.0f}",
        "{:.1f} [{:.1f}, {:.1f}]".format(*row["sampling_speedup"]),
        f"{row['step_ms']:.1f}",
        "{:.2f} [{:.2f}, {:.2f}]".format(*row["step_speedup"]),
        f"{row['temp_mib']:.1f}",
      )
      for row in rows
    ],
  )


def main(argv):
  """Measures, prints and writes the table."""
  del argv
  rows = measure(
    _BATCH.value, _WIDTH.value, _INPUTS.value, _STEPS.value, _ROUNDS.value
  )
  out = pathlib.Path(FLAGS.out)
  out.mkdir(parents=True, exist_ok=True)
  heading = (
    f"batch {_BATCH.value}, width {_WIDTH.value}, inputs {_INPUTS.value}, rate"
    f" {_RATE}; {_STEPS.value} steps a scan, {_ROUNDS.value} rounds;"
    f" {jax.devices()[0].device_kind}, jax {jax.__version__}"
  )
  print(f"{heading}\n\n{table(rows)}")
  files.write_atomically(
    out / "bench_masks.md", f"{heading}\n\n{table(rows)}\n"
  )
  tables.write_json(out / "bench_masks.json", rows)
  bench_flags.publish(FLAGS, ("bench_masks.md", "bench_masks.json"))
  print(f"\nwritten to {out}/bench_masks.md and bench_masks.json")


if __name__ == "__main__":
  run_flags.launch(main, FLAGS)
