"""What the runs showed and nobody had claimed, as contrasts a machine judges.

Written down after the runs that they are judged on first, which their source
says: those verdicts describe, and wait for runs on fresh seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.judge import curves
from experiments.judge.contrasts import Claim
from experiments.report import rows as rows_lib

SOURCE = "after the runs"

_TABLE = ("dataset", "model")
_SQUARE = ("total", "concurrent")
_ROWS = 128  # of table 2's blocks
_BEST, _BLOCKS = "gain_by_best_epoch", "slope_per_doubling_of_block"


def _seen(name: str, text: str, measure: str, **fields: Any) -> Claim:
  return Claim(
    name=name, paper="gyro", source=SOURCE, text=text, measure=measure, **fields
  )


ACCURACY = (
  _seen(
    "blockwise_is_like_gyro",
    "block-wise is not worse than gyro dropout",
    "accuracy",
    a={"method": "blockwise"},
    b={"method": "gyro"},
    where=tuple(("dataset", "!=", d) for d in ("kddcup99", "unsw_nb15")),
    settings=_TABLE,
    same=_TABLE,
    rule="not_worse",
    margin=0.25,
  ),
  _seen(
    "best_epoch_makes_the_gain",
    "NSL-KDD: gyro's gain over conventional dropout grows when each run is"
    " scored at its best evaluation on the test set",
    _BEST,
    a={"dataset": "nsl_kdd"},
  ),
  _seen(
    "conventional_is_above_none_at_its_best",
    "conventional dropout beats no dropout where each run stops at its best"
    " evaluation (on the test set)",
    "best_accuracy",
    a={"method": "conventional"},
    b={"method": "none"},
    where=tuple(("dataset", "!=", d) for d in ("kddcup99", "unsw_nb15")),
    settings=_TABLE,
    same=_TABLE,
  ),
)

GRID = (
  _seen(
    "larger_blocks_are_better",
    "accuracy grows a doubling of the blocks' units (128 rows)",
    _BLOCKS,
    a={"method": "blockwise"},
    settings=(*_TABLE, *_SQUARE),
    average=_SQUARE,
  ),
)

CLAIMS = (*ACCURACY, *GRID)


def best_epochs(rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns how much the best epoch adds to gyro's gain, a row a seed."""
  found = []
  for (dataset, model), same in rows_lib.group(rows, *_TABLE).items():
    methods = rows_lib.group(same, "method")
    gyro, base = (methods.get((m,), []) for m in ("gyro", "conventional"))
    last, best = (
      _by_seed(gyro, base, name) for name in ("accuracy", "best_accuracy")
    )
    found += [
      {"dataset": dataset, "model": model, "seed": s, _BEST: best[s] - last[s]}
      for s in last
    ]
  return found


def blocks(rows: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns the slope of accuracy over a doubling of the block, per seed."""
  chosen = [
    r
    for r in rows
    if r["method"] == "blockwise" and r["rows_per_subnet"] == _ROWS
  ]
  names = (*_TABLE, *_SQUARE, "seed")
  found = []
  for key, same in rows_lib.group(chosen, *names).items():
    sizes = np.array([row["block_of_1024"] for row in same])
    if np.unique(sizes).size > 1:
      (slope,) = curves.slope_per_doubling(
        sizes, np.array([[row["accuracy"] for row in same]])
      )
      own = dict(zip(names, key)) | {"method": "blockwise"}
      found.append(own | {_BLOCKS: float(slope)})
  return found


def _by_seed(gyro, base, measure: str) -> dict[int, float]:
  other = {row["seed"]: row[measure] for row in base}
  return {
    row["seed"]: row[measure] - other[row["seed"]]
    for row in gyro
    if row["seed"] in other
  }
