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
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tqdm
from absl import app
from absl import flags
from flax import linen as nn

import kdropout_jax as kd
from experiments.bench import timing
from experiments.report import start

# Of its own, so that one process (of tests) can import several binaries.
FLAGS = flags.FlagValues()


def _integer(name: str, default: int, help_text: str) -> flags.FlagHolder[int]:
  return flags.DEFINE_integer(name, default, help_text, 1, flag_values=FLAGS)


_BATCH = _integer("batch_size", 512, "Rows B of a batch.")
_WIDTH = _integer("width", 2048, "Units W of a hidden layer.")
_INPUTS = _integer("inputs", 3072, "Features of an input.")
_STEPS = _integer("steps", 50, "Steps of one compiled scan.")
_ROUNDS = _integer("rounds", 5, "Timed rounds.")
_OUT = flags.DEFINE_string(
  "out", "runs/bench_masks", "Folder for the tables.", flag_values=FLAGS
)

_BASELINE = "flax"
_RATE = 0.5


class _Mlp(nn.Module):
  """Two hidden layers of equal width; `dropout` is called after each."""

  width: int
  dropout: Callable[..., nn.Module]

  @nn.compact
  def __call__(self, x, **kwargs):
    for i in range(2):
      x = nn.relu(nn.Dense(self.width, name=f"dense_{i}")(x))
      x = self.dropout(_RATE, deterministic=False, name=f"drop_{i}")(
        x, **kwargs
      )
    return nn.Dense(10, name="logits")(x)


def candidates(batch_size):
  """Returns {name: (schedule, pattern)}; the baseline is not among them."""
  patterns = {
    "Bernoulli": kd.Bernoulli,
    "ExactCount": kd.ExactCount,
    "Blocks(32)": functools.partial(kd.Blocks, block_size=32),
  }
  found: dict[str, tuple[kd.config.Schedule, Any]] = {
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


class StepProgram:
  """A compiled scan of whole training steps, with its state."""

  def __init__(self, schedule, pattern, batch_size, width, inputs, num_steps):
    dropout = nn.Dropout
    if schedule is not None:
      dropout = functools.partial(kd.linen.Dropout, pattern=pattern)
    model = _Mlp(width, dropout)
    x = jax.random.normal(jax.random.key(1), (batch_size, inputs))
    labels = jax.random.randint(jax.random.key(2), (batch_size,), 0, 10)
    optimizer = optax.adam(5e-4)
    key = jax.random.key(3)
    kwargs = {}
    if schedule is not None:
      kwargs["subnets"] = kd.subnet_ids(0, key, schedule, batch_size)
    rngs = {"params": key, "dropout": key, "subnets": key}
    params = model.init(rngs, x, **kwargs)

    def loss_fn(params, step):
      if schedule is None:
        rngs = {"dropout": jax.random.fold_in(key, step)}
        logits: Any = model.apply(params, x, rngs=rngs)
      else:
        ids = kd.subnet_ids(step, key, schedule, batch_size)
        logits = model.apply(params, x, subnets=ids, rngs={"subnets": key})
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses.mean()

    def train_step(state, _):
      step, params, opt_state = state
      grads = jax.grad(loss_fn)(params, step)
      updates, opt_state = optimizer.update(grads, opt_state, params)
      return (step + 1, optax.apply_updates(params, updates), opt_state), None

    self._state = (jnp.int32(0), params, optimizer.init(params))
    self._run = (
      jax.jit(
        lambda state: jax.lax.scan(train_step, state, length=num_steps)[0],
        donate_argnums=0,
      )
      .lower(self._state)
      .compile()
    )

  def __call__(self):
    self._state = self._run(self._state)
    return self._state

  @property
  def temp_bytes(self) -> int:
    """Bytes of temporaries that the compiled program allocates."""
    analysis = self._run.memory_analysis()
    assert analysis is not None  # CPU and GPU both report it.
    return analysis.temp_size_in_bytes


def measure(batch_size, width, inputs, num_steps, rounds):
  """Returns one row of figures a candidate, the baseline first."""
  settings = {_BASELINE: (None, None), **candidates(batch_size)}
  sampling = {
    name: sampling_program(schedule, pattern, batch_size, width, num_steps)
    for name, (schedule, pattern) in settings.items()
  }
  steps = {
    name: StepProgram(schedule, pattern, batch_size, width, inputs, num_steps)
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
  lines = [
    "| masks | sampling, us a step | times cheaper | step, ms |"
    " times faster | temporaries, MiB |",
    "|---|---|---|---|---|---|",
  ]
  for row in rows:
    sampling = "{:.1f} [{:.1f}, {:.1f}]".format(*row["sampling_speedup"])
    step = "{:.2f} [{:.2f}, {:.2f}]".format(*row["step_speedup"])
    lines.append(
      f"| {row['candidate']} | {row['sampling_us']:.0f} | {sampling} |"
      f" {row['step_ms']:.1f} | {step} | {row['temp_mib']:.1f} |"
    )
  return "\n".join(lines)


def main(argv):
  """Measures, prints and writes the table."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  rows = measure(
    _BATCH.value, _WIDTH.value, _INPUTS.value, _STEPS.value, _ROUNDS.value
  )
  out = pathlib.Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  heading = (
    f"batch {_BATCH.value}, width {_WIDTH.value}, inputs {_INPUTS.value}, rate"
    f" {_RATE}; {_STEPS.value} steps a scan, {_ROUNDS.value} rounds;"
    f" {jax.devices()[0].device_kind}, jax {jax.__version__}"
  )
  print(f"{heading}\n\n{table(rows)}")
  (out / "bench_masks.md").write_text(f"{heading}\n\n{table(rows)}\n")
  (out / "bench_masks.json").write_text(json.dumps(rows, indent=1))
  print(f"\nwritten to {out}/bench_masks.md and bench_masks.json")


if __name__ == "__main__":
  flags.FLAGS.append_flag_values(FLAGS)
  FLAGS.mark_as_parsed()
  start.run(main)
