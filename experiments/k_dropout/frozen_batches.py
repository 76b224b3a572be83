"""What frozen batches do: the batch that stays, or the tie of a row to a mask.

The authors' code draws its batches once. With `once` a batch keeps its images
and each image its row, so that at large k an image trains with one mask only;
with `rows` the batch keeps its images and the rows are permuted each epoch;
with `every_epoch` nothing stays. Each step of the three changes one thing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.judge import statistics
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import tables


class Effect(NamedTuple):
  """What an order costs a setting, in points below standard dropout.

  Attributes:
    k: steps of a window.
    m: subnets side by side.
    tie: by how much `once` falls further behind than `rows`: each image tied
      to its mask.
    batch: by how much `rows` falls further behind than `every_epoch`: the
      images of a batch frozen.
  """

  k: float
  m: int
  tie: statistics.Interval
  batch: statistics.Interval


def effects(rows: Sequence[rows_lib.Row]) -> list[Effect]:
  """Returns both effects for every setting that ran in all three orders.

  Deficits to standard dropout in the same order and of the same seed, so that
  what an order does to any training cancels.

  Args:
    rows: of a sequential grid.
  """
  table = {_place(row): row["accuracy"] for row in rows}
  standard = {
    (row["shuffle"], row["seed"]): row["accuracy"]
    for row in rows
    if row["method"] == "standard"
  }
  found = []
  settings = {(r["k"], r["m"]) for r in rows if r["method"] == "sequential"}
  for k, m in sorted(settings):

    def deficits(order: str, k=k, m=m) -> dict[int, float]:
      return {
        seed: value - table[(shuffle, k, m, seed)]
        for (shuffle, seed), value in standard.items()
        if shuffle == order and (shuffle, k, m, seed) in table
      }

    once, frozen, free = map(deficits, ("once", "rows", "every_epoch"))
    seeds = sorted(once.keys() & frozen.keys() & free.keys())
    if len(seeds) > 1:
      tie = np.array([once[s] - frozen[s] for s in seeds])
      batch = np.array([frozen[s] - free[s] for s in seeds])
      intervals = (
        statistics.t_interval(tie),
        statistics.t_interval(batch),
      )
      found.append(Effect(k, m, *intervals))
  return found


def notes(rows: Sequence[rows_lib.Row]) -> list[str]:
  """Returns a sentence and a table of the effects, or nothing."""
  found = effects(rows)
  if not found:
    return []
  return [
    "Which part of frozen batches costs accuracy? Points further below standard"
    " dropout of the same order and seed, mean and 95 % t interval: with each"
    " image tied to its mask (`once` against `rows`), and with the images of a"
    " batch frozen (`rows` against `every_epoch`).",
    tables.text(
      ("k", "m", "image tied to its mask", "batch frozen"),
      [
        (
          f"{e.k:,g}",
          str(e.m),
          columns.interval(e.tie),
          columns.interval(e.batch),
        )
        for e in found
      ],
    ),
  ]


def summary(rows: Sequence[rows_lib.Row]) -> str | None:
  """Returns what the longest window with most subnets says, in words.

  A cause is named only where there is what it would cause: with batches frozen
  as the authors' are, many subnets below one.
  """
  found = effects(rows)
  if not found:
    return None
  last = max(found, key=lambda e: (e.k, e.m))
  said = (
    f"At k = {last.k:,g} and m = {last.m} the tie of an image to its mask costs"
    f" {columns.interval(last.tie)} points, the frozen batch"
    f" {columns.interval(last.batch)} (95 % t intervals, deficits to standard"
    " dropout of the same order)"
  )
  lost = _lost_by_many(rows, last.k, last.m)
  if lost.size < 2:
    return f"{said}; whether large m hurts there was not run."
  hurts = statistics.t_interval(lost)
  if hurts.low <= 0:
    return (
      f"{said}. That is exploratory: large m does not hurt here. Frozen, one"
      f" subnet at a time minus {last.m} is {columns.interval(hurts)} points,"
      " so nothing is named as the cause."
    )
  causes = {
    "the tie of an image to its mask": last.tie,
    "the frozen batch": last.batch,
  }
  costly = [name for name, interval in causes.items() if interval.low > 0]
  harm = " and ".join(costly) or "neither, as far as these seeds tell,"
  return f"{said}: what makes large m hurt at large k is {harm}" + (
    "." if costly else " of the two."
  )


def _lost_by_many(
  rows: Sequence[rows_lib.Row], k: float, m: int
) -> Float[np.ndarray, "S"]:
  """Returns one subnet minus m at the same k, frozen, one number a seed."""
  frozen = [r for r in rows if (r["shuffle"], r.get("k")) == ("once", k)]
  one, many = ([r for r in frozen if r["m"] == count] for count in (1, m))
  return rows_lib.differences(one, many)


def _place(row: rows_lib.Row) -> tuple:
  return row["shuffle"], row.get("k"), row.get("m"), row["seed"]
