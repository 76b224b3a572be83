"""Writes the page over a paper's results from the numbers that lie there.

  python -m experiments.results_page --paper=gyro

Every experiment leaves its numbers by ``--publish=docs/results/gyro``
(k-dropout, foundations); what left none says "not run". A second or two. The
page judges all numbers by the rules of today; ``--again`` writes those verdicts
into the numbers and pages of the experiments, too, where the old ones stay,
dated, and ``--draw`` draws their figures again.
"""

import pathlib
from collections.abc import Callable

import numpy as np
from absl import flags as absl_flags

from experiments.foundations import page as foundations_page
from experiments.gyro import diversity
from experiments.gyro import page as gyro_page
from experiments.gyro.accuracy import report as accuracy
from experiments.gyro.grid import report as grid
from experiments.gyro.guided import report as guided_report
from experiments.gyro.tickets import pruning
from experiments.k_dropout import connectivity
from experiments.k_dropout import dynamics
from experiments.k_dropout import ensembles
from experiments.k_dropout import input_dependent
from experiments.k_dropout import interference
from experiments.k_dropout import mc_dropout
from experiments.k_dropout import memory
from experiments.k_dropout import page as k_dropout_page
from experiments.k_dropout import paper_scale_figure
from experiments.k_dropout import restarts
from experiments.k_dropout import sizes
from experiments.k_dropout import subnet_tables
from experiments.k_dropout import sweep
from experiments.k_dropout import tickets
from experiments.report import again
from experiments.report import figures
from experiments.report import page
from experiments.run import flags
from kdropout_jax.training import files

PAPERS = {
  "k-dropout": k_dropout_page.PAPER,
  "gyro": gyro_page.PAPER,
  "foundations": foundations_page.PAPER,
}


def main(argv: list[str]) -> None:
  del argv
  name = absl_flags.FLAGS.paper
  folder = pathlib.Path(absl_flags.FLAGS.folder or f"docs/results/{name}")
  folder.mkdir(parents=True, exist_ok=True)
  if absl_flags.FLAGS.again:
    _again(PAPERS[name], folder)
  if absl_flags.FLAGS.draw:
    _draw(name, folder)
  text = page.text(PAPERS[name], folder)
  files.write_atomically(folder / "README.md", text)
  print(f"{folder / 'README.md'} is written")


def _sweep(numbers: again.Numbers) -> list[figures.Panel]:
  rows = numbers["numbers"]["rows"]
  scale = sizes.SCALES[numbers["scale"]]
  return sweep.panels(numbers["name"], rows, scale, rows[0]["num_hidden"])


def _restarts(numbers: again.Numbers) -> list[figures.Panel]:
  rows, scale = numbers["numbers"]["rows"], sizes.SCALES[numbers["scale"]]
  return [restarts.panel(rows, scale, rows[0]["num_hidden"])]


def _dynamics(numbers: again.Numbers) -> Callable[[pathlib.Path], None]:
  scale, own = sizes.SCALES[numbers["scale"]], numbers["numbers"]

  def boxes(one):
    found = {n: np.array(one[n]) for n in ("full", "trained", "random")}
    return dynamics.Boxes(**found)

  found = {
    label: [
      dynamics.Followed(
        cell=scale.config(method="sequential", m=1, k=one["k"]),
        seeds=numbers["seeds"],
        num_steps=one["steps"][-1],
        watched=one["watched"],
        steps=tuple(one["steps"]),
        curves=np.array(one["curves"]),
        boxes=boxes(one),
      )
      for one in many
    ]
    for label, many in own["followed"].items()
  }
  references = {name: boxes(one) for name, one in own["references"].items()}
  return lambda path: dynamics.draw(path, found, references, False)


def _of_rows(panels, columns: int = 2):
  return lambda numbers: figures.drawing(
    panels(numbers["numbers"]["rows"]), columns
  )


def _connectivity(numbers: again.Numbers) -> list[figures.Panel]:
  rows = numbers["numbers"]["rows"]
  return connectivity.panels(rows, max(row["step"] for row in rows))


_FIGURES = {
  "k-dropout": {
    **dict.fromkeys(
      (
        *("sequential", "pooled", "transition", "transition_fine", "deep"),
        *("rate", "chosen_rate", "image_counts", "disjoint"),
      ),
      lambda numbers: figures.drawing(_sweep(numbers), 3),
    ),
    "restarts": lambda numbers: figures.drawing(_restarts(numbers)),
    "paper_scale": _of_rows(paper_scale_figure.panels),
    "subnet_dynamics": _dynamics,
    **dict.fromkeys(
      ("interference", "interference_once"), _of_rows(interference.panels)
    ),
    "ensembles": ensembles.drawn,
    "input_dependent": input_dependent.drawn,
    "memory": lambda numbers: figures.drawing(
      [memory.panel(numbers["measured"])]
    ),
    "subnet_counts": lambda numbers: figures.drawing(
      [subnet_tables.panel(numbers["pooled"])]
    ),
    "mc_dropout": _of_rows(mc_dropout.panels),
    "tickets": _of_rows(tickets.panels),
    "connectivity": lambda numbers: figures.drawing(_connectivity(numbers), 4),
  },
  "gyro": {
    "gyro": _of_rows(grid.panels),
    **dict.fromkeys(
      ("accuracy_table", "accuracy_table_long"), _of_rows(accuracy.panels, 3)
    ),
    "pruning": _of_rows(pruning.panels),
    "diversity": _of_rows(diversity.panels),
    "guided": _of_rows(guided_report.schedule_panels, 3),
    "guided_tasks": _of_rows(guided_report.task_panels),
  },
}
"""{paper: {name of the files: from numbers to what draws them}}."""


def _draw(paper: str, folder: pathlib.Path) -> None:
  for name, drawn in _FIGURES[paper].items():
    numbers = page.read(folder, name)
    if numbers is not None:
      drawn(numbers)(folder / f"{name}.png")
      print(f"{name}.png is drawn")


def _again(paper: page.Paper, folder: pathlib.Path) -> None:
  for name in paper.experiments:
    revised = again.write(
      folder / f"{name}.json", paper.claims, paper.sources.get(name), paper.why
    )
    for old in revised:
      print(f"{name}: {old['claim']} was: {old['outcome']}")


if __name__ == "__main__":
  absl_flags.DEFINE_enum("paper", "k-dropout", list(PAPERS), "whose results")
  absl_flags.DEFINE_string(
    "folder", None, "where the numbers lie; default docs/results/PAPER"
  )
  absl_flags.DEFINE_bool(
    "again", False, "also write today's verdicts into the experiments' files"
  )
  absl_flags.DEFINE_bool(
    "draw", False, "also draw figures again from the numbers"
  )
  flags.launch(main)
