"""What the steps and products on a GPU are to reach, and a line for each.

Fixed before the runs: speed over the baseline of the same rows, medians of
ratios within a round, on one H200-class card.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

_FORCED = (" dense", " compact")  # steps that name what `auto` did not take


@dataclasses.dataclass(frozen=True)
class Reach:
  """A figure that rows are to reach.

  Attributes:
    text: what it is about.
    where: fields that its rows have.
    measure: the ratio (median, lowest, highest) that is compared.
    at_least: what its median is to be.
    containing: word that the candidate's name has; every such row counts.
  """

  text: str
  where: Mapping[str, Any]
  measure: str
  at_least: float
  containing: str = ""

  def rows(self, rows: Iterable[Row]) -> list[Row]:
    """Returns the rows that it is about."""
    return [
      row
      for row in rows
      if self.containing in row.get("candidate", "")
      and not row.get("candidate", "").endswith(_FORCED)
      and all(row.get(k) == v for k, v in self.where.items())
    ]


def _step(text: str, network: str, dtype: str, at_least: float, name: str):
  where = {"part": "step", "network": network, "dtype": dtype}
  return Reach(text, where, "over_conventional", at_least, name)


def _of_kdropout(dtype: str) -> list[Reach]:
  head = f"k-dropout network, {dtype}"
  return [
    *(
      _step(f"{head}, {name}, masks", "kdropout", dtype, 0.97, name)
      for name in ("gyro T=8", "sequential T=")
    ),
    _step(f"{head}, small T=1", "kdropout", dtype, 1.4, "small T=1"),
    _step(f"{head}, frozen", "kdropout", dtype, 1.75, "k=97 frozen"),
    _step(f"{head}, caught up", "kdropout", dtype, 1.6, "k=97 caught_up"),
  ]


def _product(text: str, shape: str, direction: str, at_least: float) -> Reach:
  where = {
    "part": "op", "shape": shape, "direction": direction, "rate": 0.5,
    "groups": 1, "block_size": 128, "dtype": "bfloat16",
  }  # fmt: skip
  return Reach(text, where, "over_matmul", at_least, "triton")


_WIDE = "4096-wide network"

REACHES = (
  *_of_kdropout("float32"),
  *_of_kdropout("bfloat16"),
  _step(f"{_WIDE}, small T=1", "wide", "bfloat16", 1.8, "small T=1"),
  _step(f"{_WIDE}, extracted", "wide", "bfloat16", 2.2, "k=97 frozen"),
  _step(
    f"{_WIDE}, block-wise T=8, blocks of 128",
    *("wide", "bfloat16", 1.4, "block-wise 128 gyro T=8"),
  ),
  _step(f"{_WIDE}, every schedule", "wide", "bfloat16", 0.97, ""),
  _product("forward, input mask", "square-4096-in", "forward", 1.45),
  _product("forward, both masks", "square-4096", "forward", 2.0),
  _product("three products, both", "square-4096", "forward+backward", 2.0),
)


def verdicts(rows: Iterable[Row]) -> list[str]:
  """Returns one line a reach: reached, missed by its worst row, or not run."""
  found = [row for row in rows if "error" not in row]
  return [_line(reach, reach.rows(found)) for reach in REACHES]


def _line(reach: Reach, rows: list[Row]) -> str:
  head = f"{reach.text}: at least {reach.at_least:g}"
  if not rows:
    return f"{head}: not run"
  worst = min(rows, key=lambda row: row[reach.measure][0])
  median, low, high = worst[reach.measure]
  outcome = "reached" if median >= reach.at_least else "MISSED"
  return (
    f"{head}: {outcome}, {median:.2f} [{low:.2f}, {high:.2f}]"
    f" ({worst['candidate']}"
    + (f", worst of {len(rows)})" if len(rows) > 1 else ")")
  )
