"""What P devices send in a window of k steps, apart or in data parallel.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 \
    python -m experiments.exchange --out DIR

Compiles whole dispatches of the k-dropout network and counts their
collectives: messages and bytes that one device sends, and what a link of 100
Mbit/s takes for them on paper (bytes over bandwidth; latency is left out, no
link was timed). Two minutes of two CPU cores. Writes exchange.{md,json}.
Expected: disjoint subnets send about a hundredth of what data parallelism
does at k = 97, all of it at the window's end but the last layer's bias.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax

import kdropout_jax as kd
from experiments import models
from experiments.bench import exchange
from experiments.bench import flags as bench_flags
from experiments.report import passport
from experiments.report import tables
from experiments.run import flags as run_flags
from kdropout_jax.training import disjoint
from kdropout_jax.training import parallel
from kdropout_jax.training import program
from kdropout_jax.training import state
from kdropout_jax.training import step
from kdropout_jax.training import task as task_lib

FLAGS = bench_flags.of_results("runs/exchange")

PARTS = (2, 4, 8)
STEPS = 97
MEGABITS = 100
_BATCH, _INPUTS, _HIDDEN = 512, 3072, 2048


def rows(hidden: int = _HIDDEN) -> Iterator[dict[str, Any]]:
  """Yields what a device sends in a window, one row a way to train."""
  for parts in PARTS:
    if parts > jax.device_count():
      continue
    task, layout = _task(parts, hidden)
    ways = {
      "data parallelism": (step.run_steps, 1),
      "disjoint": (disjoint.DisjointSteps(STEPS, layout), 2),
      "disjoint, window_end": (
        disjoint.DisjointSteps(STEPS, layout, shared_parameters="window_end"),
        2,
      ),
    }
    for way, (run_steps, depth) in ways.items():
      found = exchange.collectives(_compiled(task, run_steps))
      sent = exchange.of_window(found, STEPS, parts, depth)
      seconds = exchange.seconds(sent["bytes"], MEGABITS)
      yield {"P": parts, "training": way, **sent, "seconds": seconds}


def table(found: list[dict[str, Any]]) -> str:
  """Returns the rows as a table."""
  header = (
    "P = devices", "training", "messages", "MB sent", f"s at {MEGABITS} Mbit/s",
  )  # fmt: skip
  lines = [
    (
      str(row["P"]),
      row["training"],
      f"{row['messages']:.0f}",
      f"{row['bytes'] / 1e6:,.1f}",
      f"{row['seconds']:,.1f}",
    )
    for row in found
  ]
  return tables.text(header, lines)


def _task(parts: int, hidden: int):
  rate = 1 - 1 / parts
  site = functools.partial(
    kd.linen.Dropout,
    rate,
    pattern=functools.partial(kd.ExactCount, partition=True),
  )
  options = models.Options(
    num_classes=10, dropout=site, hidden=hidden, num_hidden=2
  )
  model = models.build("mlp", options)
  task = task_lib.Task(
    model=model,
    make_optimizer=optax.adam,
    batch_size=_BATCH,
    num_train=_BATCH,
    num_devices=parts,
  )
  x = np.zeros((2, _INPUTS), np.float32)
  params = jax.jit(functools.partial(model.init, train=False))(
    jax.random.key(0), x
  )
  return task, kd.subnets.layout(model, params, x, train=True)


def _compiled(task: task_lib.Task, run_steps) -> str:
  """Returns the program of one dispatch of a window."""
  inputs = np.zeros((_BATCH, _INPUTS), np.float32)
  data = task_lib.Data(inputs, np.zeros(_BATCH, np.int32))  # pyright: ignore[reportArgumentType]
  schedule = kd.Sequential(k=STEPS, m=task.num_devices)
  members = state.stack_members([0], [5e-4], [schedule])
  devices = parallel.Devices(task.num_devices)
  run = program.Program(task, devices, run_steps)
  return run.run_text(members, data, 0, STEPS)


def main(argv) -> None:
  """Compiles, prints and writes."""
  del argv
  if jax.device_count() < min(PARTS):
    raise SystemExit("experiments.exchange needs 2 devices: see its docstring")
  found = list(rows())
  values = {"command": passport.command(), **passport.of_this_machine()}
  text = (
    f"# Bytes that a device sends in a window of {STEPS} steps\n\n"
    f"From compiled programs; nothing was timed. 3072-{_HIDDEN}-{_HIDDEN}-10,"
    f" batch {_BATCH}, Adam, rate 1 - 1/P; rings; jax"
    f" {values['versions']['jax']}.\n\n    {values['command']}\n\n"
    f"{table(found)}\n"
  )
  bench_flags.write(FLAGS, "exchange", text, {"rows": found, **values})


if __name__ == "__main__":
  run_flags.launch(main, FLAGS)
