"""Two processes that train together over a slow link: apart, or in parallel.

  python -m experiments.slow_link --megabits=100

Linux alone, as root, with the commands ``ip`` and ``tc``: it gives itself a
network of its own, whose loopback is slowed. Each way to train runs with the
loopback as it is and slowed, two subnets on two devices: data parallelism
(masked, gradients exchanged at every step), disjoint subnets, and those that
share nothing within a window. Five minutes of two cores. Writes
slow_link.{md,json}. Expected: at 100 Mbit/s data parallelism waits for its
gradients, and disjoint subnets with window_end hardly at all.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import tqdm
from absl import flags

from experiments.bench import flags as bench_flags
from experiments.report import passport
from experiments.report import tables
from experiments.run import flags as run_flags

FLAGS = bench_flags.of_results("runs/slow_link")
_MEGABITS = flags.DEFINE_integer(
  "megabits", 100, "Of the slowed link, in Mbit/s.", 1, flag_values=FLAGS
)
_HIDDEN = flags.DEFINE_integer(
  "hidden", 1024, "Units of a hidden layer.", 2, flag_values=FLAGS
)
_WINDOWS = flags.DEFINE_integer(
  "windows", 3, "Windows of k = 97 steps; the first compiles.", 2,
  flag_values=FLAGS,
)  # fmt: skip

_K, _ROWS = 97, 256
_FIELDS = dict(
  dataset="digits",
  method="sequential",
  k=_K,
  m=2,
  pattern="exact",
  partition=True,
  num_devices=2,
  batch_size=_ROWS,
  eval_every=10**6,
)
WAYS: dict[str, dict[str, Any]] = {
  "data parallelism": {},
  "disjoint": dict(subnet_training="extract"),
  "disjoint, window_end": dict(
    subnet_training="extract", shared_parameters="window_end"
  ),
}
"""{way to train: flags}."""


def measure(
  way: str, hidden: int, windows: int, folder: pathlib.Path
) -> dict[str, Any]:
  """Trains by two processes on the loopback as it is; returns a row.

  Args:
    way: one of `WAYS`.
    hidden: units of a hidden layer.
    windows: windows to train; the first is not timed.
    folder: of the run.
  """
  fields = _FIELDS | WAYS[way] | dict(hidden=hidden, num_steps=windows * _K)
  given = [f"--{name}={value}" for name, value in fields.items()]
  address = f"127.0.0.1:{_free_port()}"
  pair = [
    subprocess.Popen(
      [
        *(sys.executable, "-m", "experiments.train", *given, "--noprogress"),
        *(f"--coordinator_address={address}", "--num_processes=2"),
        *(f"--process_id={number}", f"--workdir={folder}"),
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(2)
  ]
  said = [process.communicate()[1] for process in pair]
  if any(process.returncode for process in pair):
    raise RuntimeError(f"training by {way} failed: {said[0][-2000:]}")
  (path,) = folder.rglob("result.json")
  result = json.loads(path.read_text())
  return {
    "training": way,
    "ms": 1e3 * _ROWS / result["examples_per_second"],
    "accuracy": result["test_accuracy"][-1],
  }


def slow(megabits: int) -> None:
  """Slows the loopback, which carries what both processes send."""
  rate = f"{2 * megabits}mbit"
  _run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate,
       "burst", "256kb", "latency", "400ms")  # fmt: skip


def own_network() -> None:
  """Gives this process a network of its own, with a loopback alone.

  Raises:
    SystemExit: the machine does not let it.
  """
  try:
    os.unshare(os.CLONE_NEWNET)
    _run("ip", "link", "set", "lo", "up")
  except (AttributeError, OSError, subprocess.CalledProcessError) as error:
    raise SystemExit(
      "experiments.slow_link needs Linux, root, ip and tc, to slow a loopback"
      f" of its own: {error}"
    ) from None


def table(rows: list[dict[str, Any]]) -> str:
  """Returns the rows as a table."""
  header = ("link", "training", "ms a step", "x faster", "test accuracy")
  base = {row["link"]: row["ms"] for row in rows if row["training"] == _FIRST}
  lines = [
    (
      row["link"],
      row["training"],
      f"{row['ms']:,.1f}",
      f"{base[row['link']] / row['ms']:.2f}",
      f"{100 * row['accuracy']:.1f}",
    )
    for row in rows
  ]
  return tables.text(header, lines)


def _run(*command: str) -> None:
  subprocess.run(command, check=True, stderr=subprocess.PIPE)


def _free_port() -> int:
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    return taken.getsockname()[1]


_FIRST = next(iter(WAYS))


def main(argv) -> None:
  """Measures, prints and writes."""
  del argv
  own_network()
  links: dict[str, Callable[[], None]] = {
    "loopback": lambda: None,
    f"{_MEGABITS.value} Mbit/s": lambda: slow(_MEGABITS.value),
  }
  rows = []
  with tqdm.tqdm(total=len(links) * len(WAYS), unit="run") as bar:
    for link, prepare in links.items():
      prepare()
      for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
          row = measure(
            way, _HIDDEN.value, _WINDOWS.value, pathlib.Path(folder)
          )
        rows.append({"link": link, **row})
        bar.update()
  values = {"command": passport.command(), **passport.of_this_machine()}
  text = (
    "# Two processes on a slow link\n\n"
    f"digits, two hidden layers of {_HIDDEN.value}, batch {_ROWS}, rate .5, two"
    f" subnets, k = {_K}; steps of all windows but the first, one run each;"
    " both processes share this machine's cores. The link is a loopback whose"
    " rate is limited for each direction.\n\n"
    f"    {values['command']}\n\n{values['device']}; jax"
    f" {values['versions']['jax']}.\n\n{table(rows)}\n"
  )
  bench_flags.write(FLAGS, "slow_link", text, {"rows": rows, **values})


if __name__ == "__main__":
  run_flags.launch(main, FLAGS)
