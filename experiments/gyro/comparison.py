"""Our numbers beside the gyro dropout paper's, one row or quantity a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.gyro import paper as paper_lib
from experiments.gyro.accuracy import settings
from experiments.gyro.grid import rows as grid_rows
from experiments.report import columns
from experiments.report import page as page_lib
from experiments.report import rows as rows_lib

_METHODS = ("gyro", "blockwise")
_OWN_SPLIT = ("KDDCup99/MLP3", "UNSW-NB15/MLP3")

HEADER = (
  *("row", "gyro - conventional", "paper"),
  *("block-wise - conventional", "paper"),
  *("gap, gyro - conventional", "paper"),
)


def rows(found: page_lib.Found) -> list[list[str]]:
  """Returns tables 4 and 5 as paired differences to conventional dropout."""
  lines = []
  for row in settings.rows("paper"):
    own = page_lib.rows(found, "accuracy_table", **row.names)
    label = row.label
    line = [f"{label}, own split" if label in _OWN_SPLIT else label]
    for method in _METHODS:
      theirs = _paper(paper_lib.TABLE_4.get(label, ()), method, mean=True)
      line += [_ours(own, method, "accuracy"), _signed(theirs)]
    theirs = _paper(paper_lib.TABLE_5.get(label, ()), "gyro")
    line += [_ours(own, "gyro", "generalization_gap"), _signed(theirs, 1)]
    lines.append(line)
  return lines


def quantities(found: page_lib.Found) -> list[list[str]]:
  """Returns (quantity, paper, ours) of the other tables and figures."""
  return [
    *_grid(page_lib.rows(found, "gyro")),
    *_analysis(found),
    *_speed(found.get("throughput")),
  ]


def _grid(own: Sequence[rows_lib.Row]) -> list[list[str]]:
  """Figure 1, tables 1, 6 and 2, where all Sigma trained."""
  own = grid_rows.entering(own)
  cells = [row for row in own if grid_rows.is_consecutive(row)]
  fixed = _at(rows_lib.means(grid_rows.figure_1(cells), "total"), "Sigma")
  best = _at(rows_lib.means(cells, "total", "concurrent"), "Sigma", "tau")
  halves = [
    rows_lib.means(
      [r for r in own if _is_scheduled(r, name)], "total", "concurrent"
    )
    for name in ("consecutive", "random")
  ]
  both = halves[0].keys() & halves[1].keys()
  ours = [halves[0][key] - halves[1][key] for key in both]
  theirs = [
    value - paper_lib.TABLE_6[name][total][paper_lib.TABLE_6_TAUS.index(tau)]
    for name, (total, tau, value) in paper_lib.TABLE_6_CONSECUTIVE.items()
  ]
  blocks = rows_lib.means(
    grid_rows.of_method(own, "blockwise"),
    *("block_of_1024", "rows_per_subnet", "total", "concurrent"),
  )
  wide = [
    blocks[key] - blocks[16, *key[1:]]
    for key in blocks
    if key[0] == 32 and (16, *key[1:]) in blocks
  ]
  papers_wide = [
    a - b
    for tau in paper_lib.TABLE_2[32]
    for a, b in zip(paper_lib.TABLE_2[32][tau], paper_lib.TABLE_2[16][tau])
  ]
  return [
    [
      "best Sigma at tau = min(256, Sigma), where all Sigma trained",
      "128 to 2,048",
      fixed,
    ],
    ["best Sigma and tau of the square", "256 to 1,024, 8 to 16", best],
    [
      "consecutive minus random at equal Sigma and tau, range over cells",
      _range(theirs),
      _range(ours),
    ],
    [
      "blocks of 32 minus blocks of 16 (of 1,024), range over cells",
      _range(papers_wide),
      _range(wide),
    ],
  ]


def _analysis(found: page_lib.Found) -> list[list[str]]:
  """Figures 5 and 6."""
  lines = []
  gains = [
    row
    for row in page_lib.rows(found, "diversity", method="gyro")
    if row["subnets"] == "last epoch" and row["gain"] is not None
  ]
  groups = rows_lib.group(gains, "row") or {("",): []}
  for (label,), same in groups.items():
    name = "feature distance above conventional dropout's (%)"
    ours = f"{np.mean([r['gain'] for r in same]):+.1f}" if same else ""
    lines.append(
      [f"{name}, {label}" if label else name, "+21.9", ours or page_lib.NOT_RUN]
    )
  lines += _disagreements(
    page_lib.rows(found, "diversity", subnets="last epoch")
  )
  means = rows_lib.means(
    [
      row
      for row in page_lib.rows(found, "pruning", kind="weights")
      if row["percent_left"] in (20, 10, 5)
    ],
    *("row", "percent_left", "method"),
  )
  pairs = [
    mean - means[*key[:2], "conventional"]
    for key, mean in means.items()
    if key[2] == "gyro"
  ]
  won = f"{sum(d > 0 for d in pairs)} of {len(pairs)}"
  lines.append(
    [
      "tickets of 20, 10 and 5 % of the weights that are better with gyro",
      "26 of 42",
      won if pairs else page_lib.NOT_RUN,
    ]
  )
  return lines


def _disagreements(own: Sequence[rows_lib.Row]) -> list[list[str]]:
  """How often two subnets of the last epoch name an image differently."""
  return [
    [
      f"pairs of subnets that disagree, gyro - conventional (points), {label}",
      "-",
      _ours(
        [row | {"disagreement": 100 * row["disagreement"]} for row in same],
        "gyro",
        "disagreement",
      ),
    ]
    for (label,), same in rows_lib.group(own, "row").items()
  ]


def _speed(timed: Any) -> list[list[str]]:
  """Figure 7: medians over rounds, from the slowest network to the fastest."""
  rows = [
    row
    for row in (timed or {}).get("iterations", ())
    if row["method"] == "blockwise" and row["speedup_percent"] is not None
  ]
  lines = []
  for part, (low, *high) in paper_lib.FIGURE_7.items():
    phase = part if part in ("forward", "backward") else "iteration"
    same = [
      row
      for row in rows
      if row["phase"] == phase
      and (row["part"] == part or part == phase and row["part"] in _MLPS)
    ]
    medians = [
      float(np.median([row["speedup_percent"] for row in own]))
      for own in rows_lib.group(same, "model").values()
    ]
    theirs = f"{low:+g}" + "".join(f" to {value:+g}" for value in high)
    name = (
      f"block-wise over conventional, {part.replace('_', ' ')} (%, medians)"
    )
    lines.append([name, theirs, _range(medians, 1)])
  return lines


_MLPS = ("mlp", "packet_mlp")


def _is_scheduled(row: rows_lib.Row, name: str) -> bool:
  return row["method"] == "gyro" and row["scheduling"] == name


def _at(means: dict[Any, float], *names: str) -> str:
  """Returns where the highest mean is, in words."""
  if not means:
    return page_lib.NOT_RUN
  best = max(means, key=lambda key: means[key])
  words = ", ".join(f"{n} = {v:,}" for n, v in zip(names, best))
  return f"{words} ({means[best]:.2f})"


def _ours(own: Sequence[rows_lib.Row], method: str, measure: str) -> str:
  """Returns a method's paired difference to conventional dropout."""
  differences = rows_lib.differences(
    grid_rows.of_method(own, method),
    grid_rows.of_method(own, "conventional"),
    measure,
  )
  return columns.paired(differences) if differences.size else page_lib.NOT_RUN


def _paper(values: Sequence[Any], method: str, mean: bool = False):
  """Returns a method's value minus conventional dropout's, or None."""
  place = paper_lib.METHODS.index(method)
  if place >= len(values):
    return None
  value, base = values[place], values[paper_lib.METHODS.index("conventional")]
  return value[0] - base[0] if mean else value - base


def _signed(value: float | None, digits: int = 2) -> str:
  return "-" if value is None else f"{value:+.{digits}f}"


def _range(values: Sequence[float], digits: int = 2) -> str:
  if not values:
    return page_lib.NOT_RUN
  low, high = (f"{v:+.{digits}f}" for v in (min(values), max(values)))
  return low if low == high else f"{low} to {high}"
