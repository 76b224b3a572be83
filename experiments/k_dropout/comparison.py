"""Our numbers beside the k-dropout paper's, one quantity a row."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.k_dropout import paper
from experiments.report import page as page_lib

NOT_RUN = page_lib.NOT_RUN


AT_PAPER_SCALE = "paper_scale"
"""The experiment whose runs have the paper's network and length."""


def rows(found: page_lib.Found) -> list[list[str]]:
  """Returns (quantity, paper, ours, ours at the paper's scale)."""
  theirs = paper.FIGURE_1_LINES
  lines = [
    [
      words,
      _number(theirs[method]),
      *(
        _number(_mean_of(found, name, method=method, shuffle="every_epoch"))
        for name in ("sequential", AT_PAPER_SCALE)
      ),
    ]
    for words, method in (
      ("no dropout", "none"),
      ("standard dropout", "standard"),
    )
  ]
  for order in ("every_epoch", "once", "rows"):
    lines += _sequential(found, order)
  lines += _pools(found)
  lines += _subjects(found)
  lines.append(_u_shape(found))
  return [
    [words, theirs or "-", *(own or NOT_RUN for own in ours)]
    for words, theirs, *ours in lines
  ]


Line = list[str | None]


def _sequential(found: page_lib.Found, order: str) -> list[Line]:
  """One subnet, or few of many at a time, for the whole run."""
  table = paper.FIGURE_1_SEQUENTIAL
  theirs = paper.FIGURE_1_LINES["standard"]
  lines: list[Line] = []
  for words, at, value in (
    ("m = 1", min, table[1][-1] - theirs),
    ("largest m", max, table[512][-1] - theirs),
  ):
    # The authors' batches were frozen: theirs is one order of ours.
    name = f"k = T, {words}, minus standard (batches: {order})"
    ours = [
      _signed(_whole_run(found, source, order, at))
      for source in ("sequential", AT_PAPER_SCALE)
    ]
    lines.append([name, _signed(value if order == "once" else None), *ours])
  return lines


def _whole_run(
  found: page_lib.Found, name: str, order: str, at: Callable[[Any], int]
) -> float | None:
  """Returns k = T minus standard dropout, at the smallest or largest m."""
  standard = _mean_of(found, name, method="standard", shuffle=order)
  chosen = page_lib.rows(found, name, method="sequential", shuffle=order)
  whole = [r for r in chosen if abs(r["k_over_T"] - 1) < 1e-9]
  if not whole or standard is None:
    return None
  m = at(r["m"] for r in whole)
  return _average([r for r in whole if r["m"] == m]) - standard


def _pools(found: page_lib.Found) -> list[Line]:
  table = dict(
    zip(paper.FIGURE_1_POOL_SIZES, zip(*paper.FIGURE_1_POOLED.values()))
  )
  lines: list[Line] = []
  for size in (1, 10, 50, 200, 1000):
    theirs = np.mean(table[size]) - paper.FIGURE_1_LINES["standard"]
    ours = [
      _signed(_pool(found, name, size)) for name in ("pooled", AT_PAPER_SCALE)
    ]
    name = f"pool of {size:,}, mean over m, minus standard"
    lines.append([name, _signed(theirs), *ours])
  return lines


def _pool(found: page_lib.Found, name: str, size: int) -> float | None:
  """Returns a pool minus standard dropout, over all m that were run."""
  own = {"shuffle": "every_epoch"}
  standard = _mean_of(found, name, method="standard", **own)
  pool = _mean_of(found, name, method="pooled", pool_size=size, **own)
  return None if pool is None or standard is None else pool - standard


def _subjects(found: page_lib.Found) -> list[Line]:
  return [
    [
      name.replace("_", " "),
      _number(value),
      _number(_mean_of(found, "ensembles", subject=name)),
      None,
    ]
    for name, value in {**paper.FIGURE_6, **paper.FIGURE_7}.items()
  ]


def _u_shape(found: page_lib.Found) -> Line:
  theirs = [_u(values) for values in paper.FIGURE_3.values()]
  # The paper's shares of the run, T / 12 and T / 6, and no others.
  shares = [k / paper.FIGURE_1_KS[-1] for k in paper.FIGURE_3]
  chosen = [
    row["u_shape"]
    for row in page_lib.rows(found, "subnet_dynamics")
    if "u_shape" in row and np.isclose(row["k_over_T"], shares, rtol=1e-3).any()
  ]
  own = float(np.mean(chosen)) if chosen else None
  name = "first and last sixth of the subnets minus the middle, mean over k"
  return [name, _signed(float(np.mean(theirs))), _signed(own), None]


def _u(values) -> float:
  sixth = max(1, len(values) // 6)
  ends = [*values[:sixth], *values[-sixth:]]
  return float(np.mean(ends) - np.mean(values[sixth:-sixth]))


def _mean_of(found: page_lib.Found, name: str, **fields: Any) -> float | None:
  chosen = page_lib.rows(found, name, **fields)
  return _average(chosen) if chosen else None


def _average(chosen) -> float:
  return float(np.mean([row["accuracy"] for row in chosen]))


def _formatted(form: str) -> Callable[[float | None], str | None]:
  return lambda value: None if value is None else form.format(value)


_number = _formatted("{:.1f}")
_signed = _formatted("{:+.1f}")
