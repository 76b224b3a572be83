"""Where tables 4 and 5 can tell kinds of dropout apart at all.

Gyro dropout is an improvement of dropout that helps. Where dropout of half the
units only costs accuracy, what beats it may merely drop less: there nothing is
told, of no claim.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.data import registry
from experiments.judge import contrasts
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import tables

MARGIN = 0.5
"""Points by which conventional dropout may be below no dropout."""

TIMES_CHANCE = 4
MOST = 90.0
"""Percent; the floor of few classes, where four times chance is beyond all."""

_CLASSES = {"cifar10": 10, "cifar100": 100, "svhn_cropped": 10}
_CLASSES |= {"tiny_imagenet": 200, "imagenet2012": 1000}

RULE = (
  "A row can tell kinds of dropout apart where conventional dropout is within"
  f" {MARGIN} points of no dropout, or trains above a floor: its accuracy on"
  f" its own training set, nothing dropped, is over {TIMES_CHANCE} times chance"
  f" ({MOST:.0f} % where that is less). Else the row's verdicts are"
  ' "cannot be told: dropout does not help here". The rule came after the runs'
  " at the cpu scale; at three times chance LeNet on CIFAR-100 would be judged,"
  " at five none of CIFAR-10's rows, and of CIFAR-100's the MLP alone."
)


def void(rows: Sequence[rows_lib.Row]) -> dict[str, str]:
  """Returns {setting of a claim: reason} of the rows that tell nothing."""
  return {
    setting: f"dropout does not help here: {words}"
    for setting, (words, told) in _checked(rows).items()
    if not told
  }


def table(rows: Sequence[rows_lib.Row]) -> str:
  """Returns a line a row: what the rule looks at, and what it says."""
  lines = [
    [setting, words, "yes" if told else "no"]
    for setting, (words, told) in _checked(rows).items()
  ]
  return tables.text(("row", "conventional dropout", "can be told"), lines)


def floor(dataset: str) -> float:
  """Returns the training accuracy, in percent, above which a row is told."""
  classes = _CLASSES.get(dataset) or registry.get(dataset).num_classes or 2
  return min(TIMES_CHANCE * 100 / classes, MOST)


def _checked(rows: Sequence[rows_lib.Row]) -> Mapping[str, tuple[str, bool]]:
  found = {}
  for (dataset, model), same in rows_lib.group(
    rows, "dataset", "model"
  ).items():
    methods = rows_lib.group(same, "method")
    none, own = (methods.get((m,), []) for m in ("none", "conventional"))
    differences = rows_lib.differences(own, none)
    if not differences.size:
      continue
    trained = float(np.mean([row["train_accuracy"] for row in own]))
    least = floor(dataset)
    words = (
      f"{columns.paired(differences)} points against none, trains to"
      f" {trained:.1f} % (floor {least:.0f} %)"
    )
    told = bool(differences.mean() >= -MARGIN or trained > least)
    setting = contrasts.label({"dataset": dataset, "model": model})
    found[setting] = (words, told)
  return found
