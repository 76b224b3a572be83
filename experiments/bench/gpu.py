"""Everything that a GPU can show, in one command and under nine minutes.

  python3 -m experiments.gpu_suite --out DIR

For a host without a network: jax with CUDA, triton and jax-triton (0.3.1 goes
with triton 3.6, 0.4.1 with triton 3.7 and newer; a wheel on PYTHONPATH will
do), flax, optax, pytest. No datasets are needed, arrays are drawn.

First the kernels' conformance tests run on the card; how many EXECUTED is
printed, and none is a failure. Then the benchmarks, the important cells first;
cells that no time is left for are named. Writes gpu_suite.{md,json,png} and
junit.xml to --out. Expected on an H100-class card in bfloat16, against XLA's
dense product at rate .5: 1.5 at 4096^3 with an input mask, 2.5 with both,
steps twice as fast as conventional dropout at batch and width 4096.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from xml.etree import ElementTree

import jax
from absl import app
from absl import flags

from experiments.bench import products
from experiments.bench import report as bench_report
from experiments.bench import shapes
from experiments.bench import steps
from experiments.report import start
from experiments.report import tables

# Of its own, so that one process (of tests) can import several binaries.
FLAGS = flags.FlagValues()
_OUT = flags.DEFINE_string(
  "out", "runs/gpu_suite", "Folder of the results.", flag_values=FLAGS
)
_SECONDS = flags.DEFINE_float(
  "seconds",
  500.0,
  "Start no new cell after so many seconds.",
  0.0,
  flag_values=FLAGS,
)
_ROUNDS = flags.DEFINE_integer(
  "rounds", 5, "Timed rounds.", 1, flag_values=FLAGS
)
_TESTS = flags.DEFINE_bool(
  "tests", True, "Run the conformance tests first.", flag_values=FLAGS
)
_SMOKE = flags.DEFINE_bool(
  "smoke",
  False,
  "Tiny benchmarks on any device: does it all run?",
  flag_values=FLAGS,
)

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def main(argv):
  """Tests, measures, prints and writes."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {argv[1:]}")
  if jax.default_backend() != "gpu" and not _SMOKE.value:
    raise SystemExit(
      f"gpu_suite needs a CUDA device, JAX has {jax.default_backend()} alone"
    )
  start = time.monotonic()
  out = pathlib.Path(_OUT.value).resolve()
  out.mkdir(parents=True, exist_ok=True)
  counts = run_tests(out / "junit.xml") if _TESTS.value else None
  rows, left_out = measure(start + _SECONDS.value)
  result = {
    "rows": rows,
    "left_out": left_out,
    "kernel_tests": counts,
    **bench_report.facts(_ROUNDS.value, time.monotonic() - start),
  }
  tables.write_json(out / "gpu_suite.json", result)
  text = bench_report.markdown(result)
  (out / "gpu_suite.md").write_text(text)
  bench_report.plot(rows, out / "gpu_suite.png")
  print(text)
  for name in left_out:
    print(f"no time was left for {name}")
  print(f"written to {out} after {time.monotonic() - start:.0f} s")
  if counts is not None and jax.default_backend() == "gpu":
    check_counts(counts)


def run_tests(report: pathlib.Path) -> dict[str, int]:
  """Runs the conformance suite on the card; returns counts of its tests."""
  # The parent holds the card as well: neither may take all of its memory.
  env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  if jax.default_backend() == "gpu":
    env["JAX_PLATFORMS"] = "cuda,cpu"
  command = [
    *(sys.executable, "-m", "pytest", "tests/ops", "-m", "gpu"),
    *("-n0", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"),
  ]
  subprocess.run(command, cwd=_ROOT, env=env, timeout=420)
  counts = count_tests(report)
  print("kernel tests: " + ", ".join(f"{v} {k}" for k, v in counts.items()))
  return counts


def count_tests(report: pathlib.Path) -> dict[str, int]:
  """Counts executed, failed and skipped tests in a JUnit report."""
  counts = {"executed": 0, "failed": 0, "skipped": 0}
  for case in ElementTree.parse(report).getroot().iter("testcase"):
    if case.find("skipped") is not None:
      counts["skipped"] += 1
      continue
    counts["executed"] += 1
    if case.find("failure") is not None or case.find("error") is not None:
      counts["failed"] += 1
  return counts


def check_counts(counts: dict[str, int]) -> None:
  """Exits with an error unless kernel tests executed, and none failed."""
  if not counts["executed"]:
    raise SystemExit("no kernel test executed on this device")
  if counts["failed"]:
    raise SystemExit(f"{counts['failed']} kernel tests failed")


def measure(deadline: float):
  """Returns rows of the benchmarks, and the names of what was left out."""
  rows, left_out = [], []
  jobs = smoke_jobs() if _SMOKE.value else full_jobs()
  for name, job in jobs:
    if time.monotonic() > deadline:
      left_out.append(name)
      continue
    print(f"measuring {name}", flush=True)
    rows += job()
  return rows, left_out


def full_jobs():
  """Yields (name, function that returns rows), the important ones first."""
  yield from _op_jobs(
    [shapes.SQUARE_4096_IN, shapes.SQUARE_4096, shapes.SPARSEDROP],
    [(0.5, 1, 128), (0.5, 8, 128), (0.5, 1, 32)],
    "bfloat16",
  )
  net = steps.NETWORKS["kdropout"]
  wide = dataclasses.replace(
    net, hidden=4096, inputs=4096, batch_size=4096, dtype="bfloat16"
  )
  yield from _step_jobs([wide])
  yield from _op_jobs(
    [shapes.SQUARE_4096_IN, shapes.SPARSEDROP, shapes.TABLE_7],
    [(rate, 1, 128) for rate in (0.0, 0.25, 0.75, 0.9)],
    "bfloat16",
  )
  yield from _op_jobs(
    [shapes.SQUARE_4096, shapes.KDROPOUT_HIDDEN, shapes.MLP_FIRST],
    [(0.5, 1, 128), (0.5, 8, 32), (0.5, 1, 1)],
    "float32",
  )
  yield from _step_jobs(list(steps.NETWORKS.values()))


def smoke_jobs():
  """Yields the same kinds of job at sizes for any machine."""
  shape = shapes.Shape("smoke", 32, 64, 64)
  yield from _op_jobs([shape], [(0.5, 1, 32)], "float32")
  net = steps.Network("smoke", 64, 2, True, inputs=32, batch_size=128)
  yield from _step_jobs([net], ["sequential T=1", "extracted T=1 k=97 frozen"])


def _op_jobs(shapes, cells, dtype):
  # Long enough that a call is milliseconds of device time.
  flops = 1e9 if _SMOKE.value else 5e13
  for shape in shapes:
    for rate, groups, block in cells:
      for direction in products.DIRECTIONS:
        case = products.Case(shape, rate, groups, block, direction, dtype)
        name = f"{shape.name} rate={rate} T={groups} block={block}"
        yield (
          f"{name} {direction} {dtype}",
          (lambda case=case: products.measure(case, _ROUNDS.value, flops)),
        )


def _step_jobs(networks, names=None):
  names = names or [n for n in steps.CANDIDATES if "k=970" not in n]
  num_steps = 2 if _SMOKE.value else 50
  for net in networks:
    yield (
      f"steps of {net.name} {net.dtype}",
      (lambda net=net: steps.measure(net, names, num_steps, _ROUNDS.value)),
    )


if __name__ == "__main__":
  flags.FLAGS.append_flag_values(FLAGS)
  FLAGS.mark_as_parsed()
  start.run(main)
