"""Table 4 of the gyro dropout paper with ours beside it; what enters claims."""

import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.gyro import paper as paper_lib
from experiments.gyro.accuracy import measured
from experiments.report import figures
from experiments.report import study

CLAIMS = (
  "gyro_beats_conventional",
  "blockwise_is_not_worse",
  "blockwise_beats_conventional",
  "gap_is_smaller",
)

NOT_RUN = "not run"


def table(
  everything: Sequence[measured.Found],
) -> tuple[list[str], list[list[str]]]:
  """Returns header and rows of table 4."""
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
          study.points(accuracies / 100),
          minus_conventional(found, method, "accuracy"),
          f"{study.points(best / 100)}"
          f" (of {found.rows[method][0]['num_evaluations']})",
          minus_conventional(found, method, "best_accuracy"),
          paper,
        ]
      )
  return header, lines


def judged(
  everything: Sequence[measured.Found],
) -> tuple[list[measured.Row], list[Any]]:
  """Returns the rows that enter claims, and their cells."""
  pairs = [
    (row, cell)
    for found in everything
    for row, cell in zip(found.measured, found.cells)
    if measured.all_trained(row)
  ]
  return [row for row, _ in pairs], [cell for _, cell in pairs]


def draw(path: pathlib.Path, everything: Sequence[measured.Found]) -> None:
  """Draws each run of each row that was run."""
  panels = [
    figures.Panel(
      title=found.row.label,
      dots={m: found.values(m, "accuracy") for m in found.rows},
    )
    for found in everything
    if found.measured
  ]
  figures.draw(path, panels, columns=3)


def minus_conventional(found: measured.Found, method: str, name: str) -> str:
  """Returns a value's paired difference to conventional dropout, as text."""
  if method == measured.CONVENTIONAL:
    return ""
  return study.paired(found.differences(method, name))


def _subnets(rows: Sequence[measured.Row]) -> str:
  first = rows[0]
  text = f"{first['num_subnets']:,}"
  if measured.all_trained(first):
    return text
  return f"not all Sigma trained ({text} of {first['total']:,})"


def _paper_accuracy(label: str, method: str) -> str:
  values = paper_lib.TABLE_4.get(label, ())
  place = paper_lib.METHODS.index(method)
  if place >= len(values):
    return "-"
  return "{:.2f} +- {:.2f}".format(*values[place])
