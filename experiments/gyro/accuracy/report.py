"""Table 4 of the gyro dropout paper with ours beside it; what enters claims."""

import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.cells import rows as cell_rows
from experiments.gyro import claims
from experiments.gyro import paper as paper_lib
from experiments.gyro import seen
from experiments.gyro.accuracy import measured
from experiments.gyro.accuracy import notes
from experiments.gyro.accuracy import settings
from experiments.gyro.accuracy import validity
from experiments.gyro.grid import rows as grid_rows
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.report import tables

CLAIMS = (
  "gyro_beats_conventional",
  "blockwise_is_not_worse",
  "blockwise_beats_conventional",
  "gap_is_smaller",
  *(claim.name for claim in seen.ACCURACY),
)

NOT_RUN = "not run"


def report(
  all_rows: Sequence[settings.TableRow], folder: pathlib.Path, scale: str
) -> study.Report:
  """Returns the report of the cells that are finished.

  Args:
    all_rows: of the scale.
    folder: of the cells.
    scale: its name.
  """
  everything = [measured.find(row, folder) for row in all_rows]
  entering, cells = judged(everything)
  rows = [row for found in everything for row in found.measured]
  return study.Report(
    name=name(scale),
    title="Accuracy and generalization gap: tables 4 and 5",
    setting="No dropout, conventional, gyro and block-wise dropout at the"
    " same settings. Accuracies in points, mean +- standard deviation over"
    " seeds.",
    table=table(everything),
    rows=rows,
    claims=claims.named(*CLAIMS),
    judged=with_derived(entering),
    hits=cell_rows.hits(cells, folder),
    void=validity.void(rows),
    notes=notes.notes(everything, scale),
    draw=figures.drawing(panels(rows)) if rows else None,
  )


def name(scale: str) -> str:
  """Returns the name of the files: longer runs stand beside the others."""
  return "accuracy_table" + ("_long" if scale == settings.LONG else "")


def table(everything: Sequence[measured.Found]) -> tables.Table:
  """Returns table 4."""
  header = ["row", "method", "subnets trained", "seeds", "test accuracy"]
  header += ["minus conventional", "best evaluation on the TEST set"]
  header += ["its best minus conventional's best", "paper"]
  lines = []
  for found in everything:
    for method in found.row.methods:
      paper = _paper_accuracy(found.row.label, method)
      line = [found.row.label, method]
      if method not in found.rows:
        lines.append([*line, "", "", NOT_RUN, "", "", "", paper])
        continue
      accuracies = found.values(method, "accuracy")
      best = found.values(method, "best_accuracy")
      lines.append(
        [
          *line,
          _subnets(found.rows[method]),
          str(accuracies.size),
          columns.points(accuracies),
          measured.minus_conventional(found, method, "accuracy"),
          f"{columns.points(best)}"
          f" (of {found.rows[method][0]['num_evaluations']})",
          measured.minus_conventional(found, method, "best_accuracy"),
          paper,
        ]
      )
  return header, lines


def judged(
  everything: Sequence[measured.Found],
) -> tuple[list[rows_lib.Row], list[Any]]:
  """Returns the rows that enter claims, and their cells."""
  pairs = [
    (row, cell)
    for found in everything
    for row, cell in zip(found.measured, found.cells)
    if enters(row)
  ]
  return [row for row, _ in pairs], [cell for _, cell in pairs]


def enters(row: rows_lib.Row) -> bool:
  """Returns whether a row enters claims: all its Sigma subnets trained."""
  return grid_rows.all_trained(row)


def with_derived(rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns the rows, and those of values that several cells make together."""
  return [*rows, *seen.best_epochs(rows)]


def panels(rows: Sequence[rows_lib.Row]) -> list[figures.Panel]:
  """Returns a panel a method: each seed's difference to conventional."""
  found = []
  for method, words in _AGAINST.items():
    dots = {}
    for (dataset, model), same in rows_lib.group(
      rows, "dataset", "model"
    ).items():
      own, base = (grid_rows.of_method(same, m) for m in (method, _BASE))
      dots[f"{model}, {dataset}"] = rows_lib.differences(own, base)
    found.append(
      figures.Panel(
        title=words,
        y_label="test accuracy minus conventional dropout's (points)",
        dots=dots,
        levels={"conventional dropout": 0.0},
      )
    )
  return found


_BASE = "conventional"
_AGAINST = {
  "none": "no dropout",
  "gyro": "gyro dropout",
  "blockwise": "block-wise gyro dropout",
}


def _subnets(rows: Sequence[rows_lib.Row]) -> str:
  first = rows[0]
  text = f"{first['num_subnets']:,}"
  if grid_rows.all_trained(first):
    return text
  return f"not all Sigma trained ({text} of {first['total']:,})"


def _paper_accuracy(label: str, method: str) -> str:
  values = paper_lib.TABLE_4.get(label, ())
  if method not in paper_lib.METHODS:
    return "-"
  place = paper_lib.METHODS.index(method)
  if place >= len(values):
    return "-"
  return "{:.2f} +- {:.2f}".format(*values[place])
