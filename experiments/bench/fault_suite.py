"""Does faults to a small run and its files, and counts what becomes of them.

  python -m experiments.fault_suite --publish=docs/results

286 faults of eleven kinds, seeded; three minutes of two idle cores, or one with
``--smoke`` (two of each kind). Each ends in one clear line, or with the
bits of the run that nothing happened to; expected: none is silent (other
numbers without a word), none is lost (a hang, another error, good work that is
gone), and none leaves a traceback, not even beside a right result.
``--workdir`` gets trust.md and trust.json.
"""

import collections
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
import tqdm
from absl import flags

from experiments.bench import fault_commands
from experiments.bench import fault_files
from experiments.bench import fault_runs as runs
from experiments.report import passport
from experiments.report import tables
from experiments.run import flags as run_flags
from experiments.run import place as place_lib
from experiments.run import workdirs
from kdropout_jax.training import files

FLAGS = flags.FLAGS

# Processes first: they are forks, which a device that has begun would break.
KINDS = {**fault_commands.KINDS, **fault_files.KINDS}
_BAD = (runs.SILENT, runs.LOST, runs.TRACEBACK)
_COLUMNS = (runs.REFUSED, runs.RECOVERED, *_BAD)
_SMOKE = 2
_ROOT = re.compile(r"\S*/faults-\w+")

_INTRODUCTION = """# Trust

What becomes of a small run (an MLP of two seeds on the digits), and of its
files, when something goes wrong. *Refused*: one clear line, exit code 2, and
nothing else is touched. *Recovered*: the same command ends with the bits and
the result of the run that nothing happened to; records of metrics.jsonl that a
damage took are said. *Silent*: other numbers without a word. *Lost*: a hang,
another error, or good work that is gone. *Traceback*: one was written, by
Python or by native code, however the fault ended."""
_NOTES = """Processes are forks of one that has imported the packages and done
nothing else. What each fault said is in trust.json.
"""


def main(argv: list[str]) -> None:
  del argv
  out = pathlib.Path(FLAGS.workdir or "runs/fault_suite")
  with workdirs.locked(out):
    began = time.monotonic()
    found = run(FLAGS.fault_seed, FLAGS.smoke)
    seconds = time.monotonic() - began
    for folder in filter(None, (out, FLAGS.publish)):
      write(pathlib.Path(folder), found, FLAGS.fault_seed, seconds)
  bad = [o for one in found.values() for o in one if o.kind in _BAD]
  if bad:
    words = f"{len(bad)} faults are silent, lost or leave a traceback"
    sys.exit(f"{words}; the first: {bad[0].said}")


def run(seed: int, smoke: bool) -> dict[str, list[runs.Outcome]]:
  """Does all faults; returns {kind: what became of each}."""
  found: dict[str, list[runs.Outcome]] = {}
  with tempfile.TemporaryDirectory(prefix="faults-") as folder:
    place = prepare(pathlib.Path(folder))
    todo = [
      (kind, number)
      for kind, (_, count, _) in KINDS.items()
      for number in range(min(count, _SMOKE) if smoke else count)
    ]
    for kind, number in tqdm.tqdm(todo, unit="fault", dynamic_ncols=True):
      rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
      outcome = KINDS[kind][0](place, rng, number)
      outcome = runs.with_traces(outcome, place.root)
      found.setdefault(kind, []).append(outcome)
      if outcome.kind in _BAD:
        tqdm.tqdm.write(f"{kind} {number}: {outcome.kind}: {outcome.said}")
      for copy in place.root.glob(f"*-{number}"):
        if copy.is_dir():
          shutil.rmtree(copy, ignore_errors=True)
  return found


def prepare(root: pathlib.Path) -> fault_files.Place:
  """Makes what faults are done to: whole and half runs, by processes."""
  jax.config.update("jax_compilation_cache_dir", str(root / "programs"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  seconds = 0.0
  for _ in range(2):  # The second finds data prepared, programs compiled.
    shutil.rmtree(root / "finished", ignore_errors=True)
    began = time.monotonic()
    _whole(root / "finished", root)
    seconds = time.monotonic() - began
  _half(root / "half", root, [])
  _half(root / "other", root, ["--seed=7"])
  return fault_files.Place(
    root=root,
    data=root / "data",
    finished=root / "finished",
    half=root / "half",
    other=root / "other",
    expected=workdirs.result(root / "finished") or {},
    seconds=seconds,
  )


def _whole(folder: pathlib.Path, root: pathlib.Path) -> None:
  argv = runs.command(folder, root / "data")
  ended = runs.Process(argv, root / "whole").wait()
  if ended.code != 0:
    raise ValueError(f"the run must end by itself: {runs.last_words(ended)}")


def _half(folder: pathlib.Path, root: pathlib.Path, more: list[str]) -> None:
  """Stops a run after its second checkpoint, at the same one each time."""
  argv = [*runs.command(folder, root / "data"), *more]
  process = runs.Process(argv, root / "half")
  checkpoint = folder / "checkpoints" / "120"
  while not checkpoint.exists() and not process.has_ended():
    time.sleep(0.001)
  process.send(signal.SIGKILL)
  process.wait()
  # What came later is taken away, so that all halves are alike.
  kept = {"80", "120"}
  there = {p.name for p in (folder / "checkpoints").iterdir()}
  if not kept <= there:
    raise ValueError(f"a run must stop after step 120, has {sorted(there)}")
  for name in there - kept:
    shutil.rmtree(folder / "checkpoints" / name)
  (folder / "result.json").unlink(missing_ok=True)


def write(
  out: pathlib.Path,
  found: dict[str, list[runs.Outcome]],
  seed: int,
  seconds: float,
) -> None:
  """Writes trust.md and trust.json."""
  facts: dict[str, Any] = {
    "command": passport.command(),
    "minutes": round(seconds / 60, 1),
    "seed": seed,
    "threads": place_lib.here()["threads"],
    **passport.of_this_machine(),
  }
  counts = {
    kind: collections.Counter(outcome.kind for outcome in outcomes)
    for kind, outcomes in found.items()
  }
  numbers = {
    **facts,
    "kinds": {
      kind: {
        "tried": len(outcomes),
        **{column: counts[kind][column] for column in _COLUMNS},
        "said": [_ROOT.sub("FOLDER", outcome.said) for outcome in outcomes],
      }
      for kind, outcomes in found.items()
    },
  }
  out.mkdir(parents=True, exist_ok=True)
  tables.write_json(out / "trust.json", numbers)
  text = page(facts, counts)
  files.write_atomically(out / "trust.md", text)
  print(text)


def page(
  facts: dict[str, Any], counts: dict[str, collections.Counter[str]]
) -> str:
  """Returns the page."""
  total = sum(counts.values(), collections.Counter())
  lines = [
    [kind, KINDS[kind][2], *_numbers(one)] for kind, one in counts.items()
  ]
  header = ("fault", "done to", "tried", "refused with one line")
  table = tables.text(
    (*header, "recovered to the same bits", *_BAD),
    [*lines, ["all", "", *_numbers(total)]],
  )
  versions = facts["versions"]
  return "\n\n".join(
    [
      _INTRODUCTION,
      f"- command: `{facts['command']}`; seed {facts['seed']}\n"
      f"- device: {facts['device']}, {facts['threads']} threads; jax"
      f" {versions['jax']}, Python {versions['python']}\n"
      f"- minutes: {facts['minutes']}",
      table,
      _NOTES,
    ]
  )


def _numbers(count: collections.Counter[str]) -> list[str]:
  return [str(count.total()), *(str(count[column]) for column in _COLUMNS)]


if __name__ == "__main__":
  run_flags.define_machine()
  flags.DEFINE_bool("smoke", False, "two of each kind")
  flags.DEFINE_integer("fault_seed", 0, "of all choices")
  flags.DEFINE_string("publish", None, "a second folder for the same files")
  run_flags.launch(main)
