"""Runs that faults are done to: real processes, and attempts in this one.

A process is a fork of one that has imported the packages and done nothing
else: it starts its own device, reads its own flags, and can be killed.
"""

import contextlib
import dataclasses
import os
import pathlib
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import matplotlib.figure  # noqa: F401
import orbax.checkpoint  # noqa: F401
import tensorboardX  # noqa: F401
import tensorflow_datasets  # noqa: F401
from absl import flags as absl_flags

from experiments.run import config as config_lib
from experiments.run import runner
from experiments.run import workdirs
from kdropout_jax.training import loop
from kdropout_jax.training import metrics

REFUSED, RECOVERED = "refused", "recovered"
SILENT, LOST, TRACEBACK = "silent", "lost", "traceback"

_TRACES = ("Traceback (most", "Fatal Python error", "failure stack trace")

FIELDS: dict[str, Any] = dict(
  method="pooled",
  pool_size=9,
  m=4,
  num_train=64,
  hidden=16,
  batch_size=16,
  num_steps=240,
  eval_every=20,
  checkpoint_every=40,
  seeds=2,
  num_devices=1,
)
"""The run that everything is done to."""

LIMIT = 180.0
"""Seconds after which a process hangs."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a fault.

  Attributes:
    kind: `REFUSED` with one line, `RECOVERED` to the same bits, `SILENT`
      (other numbers without a word), `LOST` (a hang, another error, good work
      that is gone), or `TRACEBACK`, however it ended.
    said: the line, or what is wrong.
  """

  kind: str
  said: str = ""


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a process ended: exit code (None: it hung), and what it wrote."""

  code: int | None
  out: str
  error: str


def config(**fields: Any) -> config_lib.RunConfig:
  """Returns the run's configuration, some fields changed."""
  return config_lib.RunConfig(**{**FIELDS, **fields})


def command(workdir: pathlib.Path, data: pathlib.Path) -> list[str]:
  """Returns the flags of the same run."""
  given = [f"--{name}={value}" for name, value in FIELDS.items()]
  return [*given, f"--workdir={workdir}", f"--data_dir={data}", "--noprogress"]


class Process:
  """``python -m experiments.train`` with these flags, under way.

  Args:
    argv: the flags.
    log: a file; its name with ".out" and ".err" takes what is written.
  """

  def __init__(self, argv: list[str], log: pathlib.Path):
    self._files = [log.with_suffix(s) for s in (".out", ".err")]
    sys.stdout.flush()
    sys.stderr.flush()
    self.pid = os.fork()
    if not self.pid:
      _become(argv, self._files)
    self._began = time.monotonic()
    self._code: int | None = None

  def send(self, number: int) -> None:
    """Sends a signal; nothing to a process that has ended."""
    with contextlib.suppress(ProcessLookupError):
      os.kill(self.pid, number)

  def has_ended(self) -> bool:
    """Returns whether it has ended."""
    if self._code is None:
      pid, status = os.waitpid(self.pid, os.WNOHANG)
      self._code = os.waitstatus_to_exitcode(status) if pid else None
    return self._code is not None

  def wait(self) -> Ended:
    """Returns how it ended; one that hangs is killed."""
    while not self.has_ended() and time.monotonic() - self._began < LIMIT:
      time.sleep(0.01)
    code = self._code
    if code is None:
      self.send(signal.SIGKILL)
      os.waitpid(self.pid, 0)
    return Ended(code, *(f.read_text(errors="replace") for f in self._files))


def _become(argv: list[str], files: list[pathlib.Path]) -> None:
  """Turns this fork into a binary; never returns."""
  code = 1
  try:
    for number, file in enumerate(files, 1):
      os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", closefd=False)
    for number in (signal.SIGINT, signal.SIGTERM):
      default = (
        signal.default_int_handler
        if number == signal.SIGINT
        else (signal.SIG_DFL)
      )
      signal.signal(number, default)
    sys.argv = ["experiments.train", *argv]
    absl_flags.FLAGS.unparse_flags()
    runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as stopped:
    code = stopped.code if isinstance(stopped.code, int) else bool(stopped.code)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def one_line(ended: Ended, code: int = 2) -> str | None:
  """Returns the one line that a process ended with, or None."""
  lines = [line for line in ended.error.splitlines() if line.strip()]
  is_one = ended.code == code and len(lines) == 1
  return lines[0] if is_one and "Traceback" not in ended.error else None


def last_words(ended: Ended) -> str:
  """Returns how a process ended, in short."""
  lines = (ended.error or ended.out).strip().splitlines()
  return f"exit code {ended.code}: {lines[-1][:200] if lines else ''}"


@dataclasses.dataclass(frozen=True)
class Attempt:
  """The same call again, in this process.

  Attributes:
    results: what it returned, or None.
    refusal: the line of a refusal, or None.
    failure: another error, or None.
    said: all that it wrote.
  """

  results: list[dict[str, Any]] | None
  refusal: str | None
  failure: str | None
  said: str


def attempt(folder: pathlib.Path, data: pathlib.Path, **fields: Any) -> Attempt:
  """Calls `runner.run`; an error is what `flags.launch` would make of it.

  What it writes is left beside the folder, in a file of its name with ".err".
  """
  results = refusal = failure = None
  log = folder.with_name(f"{folder.name}.err")
  with written_to(log):
    try:
      results = runner.run(
        config(**fields), folder, data_dir=os.fspath(data), progress=False
      )
    except (ValueError, OSError, loop.NonFiniteLoss) as error:
      text = f"{type(error).__name__}: {error}"
      refusal = text if "\n" not in text else None
      failure = None if refusal else text
    except Exception as error:  # A traceback, to a user.
      failure = f"{type(error).__name__}: {error}"
  return Attempt(results, refusal, failure, log.read_text(errors="replace"))


@contextlib.contextmanager
def written_to(log: pathlib.Path) -> Iterator[None]:
  """Sends what is written to a file, by native code as well."""
  streams = (sys.stdout, sys.stderr)
  for stream in streams:
    stream.flush()
  kept = [os.dup(number) for number in (1, 2)]
  file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
  try:
    for number in (1, 2):
      os.dup2(file, number)
    yield
  finally:
    for stream in streams:
      stream.flush()
    for number, before in enumerate(kept, 1):
      os.dup2(before, number)
    for one in (file, *kept):
      os.close(one)


def with_traces(outcome: Outcome, root: pathlib.Path) -> Outcome:
  """Returns what became of a fault, where one left a trace: `TRACEBACK`.

  Args:
    outcome: as the fault itself judged.
    root: where all that it ran has left what it wrote, in files ".err"; they
      are removed.
  """
  found = {p: p.read_text(errors="replace") for p in root.glob("*.err")}
  for path, text in found.items():
    path.unlink()
    place = min((text.find(t) for t in _TRACES if t in text), default=-1)
    if place >= 0:
      said = f"{outcome.kind}, but {text[place:][:500]}"
      outcome = Outcome(TRACEBACK, f"{outcome.said}: {said}")
  return outcome


def compare(
  folder: pathlib.Path, expected: dict[str, Any], *, log: bool = True
) -> str | None:
  """Returns what a finished run has that is not as expected, or None.

  Args:
    folder: of the run.
    expected: the result of the run that nothing happened to.
    log: whether every record must be there, too.
  """
  found = workdirs.result(folder) or {}
  names = ("params_sha256", "test_accuracy", "test_loss", "dataset_note")
  wrong = [n for n in names if found.get(n) != expected[n]]
  steps = [r["step"] for r in metrics.read_jsonl(folder / runner.METRICS)]
  due = list(range(20, FIELDS["num_steps"] + 1, 20))
  if log and steps != due:
    wrong.append(f"{len(steps)} of {len(due)} records")
  return f"other {', '.join(wrong)}" if wrong else None
