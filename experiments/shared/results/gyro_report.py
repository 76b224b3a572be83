"""The report of ``sweep --grid=gyro``: figure 1 and tables 1, 2 and 6."""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.shared.reporting import figures
from experiments.shared.reporting import report
from experiments.shared.results import gyro_tables
from experiments.shared.studies import gyro_rows
from experiments.shared.sweeping import gyro_grid
from experiments.shared.sweeping import sweep_rows
from experiments.shared.sweeping import sweeps

Row = gyro_rows.Row

CLAIMS = (
  "best_total",
  "best_concurrent",
  "consecutive_beats_random",
  "consecutive_is_like_random",
  "wide_blocks_cost_nothing",
)


def page(
  cells: sweeps.Cells, folder: pathlib.Path, scale: str, minutes: float
) -> tuple[report.Report, list[figures.Panel]]:
  """Returns the report of the finished cells, and its figure's panels.

  Args:
    cells: of the grid.
    folder: where they are.
    scale: its name.
    minutes: that the grid took.
  """
  rows = gyro_rows.rows(cells, folder)
  hits = sweep_rows.hits(cells, folder)
  judged = gyro_rows.entering(rows)
  kept = [hits[i] for i, row in enumerate(rows) if gyro_rows.all_trained(row)]
  derived = gyro_rows.derived(rows)
  header, table = gyro_tables.figure_1(rows)
  return report.Report(
    name="gyro",
    title="Sweep: gyro (figure 1, tables 1, 2 and 6)",
    scale=scale,
    setting=setting(cells, scale),
    header=header,
    table=table,
    numbers={"rows": rows, "derived": derived},
    seeds=sorted({cell.seed for cell in cells}),
    verdicts=report.judge(
      CLAIMS,
      [*judged, *derived],
      scale=scale,
      hits=dict(enumerate(kept)),
    ),
    notes=notes(rows),
    minutes=minutes,
  ), panels(rows)


def setting(cells: sweeps.Cells, scale: str) -> str:
  """Returns what was trained, in sentences."""
  labels = ", ".join(gyro_grid.SIZES[scale].models)
  words = f"{labels}. {report.describe(cells[0])}"
  if scale == "paper":
    return words
  sizes = {
    cell.block_size: gyro_rows.block_of_1024(cell)
    for cell in cells
    if cell.pattern == "blocks"
  }
  return (
    "A stand-in for the paper's MLP1 on SVHN and LeNet and AlexNet on"
    f" CIFAR-100: {words} Blocks of {', '.join(map(str, sizes))} units keep the"
    f" ratio to the width of {', '.join(map(str, sizes.values()))} of 1024."
  )


def notes(rows: Sequence[Row]) -> list[str]:
  """Returns the further tables, with the paper's below them."""
  found = [
    "Nothing is selected: every cell is shown, and the claims compare means"
    " over cells that were named beforehand. The paper's tables 1 and 2 were"
    " searched and scored on one test set.",
    'A cell marked "not all Sigma trained" enters no claim. With random'
    " scheduling the subnets that were drawn are counted. Where tau subnets of"
    " so many rows do not fill the batch, each takes several groups: at tau = 2"
    " blocks of 32 and of 128 rows are the same run.",
  ]
  for (dataset, model), same in sweep_rows.group(
    rows, "dataset", "model"
  ).items():
    name = f"{model} on {dataset}"
    found += [
      f"## Table 1, {name}: Sigma and tau",
      gyro_tables.square(same),
      f"## Table 6, {name}: scheduling at equal Sigma and tau",
      gyro_tables.scheduling(same),
      f"## Table 2, {name}: shapes of blocks",
      gyro_tables.blocks(same),
    ]
  return found + ["## The paper's", *gyro_tables.of_the_paper()]


def panels(rows: Sequence[Row]) -> list[figures.Panel]:
  """Returns four panels a model: figure 1 and the three tables."""
  found = []
  for (dataset, model), same in sweep_rows.group(
    rows, "dataset", "model"
  ).items():
    levels = {
      method: float(np.mean(_accuracies(chosen)))
      for method in ("none", "conventional")
      if (chosen := gyro_rows.of_method(same, method))
    }
    gyro = gyro_rows.of_method(same, "gyro")
    consecutive = [row for row in gyro if gyro_rows.is_consecutive(row)]
    ones = gyro_rows.figure_1(same)
    with_random = {
      (row["total"], row["concurrent"])
      for row in gyro
      if row["scheduling"] == "random"
    }
    pairs = [r for r in gyro if (r["total"], r["concurrent"]) in with_random]
    found += [
      figures.Panel(
        title=f"{model}/{dataset}: figure 1",
        x_label="Sigma, with tau = min(256, Sigma)",
        log_x=True,
        lines={"gyro": _line(ones, "total")} if ones else {},
        levels=levels,
      ),
      figures.Panel(
        title="table 1",
        x_label="tau",
        log_x=True,
        lines=_lines(consecutive, ("total",), "concurrent"),
        levels=levels,
      ),
      figures.Panel(
        title="table 6",
        x_label="tau",
        log_x=True,
        lines=_lines(pairs, ("total", "scheduling"), "concurrent"),
        levels=levels,
      ),
      figures.Panel(
        title="table 2",
        x_label="units of a block, of 1024",
        log_x=True,
        lines=_lines(
          gyro_rows.of_method(same, "blockwise"),
          ("total", "concurrent", "rows_per_subnet"),
          "block_of_1024",
        ),
        levels=levels,
      ),
    ]
  return found


def _lines(rows: Sequence[Row], names: tuple[str, ...], by: str):
  words = {"total": "Sigma", "concurrent": "tau", "rows_per_subnet": "rows"}
  return {
    ", ".join(f"{words.get(n, n)} {v}" for n, v in zip(names, key)): _line(
      same, by
    )
    for key, same in sorted(sweep_rows.group(rows, *names).items())
    if len({row[by] for row in same}) > 1
  }


def _line(rows: Sequence[Row], by: str):
  """Returns x and values [n, S], NaN where a cell has fewer seeds."""
  places = {
    key[0]: _accuracies(same)
    for key, same in sweep_rows.group(rows, by).items()
  }
  x = sorted(places)
  values = np.full((len(x), max(map(len, places.values()))), np.nan)
  for i, place in enumerate(x):
    values[i, : len(places[place])] = places[place]
  return x, values


def _accuracies(rows: Sequence[Row]) -> list[float]:
  return [row["accuracy"] for row in rows]
