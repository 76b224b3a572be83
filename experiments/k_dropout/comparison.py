"""Our numbers beside the k-dropout paper's, one quantity a row."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.k_dropout import paper
from experiments.report import page as page_lib

NOT_RUN = page_lib.NOT_RUN


def rows(found: page_lib.Found) -> list[list[str]]:
  """Returns (quantity, paper, ours) for the paper's main numbers."""
  lines = [
    ["no dropout", _number(paper.FIGURE_1_LINES["none"]), _mean(found, "none")],
    [
      "standard dropout",
      _number(paper.FIGURE_1_LINES["standard"]),
      _mean(found, "standard"),
    ],
  ]
  for order in ("every_epoch", "once", "rows"):
    lines += _sequential(found, order)
  lines += _pools(found)
  lines += _subjects(found)
  lines.append(_u_shape(found))
  return lines


def _sequential(found: page_lib.Found, order: str) -> list[list[str]]:
  """One subnet, or few of many at a time, for the whole run."""
  standard = _mean_of(found, "sequential", method="standard", shuffle=order)
  table = paper.FIGURE_1_SEQUENTIAL
  theirs = paper.FIGURE_1_LINES["standard"]
  lines = []
  for words, at, value in (
    ("m = 1", min, table[1][-1] - theirs),
    ("largest m", max, table[512][-1] - theirs),
  ):
    own = None
    chosen = page_lib.rows(
      found, "sequential", method="sequential", shuffle=order
    )
    whole = [r for r in chosen if abs(r["k_over_T"] - 1) < 1e-9]
    if whole and standard is not None:
      m = at(r["m"] for r in whole)
      own = _average([r for r in whole if r["m"] == m]) - standard
    # The authors' batches were frozen: theirs is one order of ours.
    name = f"k = T, {words}, minus standard (batches: {order})"
    lines.append(
      [name, _signed(value if order == "once" else None), _signed(own)]
    )
  return [[a, b or "-", c or NOT_RUN] for a, b, c in lines]


def _pools(found: page_lib.Found) -> list[list[str]]:
  lines = []
  table = dict(
    zip(paper.FIGURE_1_POOL_SIZES, zip(*paper.FIGURE_1_POOLED.values()))
  )
  for size in (1, 10, 50, 200, 1000):
    standard = _mean_of(
      found, "pooled", method="standard", shuffle="every_epoch"
    )
    own = _mean_of(
      found, "pooled", method="pooled", shuffle="every_epoch", pool_size=size
    )
    theirs = np.mean(table[size]) - paper.FIGURE_1_LINES["standard"]
    ours = None if own is None or standard is None else own - standard
    name = f"pool of {size:,}, mean over m, minus standard"
    lines.append([name, _signed(theirs), _signed(ours) or NOT_RUN])
  return lines


def _subjects(found: page_lib.Found) -> list[list[str]]:
  lines = []
  for name, value in {**paper.FIGURE_6, **paper.FIGURE_7}.items():
    own = _mean_of(found, "ensembles", subject=name)
    words = name.replace("_", " ")
    lines.append([words, _number(value), _number(own) or NOT_RUN])
  return lines


def _u_shape(found: page_lib.Found) -> list[str]:
  theirs = [_u(values) for values in paper.FIGURE_3.values()]
  chosen = [
    r for r in page_lib.rows(found, "subnet_dynamics") if "u_shape" in r
  ]
  own = None
  if chosen:
    own = float(np.mean([r["u_shape"] for r in chosen]))
  name = "first and last sixth of the subnets minus the middle, mean over k"
  return [name, _signed(float(np.mean(theirs))) or "", _signed(own) or NOT_RUN]


def _u(values) -> float:
  sixth = max(1, len(values) // 6)
  ends = [*values[:sixth], *values[-sixth:]]
  return float(np.mean(ends) - np.mean(values[sixth:-sixth]))


def _mean(found: page_lib.Found, method: str) -> str:
  own = _mean_of(found, "sequential", method=method, shuffle="every_epoch")
  return _number(own) or NOT_RUN


def _mean_of(found: page_lib.Found, name: str, **fields: Any) -> float | None:
  chosen = page_lib.rows(found, name, **fields)
  return _average(chosen) if chosen else None


def _average(chosen) -> float:
  return float(np.mean([row["accuracy"] for row in chosen]))


def _formatted(form: str) -> Callable[[float | None], str | None]:
  return lambda value: None if value is None else form.format(value)


_number = _formatted("{:.1f}")
_signed = _formatted("{:+.1f}")
