"""Faults of processes: kills, two at once, and command lines that are wrong."""

import signal
import time
from collections.abc import Callable

from experiments.bench import fault_files
from experiments.bench import fault_runs as runs

type Place = fault_files.Place
type Rng = fault_files.Rng


def kills(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """SIGKILL at a random moment, once or twice; then the same command."""
  folder = place.root / f"killed-{number}"
  argv, count = runs.command(folder, place.data), 1 + number % 2
  for _ in range(count):
    process = runs.Process(argv, place.root / f"kill-{number}")
    time.sleep(float(rng.random()) * place.seconds)
    process.send(signal.SIGKILL)
    process.wait()
  return _finish(place, folder, argv, number, f"{count} kills")


def stops(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """SIGINT or SIGTERM at a random moment; then the same command."""
  folder = place.root / f"stopped-{number}"
  argv = runs.command(folder, place.data)
  process = runs.Process(argv, place.root / f"stop-{number}")
  # Not before it handles signals: until then SIGTERM ends any process.
  while not (folder / "metrics.jsonl").exists() and not process.has_ended():
    time.sleep(0.01)
  time.sleep(float(rng.random()) * place.seconds / 4)
  process.send((signal.SIGINT, signal.SIGTERM)[number % 2])
  ended = process.wait()
  if ended.code != 0 and runs.one_line(ended, 130) is None:
    return runs.Outcome(runs.LOST, runs.last_words(ended))
  return _finish(place, folder, argv, number, ended.error.strip())


def pairs(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """The same command twice at once: one trains, one ends with a line."""
  folder = place.root / f"pair-{number}"
  argv = runs.command(folder, place.data)
  first = runs.Process(argv, place.root / f"first-{number}")
  if number % 2:  # Else both begin together.
    while not (folder / ".lock").exists() and not first.has_ended():
      time.sleep(0.01)
    time.sleep(float(rng.random()) * place.seconds / 8)
  second = runs.Process(argv, place.root / f"second-{number}")
  ended = [first.wait(), second.wait()]
  refused = [runs.one_line(one) for one in ended if one.code != 0]
  wrong = runs.compare(folder, place.expected)
  if wrong:
    return runs.Outcome(runs.SILENT, wrong)
  if len(refused) > 1 or None in refused:
    return runs.Outcome(runs.LOST, "; ".join(map(runs.last_words, ended)))
  if refused:
    return runs.Outcome(runs.REFUSED, str(refused[0]))
  return runs.Outcome(runs.RECOVERED, "the second found it finished")


_HUGE = ("2147483648", "9223372036854775808", "1" + 20 * "0")
_COMMANDS = (
  *([f"--{n}={v}"] for n in ("hidden", "batch_size", "seeds") for v in _HUGE),
  *([f"--{n}={v}"] for n in ("pad", "num_hidden", "k") for v in _HUGE),
  *([f"--{n}=2000000000"] for n in ("hidden", "seeds", "num_train", "m")),
  *([f"--{n}=x"] for n in ("hidden", "rate", "seeds", "m", "learning_rate")),
  *([f"--{n}=-1"] for n in ("hidden", "rate", "epochs", "data_seed", "k")),
  ["--nonsense=1"],
  ["nonsense"],
  ["--dataset=digts"],
  ["--model=ml"],
  ["--method=gyros"],
  ["--method=none", "--k=3"],
  ["--rate=1.5"],
  ["--learning_rate=nan"],
  ["--lr_drops=1,x", "--lr_schedule=drops"],
  ["--num_devices=1000"],
  ["--epochs=3"],
  ["--preset=gyro-lenet"],
  ["--workdir=/dev/null"],
  ["--workdir=/proc/x"],
  ["--workdir=" + "x" * 300],
  ["--data_dir=/dev/null/x"],
  ["--coordinator_address=nonsense", "--num_processes=2", "--process_id=0"],
  ["--coordinator_address=localhost:1"],
  ["--data_workers=-1"],
  ["--valid_fraction=1"],
)


def commands(place: Place, rng: Rng, number: int) -> runs.Outcome:
  """A command line that cannot be: a line, exit code 2, nothing written.

  But where the memory turns out to be full only as the first step begins: the
  folder is the run's by then.
  """
  del rng
  folder = place.root / f"wrong-{number}"
  wrong = _COMMANDS[number % len(_COMMANDS)]
  argv = [*runs.command(folder, place.data), *wrong]
  ended = runs.Process(argv, place.root / f"command-{number}").wait()
  words, line = " ".join(wrong)[:60], runs.one_line(ended)
  if line is None:
    kind = runs.SILENT if ended.code == 0 else runs.LOST
    return runs.Outcome(kind, f"{words}: {runs.last_words(ended)}")
  if folder.exists() and not line.startswith("out of memory"):
    return runs.Outcome(runs.LOST, f"{words}: it owns a folder")
  return runs.Outcome(runs.REFUSED, f"{words}: {line}")


def _finish(place, folder, argv, number: int, what: str) -> runs.Outcome:
  """Gives the same command again, which must end with the same bits."""
  ended = runs.Process(argv, place.root / f"again-{number}").wait()
  if ended.code != 0:
    return runs.Outcome(runs.LOST, f"{what}: {runs.last_words(ended)}")
  wrong = runs.compare(folder, place.expected)
  if wrong:
    return runs.Outcome(runs.SILENT, f"{what}: {wrong}")
  return runs.Outcome(runs.RECOVERED, what)


KINDS: dict[str, tuple[Callable[[Place, Rng, int], runs.Outcome], int, str]] = {
  "SIGKILL at a random moment": (kills, 30, "processes"),
  "SIGINT, SIGTERM at a random moment": (stops, 20, "processes"),
  "the same command twice at once": (pairs, 15, "processes"),
  "wrong command lines": (commands, len(_COMMANDS), "processes"),
}
"""{kind: (what does it, how many at full size, what to)}."""
