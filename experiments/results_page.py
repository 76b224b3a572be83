"""Writes docs/results/k-dropout/README.md from the numbers that lie there.

  python -m experiments.results_page

Every experiment leaves its numbers by ``--publish=docs/results/k-dropout``;
what left none says "not run". A second or two.
"""

import json
import pathlib
from typing import Any

from absl import flags as absl_flags

from experiments.shared import beside_paper
from experiments.shared import flags
from experiments.shared import orders
from experiments.shared import tables
from kdropout_jax.training import metrics

EXPERIMENTS = {
  "subnet_counts": ("subnet_counts", "table 1"),
  "sequential": ("sweep --grid=sequential", "figure 1, left"),
  "pooled": ("sweep --grid=pooled", "figure 1, right"),
  "transition": ("sweep --grid=transition", "the transition at 2T"),
  "deep": ("sweep --grid=deep", "three hidden layers"),
  "rate": ("sweep --grid=rate", "section 3.1, drop rates"),
  "restarts": ("restarts", "figure 2"),
  "subnet_dynamics": ("subnet_dynamics", "figures 3, 4, 5, 8, 9, 10"),
  "ensembles": ("ensembles", "figures 6 and 7"),
  "interference": ("interference", "section 3.1, unmeasured there"),
  "interference_once": (
    "interference --order=once",
    "the same with frozen batches",
  ),
  "connectivity": ("connectivity", "section 3.2, future work there"),
  "input_dependent": ("input_dependent", "section 2, future work there"),
  "memory": ("memory", "introduction"),
}
"""{name of the files: (binary, what of the paper)}."""

_INTRODUCTION = """\
# The k-dropout paper, measured

Every table and figure of "K-Dropout" (Pauly and Bailey), each by one command.
The `cpu` scale is real CIFAR-10 mean-pooled to 16 x 16, 5,120 training images,
a 768-256-256-10 network and T = 2,400 steps; the paper's is 32 x 32, 50,000
images, 3072-2000-2000(-2000)-10 and T = 29,100. So its differences can be held
against the paper's, its levels cannot. A window cannot keep both its share of
the run and its epochs: tables give both. Rules and margins of the verdicts
stood in `experiments/shared/claims.py` before anything ran."""


def main(argv: list[str]) -> None:
  del argv
  folder = pathlib.Path(absl_flags.FLAGS.folder)
  folder.mkdir(parents=True, exist_ok=True)
  metrics.write_atomically(folder / "README.md", page(folder))
  print(f"{folder / 'README.md'} is written")


def page(folder: pathlib.Path) -> str:
  """Returns the page over what lies in `folder`."""
  found = {name: read(folder, name) for name in EXPERIMENTS}
  parts = [
    _INTRODUCTION,
    "## What was run",
    tables.text(
      ("experiment", "paper", "result", "scale", "seeds", "minutes", "device"),
      [_line(name, found[name], folder) for name in EXPERIMENTS],
    ),
    "## Beside the paper",
    "In points of test accuracy. The paper's values are read off its figures"
    " (+-0.3) and come from three hidden layers and frozen batches.",
    tables.text(("quantity", "paper", "ours"), beside_paper.rows(found)),
    *_frozen(found["sequential"]),
    *_speed(folder),
    "## Verdicts",
    tables.text(("claim", "verdict", "told by", "because"), _verdicts(found)),
    *_not_run(found),
  ]
  return "\n\n".join(parts) + "\n"


def read(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
  """Returns the numbers of an experiment, or None."""
  file = folder / f"{name}.json"
  return json.loads(file.read_text()) if file.exists() else None


def _line(name: str, found, folder: pathlib.Path) -> list[str]:
  binary, paper = EXPERIMENTS[name]
  command = f"`experiments.{binary}`"
  if found is None:
    return [command, paper, "not run", "", "", "", ""]
  page_file = folder / f"{name}.md"
  link = f"[{page_file.name}]({page_file.name})" if page_file.exists() else name
  seeds = found.get("seeds", "")
  count = str(len(seeds)) if isinstance(seeds, list) else str(seeds)
  facts = [str(found.get(key, "")) for key in ("scale", "minutes", "device")]
  return [command, paper, link, facts[0], count, *facts[1:]]


def _frozen(numbers: dict[str, Any] | None) -> list[str]:
  words = orders.summary(numbers["numbers"]["rows"]) if numbers else None
  if words is None:
    return []
  return [
    "## Why large m hurts in the authors' code",
    "Their batches are drawn once and frozen, images and rows (`once`); `rows`"
    " permutes the rows of frozen batches each epoch. " + words,
  ]


def _speed(folder: pathlib.Path) -> list[str]:
  """Cells an hour, of each scale that was timed."""
  names = ("bench_sweep_smoke", "bench_sweep_cpu")
  timed = [found for name in names if (found := read(folder, name))]
  if not timed:
    return []
  columns = ("scale", "cells_an_hour_sweep", "cells_an_hour_alone", "ratio")
  lines = [
    [
      found["scale"],
      *(f"{found[c]:,.0f}" for c in columns[1:3]),
      f"{found['ratio']:.1f}",
      str(found["cells_sweep"]),
      str(found["cells_alone"]),
      f"`{found['command']}`",
    ]
    for found in timed
  ]
  return [
    "## Speed of a sweep",
    "Cells an hour: trained side by side by a sweep, and one after another in"
    " fresh processes.",
    tables.text(
      (
        "scale",
        "sweep",
        "fresh processes",
        "ratio",
        "cells timed",
        "of them alone",
        "command",
      ),
      lines,
    ),
  ]


def _verdicts(found) -> list[list[str]]:
  lines = []
  for name, numbers in found.items():
    for verdict in (numbers or {}).get("verdicts", ()):
      claim = verdict["claim"]
      words = f"{claim['text']} ({claim['source']})"
      outcome = f"**{verdict['outcome']}**"
      lines.append([words, outcome, name, verdict["reason"]])
  return lines or [["none yet", "", "", ""]]


def _not_run(found) -> list[str]:
  """Names what nobody ran at the paper's scale, with the commands."""
  missing = [
    f"    python -m experiments.{EXPERIMENTS[name][0]} --scale=paper"
    for name, numbers in found.items()
    if (numbers or {}).get("scale") != "paper" and name != "deep"
  ]
  if not missing:
    return []
  return [
    "## Not run",
    "At the paper's scale, which needs an accelerator (`--depth=3` for the"
    " network of the authors' code):",
    "\n".join(missing),
  ]


if __name__ == "__main__":
  absl_flags.DEFINE_string(
    "folder", "docs/results/k-dropout", "where the numbers lie"
  )
  flags.launch(main)
