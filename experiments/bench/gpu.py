"""Everything that a GPU can show, in one command that can be stopped.

  python -m experiments.gpu_suite --out DIR

For a host without a network and without data loaders: jax with CUDA, triton,
flax, optax, orbax, numpy, matplotlib, pytest, and jax-triton and tqdm as
wheels on PYTHONPATH (jax-triton 0.3.1 goes with triton 3.6, 0.4.1 with triton
3.7 and newer). No datasets are needed, arrays are drawn.

First the kernels' conformance tests run on the card; how many EXECUTED is
printed, and none is a failure. Then whole training steps of every schedule,
then single products, the most telling first. Every cell goes to
``rows.jsonl`` when it is measured; one that fails is a row with its error, and
the suite goes on; the same command continues where it stopped and tries again
what failed. Writes gpu_suite.{md,json,png} and junit.xml to --out, and prints
one line for each figure that is to be reached. About nine minutes of an
H100-class card for the whole, or --seconds of it at a time.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import jax
from absl import flags

from experiments.bench import flags as bench_flags
from experiments.bench import gpu_jobs
from experiments.bench import reaches
from experiments.bench import report as bench_report
from experiments.report import passport
from experiments.report import tables
from experiments.run import flags as run_flags
from kdropout_jax.training import files

FLAGS = bench_flags.of_results("runs/gpu_suite")
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
_ROWS = "rows.jsonl"


def main(argv):
  """Tests, measures, prints and writes."""
  del argv
  if jax.default_backend() != "gpu" and not _SMOKE.value:
    raise SystemExit(
      f"gpu_suite needs a CUDA device, JAX has {jax.default_backend()} alone"
    )
  start = time.monotonic()
  out = pathlib.Path(FLAGS.out).resolve()
  out.mkdir(parents=True, exist_ok=True)
  counts = run_tests(out / "junit.xml") if _TESTS.value else None
  make = gpu_jobs.smoke_jobs if _SMOKE.value else gpu_jobs.jobs
  jobs = list(make(_ROUNDS.value))
  left_out = measure(jobs, out / _ROWS, start + _SECONDS.value)
  print(write(out, left_out, counts, time.monotonic() - start))
  names = (_ROWS, *(f"gpu_suite.{end}" for end in ("md", "json", "png")))
  bench_flags.publish(FLAGS, names)
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


def measure(
  jobs: Iterable[gpu_jobs.Job], file: pathlib.Path, deadline: float
) -> list[str]:
  """Appends a line a job to `file`, and returns the names of those left out.

  A job that has its rows there is not measured again; one with an error is.
  """
  finished = {line["job"] for line in lines(file) if "error" not in line}
  left_out = []
  for name, job in jobs:
    if name in finished:
      continue
    if time.monotonic() > deadline:
      left_out.append(name)
      continue
    print(f"measuring {name}", flush=True)
    _append(file, {"job": name, **_attempt(job), **passport.of_this_machine()})
  return left_out


def lines(file: pathlib.Path) -> list[dict[str, Any]]:
  """Returns what was measured; a line that was cut short is not there."""
  found = []
  for text in file.read_text().splitlines() if file.exists() else ():
    try:
      found.append(json.loads(text))
    except json.JSONDecodeError:
      continue
  return found


def write(
  out: pathlib.Path,
  left_out: list[str],
  counts: dict[str, int] | None,
  seconds: float,
) -> str:
  """Writes tables, numbers and plot of all lines; returns the text."""
  measured = lines(out / _ROWS)
  rows = [row for line in measured for row in line.get("rows", ())]
  done = {line["job"] for line in measured if "error" not in line}
  failed = {
    line["job"]: line["error"] for line in measured if line["job"] not in done
  }
  told = reaches.verdicts(rows)
  result = {
    "rows": rows,
    "failed": failed,
    "left_out": left_out,
    "reaches": told,
    "kernel_tests": counts,
    **bench_report.facts(_ROUNDS.value, seconds),
  }
  tables.write_json(out / "gpu_suite.json", files.plain(result))
  sections = ["## What was to be reached", _list(told)]
  if failed:
    sections += [
      "## Failed",
      _list([f"{name}: {error}" for name, error in failed.items()]),
    ]
  if left_out:
    sections += ["## No time was left for", _list(left_out)]
  text = bench_report.markdown(result, sections)
  files.write_atomically(out / "gpu_suite.md", text)
  bench_report.plot(rows, out / "gpu_suite.png")
  return text


def _attempt(job) -> dict[str, Any]:
  """Returns {"rows": ...}, or {"error": ...} where the job fails."""
  try:
    return {"rows": job()}
  except Exception as error:  # pylint: disable=broad-except
    traceback.print_exc()  # One cell's fault must not cost the others.
    return {"error": f"{type(error).__name__}: {error}"[:500]}


def _append(file: pathlib.Path, line: dict[str, Any]) -> None:
  """Adds a line, on the disk when this returns."""
  with file.open("a") as stream:
    if file.stat().st_size and not file.read_bytes().endswith(b"\n"):
      stream.write("\n")  # What a killed run left is a line of its own.
    stream.write(json.dumps(files.plain(line), allow_nan=False) + "\n")
    stream.flush()
    os.fsync(stream.fileno())


def _list(items: list[str]) -> str:
  return "\n".join(f"- {item}" for item in items)


if __name__ == "__main__":
  run_flags.launch(main, FLAGS)
