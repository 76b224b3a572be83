"""The report of a sweep: tables, figures and verdicts of a grid."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

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
from experiments.k_dropout import transitions
from experiments.k_dropout import words
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.report import tables

Rows = Sequence[rows_lib.Row]
_X_LABELS = {
  "k": words.STEPS,
  "pool_size": "subnets in the pool",
}
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
  view, depth = view_of(grid), cells[0].num_hidden or 0
  rows = view.prepare(cell_rows.rows(cells, folder), cells, folder)
  judged = view.judged(rows)
  if view.partners is not None:
    # Their cells, where they are there, for comparisons at equal P.
    partners = cell_rows.rows(grids.get(view.partners, scale, depth), folder)
    judged = [*judged, *(r for r in partners if r["method"] == view.partners)]
  derived = view.derived(judged)
  drawn = panels(grid, rows, scale, depth)
  return study.Report(
    name=grid,
    title=f"Sweep: {grid}",
    setting=study.describe(cells[0]),
    table=view.table(rows),
    rows=rows,
    numbers={"derived": derived},
    claims=claims.named(*claims.TOLD.get(grid, ())),
    judged=[*judged, *derived],
    hits=cell_rows.hits(cells, folder) if view.has_hits else None,
    notes=view.notes(rows),
    draw=figures.drawing(drawn, 3 if len(drawn) > 2 else len(drawn) or 1),
  )


@dataclasses.dataclass(frozen=True)
class View:
  """How a grid is shown and judged.

  Attributes:
    table: its table, from its rows.
    panels: of its figure, from its rows and whether the paper's points are
      drawn with them.
    notes: sentences on what was found.
    prepare: what its rows have besides, from rows, cells and folder.
    judged: the rows that claims are judged by.
    derived: values that several of these make together.
    partners: a grid whose cells are compared with its own.
    has_hits: whether single images are compared, too.
  """

  table: Callable[[Rows], tables.Table]
  panels: Callable[[Rows, bool], list[figures.Panel]]
  notes: Callable[[Rows], list[str]] = lambda rows: []
  prepare: Callable[..., list[rows_lib.Row]] = lambda rows, cells, folder: rows
  judged: Callable[[Rows], list[rows_lib.Row]] = list
  derived: Callable[[Rows], list[rows_lib.Row]] = lambda rows: []
  partners: str | None = None
  has_hits: bool = True


def view_of(grid: str) -> View:
  """Returns how a grid is shown: most are lists of their settings."""
  return _VIEWS.get(grid, _LIST)


def panels(
  grid: str, rows: Rows, scale: sizes.Scale, depth: int
) -> list[figures.Panel]:
  """Returns the panels of a grid's figure."""
  return view_of(grid).panels(rows, scale.name == "paper" and depth == 3)


def label(row: rows_lib.Row) -> str:
  """Returns a row's hyperparameters in words."""
  names = ("k", "pool_size", "m")
  if row["method"] == "pooled":
    names = ("pool_size", "m")
  found = [f"{n}={row[n]}" for n in names if row.get(n) is not None]
  if row["method"] != "none" and row["rate"] != 0.5:
    found.append(f"rate={row['rate']}")
  if row.get("partition"):
    found.append("disjoint")
  return " ".join(found)


def _list_panels(rows: Rows, with_paper: bool) -> list[figures.Panel]:
  del with_paper  # It has no such points.
  groups = rows_lib.group(rows, "shuffle")
  return [
    figures.Panel(
      title=words.ORDERS[shuffle],
      levels=words.levels(same),
      dots={
        f"{own[0]['method']} {label(own[0])}".strip(): _values(own)
        for own in rows_lib.group(same, *_SETTING).values()
      },
    )
    for (shuffle,), same in groups.items()
  ]


def _sequential_notes(rows: Rows) -> list[str]:
  """Returns sentences on the transition, and what frozen batches cost."""
  return transitions.notes(rows) + frozen_batches.notes(rows)


def _matrix(rows: Rows, method: str, by: str):
  """One row an order and k (or pool), one column an m."""
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


def _by_rate(rows: Rows):
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


def _line_panels(
  rows: Rows, with_paper: bool, method: str, by: str
) -> list[figures.Panel]:
  found = []
  for (shuffle,), same in rows_lib.group(rows, "shuffle").items():
    chosen = [row for row in same if row["method"] == method]
    groups = sorted(rows_lib.group(chosen, "m").items())
    found.append(
      figures.Panel(
        title=words.ORDERS[shuffle],
        x_label=_X_LABELS[by],
        log_x=True,
        run=_run(same) if by == "k" else None,
        lines={_at_a_time(m): rows_lib.curve(own, by) for (m,), own in groups},
        levels=words.levels(same),
        paper=_paper(method) if with_paper else {},
      )
    )
  return found


def _at_a_time(m: int) -> str:
  return f"{m} subnet{'s' if m > 1 else ''} at a time"


def _run(rows: Rows) -> int:
  return max(row["steps"] for row in rows)


def _paper(method: str) -> dict[str, Any]:
  if method == "sequential":
    x, lines = paper.FIGURE_1_KS, paper.FIGURE_1_SEQUENTIAL
  else:
    x = paper.FIGURE_1_POOL_SIZES
    lines = paper.FIGURE_1_POOLED
  return {f"paper: {_at_a_time(m)}": (x, y) for m, y in lines.items()}


def _rate_panels(rows: Rows, with_paper: bool) -> list[figures.Panel]:
  del with_paper
  lines = {}
  for (method,), same in rows_lib.group(rows, "method").items():
    if method == "none":
      continue
    name = f"{method} {label({**same[0], 'rate': 0.5})}".strip()
    lines[name] = rows_lib.curve(same, "rate")
  usual = [r for r in rows if r["method"] == "none" or r["rate"] == 0.5]
  panel = figures.Panel(
    title="each at its drop rate",
    x_label="rate (probability of dropping)",
    lines=lines,
    levels=words.levels(usual),
  )
  return [panel]


def _disjoint_panels(rows: Rows, with_paper: bool) -> list[figures.Panel]:
  del with_paper
  chosen = [row for row in rows if row["method"] == "sequential"]
  names = {True: "two disjoint subnets", False: "two independent subnets"}
  panel = figures.Panel(
    title="subnets that partition the units, or do not",
    x_label=_X_LABELS["k"],
    log_x=True,
    run=_run(rows),
    lines={
      names[partition]: rows_lib.curve(same, "k")
      for (partition,), same in rows_lib.group(chosen, "partition").items()
    },
    levels=words.levels(rows),
  )
  return [panel]


def _values(rows: Rows) -> list[float]:
  return [row["accuracy"] for row in rows]


def _mean(rows: Rows) -> str:
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


def _image_panels(rows: Rows, with_paper: bool) -> list[figures.Panel]:
  del with_paper
  return [image_counts.panel(rows)]


def _list_table(rows: Rows) -> tables.Table:
  return columns.table(rows, _SETTING, _COLUMNS)


def _lines(method: str, by: str) -> dict[str, Any]:
  """Returns what shows accuracies over k, or over the size of a pool."""
  own = dict(method=method, by=by)
  return dict(
    table=functools.partial(_matrix, **own),
    panels=functools.partial(_line_panels, **own),
  )


_LIST = View(_list_table, _list_panels)
_VIEWS: dict[str, View] = {
  "sequential": View(
    **_lines("sequential", "k"),
    notes=_sequential_notes,
    derived=derived_lib.derived,
  ),
  "transition": View(**_lines("sequential", "k"), notes=_sequential_notes),
  "transition_fine": View(
    transitions.table, transitions.panels, notes=transitions.notes
  ),
  "pooled": View(
    **_lines("pooled", "pool_size"),
    derived=derived_lib.derived,
    partners="sequential",
  ),
  "rate": View(_by_rate, _rate_panels),
  "chosen_rate": View(
    _by_rate,
    _rate_panels,
    notes=chosen.notes,
    prepare=chosen.with_held_out,
    judged=chosen.scored,
    has_hits=False,
  ),
  "image_counts": View(
    image_counts.table,
    _image_panels,
    notes=image_counts.notes,
    prepare=lambda rows, cells, folder: image_counts.rows(cells, folder),
    derived=image_counts.slopes,
  ),
  "disjoint": View(_list_table, _disjoint_panels),
}
"""{grid: how it is shown}; the others are lists."""
