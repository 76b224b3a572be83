"""The paper's network at its own scale: figure 1's cells from a GPU's file.

  python -m experiments.paper_scale --publish=docs/results/k-dropout

Makes the runs of ``--runs`` finished cells of the folder, each checked against
its configuration and its hits, and judges, tables and draws them. It trains
nothing: half a minute, nearly all of it the bootstrap over seeds and images.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.cells import imported
from experiments.cells import rows as cell_rows
from experiments.judge import statistics
from experiments.k_dropout import claims
from experiments.k_dropout import paper_scale_figure
from experiments.k_dropout import paper_scale_words
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.report import tables

ORDERS = {
  "every_epoch": "reshuffled each epoch",
  "rows": "frozen, rows permuted",
  "once": "frozen (authors' code)",
}
"""{order of the batches: in words}."""

_SHORT = {"every_epoch": "reshuffled", "rows": "rows", "once": "frozen"}


def report(file: pathlib.Path, folder: pathlib.Path) -> study.Report:
  """Imports the runs of a file into a folder and returns what they say."""
  found = imported.read(file)
  imported.add(found, folder)
  cells = found.cells()
  rows = cell_rows.rows(cells, folder)
  hits = cell_rows.hits(cells, folder)
  before = found.made["chosen_before"]
  for number, (row, run) in enumerate(zip(rows, found.runs)):
    row["chosen_before"] = number < before
    row["test_loss"] = run.result["test_loss"][0]
  seen = paper_scale_words.afterwards(rows, hits)
  said = paper_scale_words.summary(rows, seen)
  return study.Report(
    name="paper_scale",
    title="The paper's network at the paper's scale",
    setting=_setting(found),
    table=table(rows, cells[0].batch_size),
    rows=rows,
    numbers={
      "made": found.made,
      "summary": said,
      "afterwards": [verdict.as_json() for verdict in seen],
    },
    claims=claims.named(*claims.TOLD["paper_scale"]),
    hits=hits,
    notes=[
      *said,
      *_provenance(found),
      _FEW,
      *paper_scale_words.contrasts_in_words(seen),
    ],
    draw=figures.drawing(paper_scale_figure.panels(rows), columns=2),
    made={name: found.made["every_run"][name] for name in _PASSPORT},
  )


_PASSPORT = ("device", "versions")


def table(rows: Sequence[rows_lib.Row], batch_size: int) -> tables.Table:
  """Returns a line a setting: accuracies by order, and minutes."""
  lines = []
  for same in rows_lib.group(
    sorted(rows, key=_place), "method", "k", "pool_size", "m"
  ).values():
    cells = rows_lib.group(same, "shuffle")
    minutes = [r["steps"] * batch_size / r["examples_per_second"] for r in same]
    lines.append(
      [
        _words(same[0]),
        f"{same[0]['num_subnets']:,}",
        *(_cell(cells.get((order,), [])) for order in ORDERS),
        *(_mean_loss(cells.get((order,), [])) for order in ORDERS),
        f"{sum(minutes) / 60 / len(cells):.2f}",
      ]
    )
  losses = (f"test loss, {words}" for words in _SHORT.values())
  header = ["dropout", "subnets", *ORDERS.values(), *losses]
  return [*header, "minutes of five runs"], lines


def _place(row: rows_lib.Row):
  kinds = ("none", "standard", "sequential", "pooled")
  return (
    kinds.index(row["method"]),
    -row.get("k", 0),
    row.get("pool_size", 0),
    -row.get("m", 0),
  )


def _words(row: rows_lib.Row) -> str:
  if row["method"] == "sequential":
    whole = " (the whole run)" if row["k"] == row["steps"] else ""
    return f"k = {row['k']:,}{whole}, m = {row['m']}"
  if row["method"] == "pooled":
    return f"pool of {row['pool_size']}, m = {row['m']}"
  return {"none": "none", "standard": "standard"}[row["method"]]


def _cell(same: Sequence[rows_lib.Row]) -> str:
  if not same:
    return "not run"
  mean, low, high = statistics.t_interval(
    np.array([r["accuracy"] for r in same])
  )
  star = "*" if all(r["chosen_before"] for r in same) else ""
  return f"{mean:.2f} [{low:.2f}, {high:.2f}]{star}"


def _mean_loss(same: Sequence[rows_lib.Row]) -> str:
  return f"{np.mean([r['test_loss'] for r in same]):.2f}" if same else ""


def _setting(found: imported.Runs) -> str:
  return (
    study.describe(found.runs[0].cell).partition("Accuracies")[0]
    + "Pixels (x / 255 - .5) / .5, rate .5, PyTorch's initialisation of Linear"
    " layers: the network of the authors' code. Test accuracy in percent, mean"
    " and 95 % t interval of five seeds; * a cell that was chosen before"
    " anything ran."
  )


def _provenance(found: imported.Runs) -> list[str]:
  made = found.made
  gaps = [abs(run.gap) for run in found.runs]
  return [
    f"Runs of {made['date']} at commit {made['commit']}, by {made['command']}."
    f" {made['dataset']}. Time: {made['minutes']}. Chosen:"
    f" {made['order_of_choosing']}.",
    f"Of {len(gaps)} accuracies {gaps.count(0)} are their hits' to the image;"
    f" {len(gaps) - gaps.count(0)} count one image of {made['num_images']:,}"
    " more (two programs, in TF32). Every cell's name is that of its"
    " configuration today.",
  ]


_FEW = (
  "A verdict below stands on the settings of this table alone: large m is m ="
  " 512, large k is T / 6 and T, pools ran with m = 8. The transition cannot be"
  " told: the smallest k here, 485, is behind already."
)


def main(argv: list[str]) -> None:
  del argv
  options = absl_flags.FLAGS
  file = pathlib.Path(options.runs)
  folder = pathlib.Path(options.workdir or "runs/k-dropout-paper")
  found = report(file, folder)
  made = imported.read(file)
  minutes = made.made["seconds_a_cell"] * len(made.runs) / 5 / 60
  study.write(
    found, folder, scale="paper", minutes=minutes, publish=options.publish
  )


if __name__ == "__main__":
  absl_flags.DEFINE_string(
    "runs", "docs/results/k-dropout/paper_depth3.jsonl", "the file of runs"
  )
  experiment_flags.define_results("paper")
  experiment.launch(main)
