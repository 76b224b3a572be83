"""The report of a sweep: tables, figures and verdicts of a grid."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.k_dropout import chosen
from experiments.k_dropout import claims
from experiments.k_dropout import derived as derived_lib
from experiments.k_dropout import frozen_batches
from experiments.k_dropout import grids
from experiments.k_dropout import image_counts
from experiments.k_dropout import paper
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.report import tables

_BY = {
  "sequential": ("sequential", "k"),
  "transition": ("sequential", "k"),
  "transition_fine": ("sequential", "k"),
  "pooled": ("pooled", "pool_size"),
}
"""{grid: (method, what its figure has on x)}; the others are lists."""

_CHOSEN, _IMAGES = "chosen_rate", "image_counts"
ORDERS: dict[Any, str] = {
  "every_epoch": "batches reshuffled each epoch",
  "once": "frozen batches, as in the authors' code",
  "rows": "frozen batches, rows permuted",
}
"""{order of the batches: in words}."""

LEVELS = {"none": "no dropout", "standard": "standard dropout"}
"""{method: in words}, the lines that every panel has."""

_X_LABELS = {
  "k": "steps k that a subnet trains",
  "pool_size": "subnets in the pool",
}
_DERIVED = ("sequential", "pooled")
_SETTING = ("shuffle", "method", "k", "pool_size", "m", "rate", "partition")


def report(
  grid: str, cells: sweeps.Cells, folder: pathlib.Path, scale: sizes.Scale
) -> study.Report:
  """Returns the report of a finished grid.

  Args:
    grid: its name.
    cells: its cells.
    folder: of the sweep.
    scale: the size.
  """
  depth = cells[0].num_hidden or 0
  rows = cell_rows.rows(cells, folder)
  judged = rows
  if grid == "pooled":
    # Sequential cells, where they are there, for the comparison at equal P.
    partners = grids.get("sequential", scale, depth)
    others = cell_rows.rows(partners, folder)
    judged = rows + [r for r in others if r["method"] == "sequential"]
  if grid == _CHOSEN:
    rows = chosen.with_held_out(rows, cells, folder)
    judged = chosen.scored(rows)
  if grid == _IMAGES:
    rows = judged = image_counts.rows(cells, folder)
  derived = _derived(grid, judged)
  drawn = panels(grid, rows, scale, depth)
  return study.Report(
    name=grid,
    title=f"Sweep: {grid}",
    setting=study.describe(cells[0]),
    table=table(grid, rows),
    rows=rows,
    numbers={"derived": derived},
    claims=claims.named(*claims.TOLD.get(grid, ())),
    judged=[*judged, *derived],
    hits=None if grid == _CHOSEN else cell_rows.hits(cells, folder),
    notes=notes(rows, grid),
    draw=figures.drawing(drawn, 3 if len(drawn) > 2 else len(drawn) or 1),
  )


def _derived(grid: str, rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  if grid == _IMAGES:
    return image_counts.slopes(rows)
  return derived_lib.derived(rows) if grid in _DERIVED else []


def table(grid: str, rows: Sequence[rows_lib.Row]) -> tables.Table:
  """Returns a grid's table."""
  if grid in _BY:
    return _matrix(grid, rows)
  if grid in ("rate", _CHOSEN):
    return _by_rate(rows)
  if grid == _IMAGES:
    return image_counts.table(rows)
  return columns.table(rows, _SETTING, _COLUMNS)


def label(row: rows_lib.Row) -> str:
  """Returns a row's hyperparameters in words."""
  names = ("k", "pool_size", "m")
  if row["method"] == "pooled":
    names = ("pool_size", "m")
  words = [f"{n}={row[n]}" for n in names if row.get(n) is not None]
  if row["method"] != "none" and row["rate"] != 0.5:
    words.append(f"rate={row['rate']}")
  if row.get("partition"):
    words.append("disjoint")
  return " ".join(words)


def panels(
  grid: str, rows: Sequence[rows_lib.Row], scale: sizes.Scale, depth: int
) -> list[figures.Panel]:
  """Returns the panels of a grid's figure."""
  if grid in _BY:
    return _line_panels(
      grid, rows, with_paper=scale.name == "paper" and depth == 3
    )
  if grid in ("rate", _CHOSEN):
    return [_rate_panel(rows)]
  if grid == _IMAGES:
    return [image_counts.panel(rows)]
  if grid == "disjoint":
    return [_disjoint_panel(rows)]
  groups = rows_lib.group(rows, "shuffle")
  return [
    figures.Panel(
      title=ORDERS[shuffle],
      levels=levels(chosen),
      dots={
        f"{same[0]['method']} {label(same[0])}".strip(): _values(same)
        for same in rows_lib.group(chosen, *_SETTING).values()
      },
    )
    for (shuffle,), chosen in groups.items()
  ]


def notes(rows: Sequence[rows_lib.Row], grid: str) -> list[str]:
  """Returns sentences on the transition, and what frozen batches cost."""
  if grid == _CHOSEN:
    return chosen.notes(rows)
  if grid == _IMAGES:
    return image_counts.notes(rows)
  if grid not in ("sequential", "transition", "transition_fine"):
    return []
  found = []
  for (shuffle,) in rows_lib.group(rows, "shuffle"):
    at = derived_lib.transition(rows, shuffle)
    smallest = min((r["k"] for r in _of_one(rows, shuffle)), default=None)
    if at is not None and at.k == smallest:
      found.append(
        f"Transition (m = 1, batches: {shuffle}): it cannot be told, since the"
        f" smallest k that ran, {smallest:g}, is behind standard already."
      )
    elif at is not None:
      place = f"k = {at.k:g}" if np.isfinite(at.k) else "no k"
      found.append(
        f"Transition (m = 1, batches: {shuffle}): {place} is the smallest more"
        f" than a point below standard; bootstrap over seeds {at.low:g} to"
        f" {at.high:g}, found in {at.found:.0%} of the resamples."
      )
  return found + frozen_batches.notes(rows)


def _of_one(rows: Sequence[rows_lib.Row], shuffle: str) -> list[rows_lib.Row]:
  """Returns the sequential rows of one subnet at a time, in an order."""
  own = ("sequential", 1, shuffle)
  return [r for r in rows if (r["method"], r.get("m"), r["shuffle"]) == own]


def _matrix(grid: str, rows: Sequence[rows_lib.Row]):
  """One row an order and k (or pool), one column an m."""
  method, by = _BY[grid]
  chosen = [row for row in rows if row["method"] == method]
  ms = sorted({row["m"] for row in chosen})
  header = ["order", by]
  if by == "k":
    header += ["k / T", "epochs a window"]
  header += [f"m = {m}" for m in ms]
  lines = []
  for shuffle in dict.fromkeys(row["shuffle"] for row in rows):
    for name in ("none", "standard"):
      same = [r for r in rows if (r["method"], r["shuffle"]) == (name, shuffle)]
      if same:
        # In the first column of an m: they have none.
        before = [""] * (len(header) - 2 - len(ms))
        after = [""] * (len(ms) - 1)
        lines.append([shuffle, name, *before, _mean(same), *after])
    for value in sorted({r[by] for r in chosen if r["shuffle"] == shuffle}):
      cells = [
        [
          r
          for r in chosen
          if (r["shuffle"], r[by], r["m"]) == (shuffle, value, m)
        ]
        for m in ms
      ]
      line = [shuffle, f"{value:,}"]
      if by == "k":
        first = next(same for same in cells if same)[0]
        line += _window(first)
      lines.append(line + [_mean(same) for same in cells])
  return header, lines


def _by_rate(rows: Sequence[rows_lib.Row]):
  """One row a drop rate, one column a method; no dropout has rate 0."""
  columns, found = {}, {}
  for row in rows:
    rate = 0.0 if row["method"] == "none" else row["rate"]
    setting = label({**row, "rate": 0.5})  # The rate has its own column.
    name = f"{row['method']} {setting}".strip()
    columns[name] = None
    found.setdefault((rate, name), []).append(row)
  lines = []
  for rate in sorted({rate for rate, _ in found}):
    cells = [found.get((rate, name), ()) for name in columns]
    lines.append([f"{rate:g}", *(_mean(c) if c else "" for c in cells)])
  return ["drop rate", *columns], lines


def _line_panels(grid: str, rows, with_paper: bool) -> list[figures.Panel]:
  method, by = _BY[grid]
  found = []
  for (shuffle,), same in rows_lib.group(rows, "shuffle").items():
    chosen = [row for row in same if row["method"] == method]
    groups = sorted(rows_lib.group(chosen, "m").items())
    found.append(
      figures.Panel(
        title=ORDERS[shuffle],
        x_label=_X_LABELS[by],
        log_x=True,
        run=_run(same) if by == "k" else None,
        lines={_at_a_time(m): rows_lib.curve(own, by) for (m,), own in groups},
        levels=levels(same),
        paper=_paper(grid) if with_paper else {},
      )
    )
  return found


def levels(rows: Sequence[rows_lib.Row]) -> dict[str, float]:
  """Returns the means of no and standard dropout, where they ran."""
  return {
    words: float(np.mean(_values(same)))
    for name, words in LEVELS.items()
    if (same := [row for row in rows if row["method"] == name])
  }


def _at_a_time(m: int) -> str:
  return f"{m} subnet{'s' if m > 1 else ''} at a time"


def _run(rows: Sequence[rows_lib.Row]) -> int:
  return max(row["steps"] for row in rows)


def _paper(grid: str) -> dict[str, Any]:
  if grid == "sequential":
    x, lines = paper.FIGURE_1_KS, paper.FIGURE_1_SEQUENTIAL
  else:
    x = paper.FIGURE_1_POOL_SIZES
    lines = paper.FIGURE_1_POOLED
  return {f"paper: {_at_a_time(m)}": (x, y) for m, y in lines.items()}


def _rate_panel(rows) -> figures.Panel:
  lines = {}
  for (method,), same in rows_lib.group(rows, "method").items():
    if method == "none":
      continue
    name = f"{method} {label({**same[0], 'rate': 0.5})}".strip()
    lines[name] = rows_lib.curve(same, "rate")
  return figures.Panel(
    title="each at its drop rate",
    x_label="rate (probability of dropping)",
    lines=lines,
    levels=levels(
      [r for r in rows if r["method"] == "none" or r["rate"] == 0.5]
    ),
  )


def _disjoint_panel(rows) -> figures.Panel:
  chosen = [row for row in rows if row["method"] == "sequential"]
  words = {True: "two disjoint subnets", False: "two independent subnets"}
  return figures.Panel(
    title="subnets that partition the units, or do not",
    x_label=_X_LABELS["k"],
    log_x=True,
    run=_run(rows),
    lines={
      words[partition]: rows_lib.curve(same, "k")
      for (partition,), same in rows_lib.group(chosen, "partition").items()
    },
    levels=levels(rows),
  )


def _values(rows: Sequence[rows_lib.Row]) -> list[float]:
  return [row["accuracy"] for row in rows]


def _mean(rows: Sequence[rows_lib.Row]) -> str:
  return columns.points(_values(rows)) if rows else "not run"


def _window(row: rows_lib.Row) -> list[str]:
  """Returns k / T and epochs a window: scaling cannot keep both."""
  names = ("k_over_T", "epochs_per_window")
  return [f"{row[n]:.4g}" if n in row else "" for n in names]


_COLUMNS: dict[str, columns.Column] = {
  "order": columns.setting("shuffle"),
  "method": columns.setting("method"),
  "setting": lambda same: label(same[0]),
  "k / T": lambda same: _window(same[0])[0],
  "epochs a window": lambda same: _window(same[0])[1],
  "steps": columns.setting("steps", "{:,}"),
  "subnets": columns.setting("num_subnets", "{:,}"),
  "test accuracy": _mean,
}
