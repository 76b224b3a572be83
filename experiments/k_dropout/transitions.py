"""From which window on one subnet at a time falls behind standard dropout.

At a fixed length of the run, the number of subnets and the epochs of a window
move together; runs of other lengths tell them apart.
"""

from collections.abc import Sequence

import numpy as np

from experiments.k_dropout import derived
from experiments.k_dropout import words
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import tables

Rows = Sequence[rows_lib.Row]


def table(rows: Rows) -> tables.Table:
  """Returns one row an order and k, one column a length of the run."""
  lengths = _lengths(rows)
  header = ["order", "k", *(f"T = {steps:,}" for steps in lengths)]
  lines = []
  for (shuffle,), same in rows_lib.group(rows, "shuffle").items():
    ks = sorted({row["k"] for row in same if row["method"] == "sequential"})
    for k in ("standard", *ks):
      cells = [
        [
          row["accuracy"]
          for row in same
          if row["steps"] == steps and k in (row["method"], row.get("k"))
        ]
        for steps in lengths
      ]
      shown = [columns.points(c) if c else "not run" for c in cells]
      lines.append([shuffle, str(k), *shown])
  return header, lines


def panels(rows: Rows, with_paper: bool) -> list[figures.Panel]:
  """Returns a panel an order, with a line a length of the run."""
  del with_paper  # It has no such points.
  found = []
  for (shuffle,), same in rows_lib.group(rows, "shuffle").items():
    chosen = [row for row in same if row["method"] == "sequential"]
    standard = [row for row in same if row["method"] == "standard"]
    found.append(
      figures.Panel(
        title=words.ORDERS[shuffle],
        x_label=words.STEPS,
        log_x=True,
        lines={
          f"T = {steps:,} steps": rows_lib.curve(own, "k")
          for (steps,), own in sorted(rows_lib.group(chosen, "steps").items())
        },
        levels={
          f"standard dropout, {steps:,} steps": value
          for (steps,), own in sorted(rows_lib.group(standard, "steps").items())
          for value in words.levels(own).values()
        },
      )
    )
  return found


def notes(rows: Rows) -> list[str]:
  """Returns a sentence an order and length: where it falls behind."""
  lengths, found = _lengths(rows), []
  if len(lengths) > 1:
    found.append("T: steps of a run; the setting above is the shortest runs'.")
  for steps in lengths:
    same = [row for row in rows if row["steps"] == steps]
    for (shuffle,) in rows_lib.group(same, "shuffle"):
      of = f", {steps:,} steps" if len(lengths) > 1 else ""
      text = _note(same, shuffle)
      if text:
        found.append(f"Transition (m = 1, batches: {shuffle}{of}): {text}")
  return found


def _note(rows: Rows, shuffle: str) -> str | None:
  at = derived.transition(rows, shuffle)
  own = ("sequential", 1, shuffle)
  ks = [r["k"] for r in rows if (r["method"], r.get("m"), r["shuffle"]) == own]
  if at is None:
    return None
  if at.k == min(ks):
    return (
      f"it cannot be told, since the smallest k that ran, {at.k:g}, is behind"
      " standard already."
    )
  place = f"k = {at.k:g}" if np.isfinite(at.k) else "no k"
  return (
    f"{place} is the smallest more than a point below standard; bootstrap over"
    f" seeds {at.low:g} to {at.high:g}, found in {at.found:.0%} of the"
    " resamples."
  )


def _lengths(rows: Rows) -> list[int]:
  return sorted({row["steps"] for row in rows})
