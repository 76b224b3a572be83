"""What a training step launches on an H100, method by method, without one.

  python -m experiments.gpu_programs --out DIR

Compiles whole training steps for an H100 on any machine and counts what they
launch: no time on a card, but what bounds small steps there. In the
environment that BUILD_NOTES.md gives the command of; about twenty minutes of
two CPU cores (two a row at worst). Rows go to ``gpu_programs.jsonl`` as they
are compiled, and the same command goes on where it stopped. Writes
gpu_programs.{md,json}. Expected: sampling an exact mask in at most 5 launches,
a masked step in at most 10 more than conventional dropout's, no loop but the
one over steps.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from experiments.bench import h100  # First: it sets what jax reads.

import jax  # isort: skip
import jax.numpy as jnp  # isort: skip
from absl import flags

import kdropout_jax as kd
from experiments.bench import expected
from experiments.bench import flags as bench_flags
from experiments.bench import gpu_jobs
from experiments.bench import steps
from experiments.bench import timing
from experiments.report import passport
from experiments.report import tables
from experiments.run import flags as run_flags
from kdropout_jax.ops import dispatch

FLAGS = bench_flags.of_results("runs/gpu_programs")
_ONLY = flags.DEFINE_string(
  "only", "", "Compile rows whose name holds this.", flag_values=FLAGS
)

MAX_SAMPLING = 5
"""Launches that sampling one exact mask may take."""
MAX_MORE = 10
"""Launches that a masked step may take beyond conventional dropout's."""

SIZES = ((1, 4096), (8, 2048), (8, 8192), (8, 128), (1, 32), (64, 256))
"""Subnets and units of the masks that are sampled by themselves."""

_NET = steps.NETWORKS["kdropout"]
NETWORKS = (
  _NET,
  dataclasses.replace(_NET, dtype="bfloat16"),
  gpu_jobs.WIDE,
)
_ALIKE = {
  *(f"sequential T={m}" for m in (2, 4)),
  *(f"small T={m}" for m in (2, 4, 16)),
  *(f"balanced T={m}" for m in (4, 8, 16)),
}
METHODS = tuple(
  name
  for name in steps.CANDIDATES
  if "k=970" not in name and name not in _ALIKE
)
_STEPS = 3  # Of a scan: its body is compiled once, whatever their number.

Row = dict[str, Any]


def jobs() -> Iterator[tuple[str, Callable[[], Row]]]:
  """Yields names and what compiles them, the cheapest first."""
  for size in SIZES:
    yield f"mask {size[0]} x {size[1]}", functools.partial(sampling, *size)
  for net in NETWORKS:
    for method in METHODS:
      name = f"step of {net.name} {net.dtype}: {method}"
      yield name, functools.partial(step, net, method)


def sampling(num_subnets: int, width: int) -> Row:
  """Compiles exact masks, half kept, from a key and ids."""

  def sample(words, ids):
    return kd.subnet_masks(words, ids, width, kd.ExactCount(0.5)).keep

  words = jax.random.key_data(jax.random.key(0))
  ids = jnp.arange(num_subnets, dtype=jnp.uint32)
  compiled = h100.compile_program(sample, words, ids)
  return {"part": "mask"} | _counts(compiled, h100.read(compiled.as_text()))


def step(net: steps.Network, method: str) -> Row:
  """Compiles a scan of training steps, and counts one of them."""

  def compiler(run, state):
    return h100.compile_program(run, state, donate_argnums=0)

  with timing.compiling_by(compiler), dispatch.cuda_target(90):
    program = steps.CANDIDATES[method](net, _STEPS)
  whole = h100.read(program.run.as_text())  # pyright: ignore[reportFunctionMemberAccess]
  (scan,) = [loop for loop in whole.loops if loop.trips == program.num_steps]
  others = [loop for loop in whole.loops if loop is not scan]
  return {
    "part": "step",
    "network": net.name,
    "dtype": net.dtype,
    "method": method,
    **_counts(program.run, scan),
    "around": whole.launches,
    "other_loops": [[loop.trips, loop.launches] for loop in others],
  }


def _counts(compiled: Any, body: h100.Body) -> Row:
  return {
    "launches": body.launches,
    "loops": len(list(body.nested())),
    "copies": body.copies(),
    "temporaries": compiled.memory_analysis().temp_size_in_bytes,
    "kernels": dict(sorted(body.kernels.items())),
  }


def broken(rows: dict[str, Row]) -> list[str]:
  """Returns what exceeds the bars, a sentence each."""
  found = []
  for name, row in rows.items():
    if row["part"] == "mask":
      most = MAX_SAMPLING
    elif _is_masked(row["method"]):
      base = f"step of {row['network']} {row['dtype']}: {steps.BASELINE}"
      most = rows[base]["launches"] + MAX_MORE if base in rows else None
    else:
      most = None
    if most is not None and row["launches"] > most:
      found.append(f"{name}: {row['launches']} launches, at most {most}")
    if row["loops"]:
      found.append(f"{name}: {row['loops']} loops inside of a step")
  return found


def _is_masked(method: str) -> bool:
  """Whether a method's masks go through the dense product alone."""
  return not any(word in method for word in ("extracted", "compact", "small"))


def page(rows: dict[str, Row], values: Row) -> str:
  """Returns the results as Markdown."""
  parts = [
    "# What a training step launches on an H100",
    "Compiled for the card without one: launches are counted, nothing is"
    " timed. A launch took 3 to 4 microseconds on an H200 ([gpu.md](gpu.md)).",
    "**Expected** is a model, NOT a time: conventional dropout's step as it was"
    " timed there, and 3.5 microseconds for each launch more or less; for small"
    " T=1 the small network alone as timed, its further launches, and Adam's"
    " traffic for the weights that it lacks. `n x` is a loop over as many turns"
    " as a window has updates, sixteen in each.",
    f"Command: `{values['command']}`; jax {values['versions']['jax']}, XLA for"
    " compute capability 9.0.",
    "## Exact masks by themselves, half kept",
    tables.text(
      ("subnets x units", "launches", "loops", "temporaries, KiB"),
      [
        (
          name.removeprefix("mask "),
          str(row["launches"]),
          str(row["loops"]),
          f"{row['temporaries'] / 1024:.0f}",
        )
        for name, row in rows.items()
        if row["part"] == "mask"
      ],
    ),
  ]
  for net in NETWORKS:
    own = [
      row
      for row in rows.values()
      if row["part"] == "step"
      and (row["network"], row["dtype"]) == (net.name, net.dtype)
    ]
    if own:
      by_method = {row["method"]: row for row in own}
      own = [by_method[name] for name in METHODS if name in by_method]
      parts += [
        f"## Steps of {net.name}, batch {net.batch_size}, {net.dtype}, Adam",
        tables.text(_HEADER, [_line(net, row, by_method) for row in own]),
      ]
  held = broken(rows) or ["All bars are kept."]
  return "\n\n".join([*parts, "## Bars", "\n".join(held)]) + "\n"


_HEADER = (
  "method",
  "launches a step",
  "loops in it",
  "copies",
  "once a call",
  "other loops (passes x launches)",
  "temporaries, MiB",
  "expected ms (x conventional)",
  "most frequent kernels",
)


def _line(net: steps.Network, row: Row, rows: dict[str, Row]) -> list[str]:
  most = sorted(row["kernels"].items(), key=lambda item: (-item[1], item[0]))
  return [
    row["method"],
    str(row["launches"]),
    str(row["loops"]),
    str(row["copies"]),
    str(row["around"]),
    ", ".join(f"{trips or 'n'} x {n}" for trips, n in row["other_loops"])
    or "-",
    f"{row['temporaries'] / 2**20:.0f}",
    _expected(net, row, rows),
    ", ".join(f"{n} {kernel}" for kernel, n in most[:3]),
  ]


def _expected(net: steps.Network, row: Row, rows: dict[str, Row]) -> str:
  """Returns the model's milliseconds of a step, which nobody timed."""
  alone = "extracted T=1 k=97 frozen"
  base = rows.get(alone if "small" in row["method"] else steps.BASELINE)
  if base is None:
    return "-"
  return expected.speedup(net, expected.milliseconds(net, row, base))


def main(argv) -> None:
  """Compiles, prints and writes."""
  del argv
  why = h100.why_not()
  if why:
    raise SystemExit(why)
  out = pathlib.Path(FLAGS.out)
  out.mkdir(parents=True, exist_ok=True)
  log = out / "gpu_programs.jsonl"
  lines = log.read_text().splitlines() if log.exists() else []
  rows = dict(json.loads(line) for line in lines)
  for name, job in jobs():
    if name not in rows and _ONLY.value in name:
      rows[name] = job()
      with log.open("a") as file:
        file.write(json.dumps([name, rows[name]]) + "\n")
      print(f"{name}: {rows[name]['launches']} launches", flush=True)
  values = {"command": passport.command(), **passport.of_this_machine()}
  text = page(rows, values)
  bench_flags.write(FLAGS, "gpu_programs", text, {"rows": rows, **values})


if __name__ == "__main__":
  run_flags.launch(main, FLAGS)
