"""The report of ``sweep --grid=gyro``: figure 1 and tables 1, 2 and 6."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.gyro import claims
from experiments.gyro import seen
from experiments.gyro.grid import cells as grid_cells
from experiments.gyro.grid import rows as grid_rows
from experiments.gyro.grid import tables as grid_tables
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

CLAIMS = (
  "best_total",
  "best_concurrent",
  "consecutive_beats_random",
  "consecutive_is_like_random",
  "wide_blocks_cost_nothing",
  *(claim.name for claim in seen.GRID),
)


def report(
  cells: sweeps.Cells, folder: pathlib.Path, scale: str
) -> study.Report:
  """Returns the report of the finished cells.

  Args:
    cells: of the grid.
    folder: where they are.
    scale: its name.
  """
  rows = grid_rows.rows(cells, folder)
  hits = cell_rows.hits(cells, folder)
  kept = [hits[i] for i, row in enumerate(rows) if grid_rows.all_trained(row)]
  return study.Report(
    name="gyro",
    title="Sweep: gyro (figure 1, tables 1, 2 and 6)",
    setting=setting(cells, scale),
    table=grid_tables.figure_1(rows),
    rows=rows,
    numbers={"derived": derived(rows)},
    claims=claims.named(*CLAIMS),
    judged=judged(rows),
    hits=dict(enumerate(kept)),
    notes=notes(rows),
    draw=figures.drawing(panels(rows), 2),
  )


def derived(rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns rows of values that several cells make together, for each seed."""
  return [
    *grid_rows.derived(rows),
    *seen.blocks(grid_rows.entering(rows)),
  ]


def judged(rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns what claims read: the rows that enter, in order, and derived."""
  return [*grid_rows.entering(rows), *derived(rows)]


def setting(cells: sweeps.Cells, scale: str) -> str:
  """Returns what was trained, in sentences."""
  labels = ", ".join(grid_cells.SIZES[scale].models)
  words = f"{labels}. {study.describe(cells[0])}"
  if scale == "paper":
    return words
  sizes = {
    cell.block_size: grid_rows.block_of_1024(cell)
    for cell in cells
    if cell.pattern == "blocks"
  }
  return (
    "A stand-in for the paper's MLP1 on SVHN and LeNet and AlexNet on"
    f" CIFAR-100: {words} Blocks of {', '.join(map(str, sizes))} units keep the"
    f" ratio to the width of {', '.join(map(str, sizes.values()))} of 1024."
  )


def notes(rows: Sequence[rows_lib.Row]) -> list[str]:
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
  for (dataset, model), same in rows_lib.group(
    rows, "dataset", "model"
  ).items():
    name = f"{model} on {dataset}"
    found += [
      *_totals(same),
      f"## Table 1, {name}: Sigma and tau",
      grid_tables.square(same),
      f"## Table 6, {name}: scheduling at equal Sigma and tau",
      grid_tables.scheduling(same),
      f"## Table 2, {name}: shapes of blocks",
      grid_tables.blocks(same),
    ]
  return found + ["## The paper's", *grid_tables.of_the_paper()]


def _totals(same: Sequence[rows_lib.Row]) -> list[str]:
  """Says what the smallest Sigma do to the claim on the best one."""
  found = grid_rows.derived(same)
  values = {
    name: [row[measure] for row in found if measure in row]
    for name in ("total", "any_total")
    for measure in [f"accuracy_inside_minus_outside_{name}"]
  }
  if not all(values.values()):
    return []
  low, high = grid_rows.INSIDE_TOTAL
  return [
    f"Figure 1's Sigma from {low} to {high:,} minus the others, means over"
    f" cells: {columns.paired(values['total'])} points from Sigma ="
    f" {grid_rows.ENOUGH} on, which the claim reads, and"
    f" {columns.paired(values['any_total'])} with the smaller ones, which alone"
    " decide that."
  ]


def panels(rows: Sequence[rows_lib.Row]) -> list[figures.Panel]:
  """Returns four panels a model: figure 1 and the three tables."""
  found = []
  for (dataset, model), same in rows_lib.group(
    rows, "dataset", "model"
  ).items():
    levels = {
      words: float(np.mean(_accuracies(chosen)))
      for method, words in _LEVELS.items()
      if (chosen := grid_rows.of_method(same, method))
    }
    gyro = grid_rows.of_method(same, "gyro")
    consecutive = [row for row in gyro if grid_rows.is_consecutive(row)]
    ones = grid_rows.figure_1(same)
    with_random = {
      (row["total"], row["concurrent"])
      for row in gyro
      if row["scheduling"] == "random"
    }
    pairs = [r for r in gyro if (r["total"], r["concurrent"]) in with_random]
    shared: dict[str, Any] = dict(
      log_x=True, levels=levels, y_range=_y_range(same)
    )
    found += [
      figures.Panel(
        title=f"{model} on {dataset}: how many subnets (figure 1)",
        x_label="subnets of the run, Sigma",
        lines={"gyro": rows_lib.curve(ones, "total")} if ones else {},
        **shared,
      ),
      figures.Panel(
        title="how many at a time (table 1)",
        x_label="subnets at a time, tau",
        lines=_lines(consecutive, ("total",), "concurrent"),
        **shared,
      ),
      figures.Panel(
        title="in turn or at random (table 6)",
        x_label="subnets at a time, tau",
        lines=_lines(pairs, ("total", "scheduling"), "concurrent"),
        **shared,
      ),
      figures.Panel(
        title="shape of the blocks (table 2)",
        x_label="units of a block, of 1,024",
        lines=_lines(
          grid_rows.of_method(same, "blockwise"),
          ("total", "concurrent", "rows_per_subnet"),
          "block_of_1024",
        ),
        **shared,
      ),
    ]
  return found


_LEVELS = {"none": "no dropout", "conventional": "conventional dropout"}


def _lines(rows: Sequence[rows_lib.Row], names: tuple[str, ...], by: str):
  words = {"total": "Sigma", "concurrent": "tau", "rows_per_subnet": "rows"}
  return {
    ", ".join(
      f"{words.get(n, n)} {v}" for n, v in zip(names, key)
    ): rows_lib.curve(same, by)
    for key, same in sorted(rows_lib.group(rows, *names).items())
    if len({row[by] for row in same}) > 1
  }


def _y_range(rows: Sequence[rows_lib.Row]) -> tuple[float, float]:
  """Returns what all but the smallest Sigma need, whose loss hides the rest."""
  values = [
    row["accuracy"]
    for row in rows
    if (row.get("total") or grid_rows.ENOUGH) >= grid_rows.ENOUGH
  ]
  return min(values) - 0.5, max(values) + 0.5


def _accuracies(rows: Sequence[rows_lib.Row]) -> list[float]:
  return [row["accuracy"] for row in rows]
