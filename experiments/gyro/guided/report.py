"""Tables and figures of `experiments.guided`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.gyro.grid import cells as grid_cells
from experiments.gyro.guided import cells as guided_cells
from experiments.gyro.guided import claims
from experiments.gyro.guided import two_tasks
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import config as config_lib

Rows = Sequence[rows_lib.Row]

_FIELDS = ("method", "scheduling", "total", "concurrent", "temperature")
_PHASES = ("joint_a", "joint_b", "after_a_a", "after_b_a", "after_b_b")
_WORDS = {
  "joint_a": "A, jointly",
  "joint_b": "B, jointly",
  "after_a_a": "A, after A",
  "after_b_a": "A, after A then B",
  "after_b_b": "B, after A then B",
}


def schedules(
  rows: Rows, hits: Mapping[int, Any], size: guided_cells.Size
) -> study.Report:
  """Returns the report on guided scheduling.

  Args:
    rows: of `guided_cells.follow`.
    hits: {row number: bool [N]} of test images.
    size: the scale's.
  """
  grid = grid_cells.SIZES[size.name]
  (label,) = grid.models
  common = grid.common(label)
  return study.Report(
    name="guided",
    title="Guided scheduling: weak subnets train for longer",
    setting=f"{label}: " + study.describe(config_lib.RunConfig(**common)),
    table=columns.table(rows, _FIELDS, _COLUMNS),
    rows=rows,
    claims=claims.SCHEDULES,
    hits=hits,
    notes=[
      "Guided: at each step tau of Sigma subnets, without replacement, with"
      " weight exp(average loss / temperature), in nats; a quarter of the"
      " steps draws uniformly. Random draws uniformly at every step;"
      " consecutive trains each subnet in one window and then no more. Single"
      " subnets: all Sigma, as networks of their own, on the first"
      f" {size.num_rows:,} test images; the deviation is"
      " over subnets. Steps a subnet: shortest to longest, mean over seeds."
      " The paper suggests this and gives no number: a claim fails where its"
      " interval lies below 0."
    ],
    draw=figures.drawing(schedule_panels(rows)),
  )


def schedule_panels(rows: Rows) -> list[figures.Panel]:
  """Returns full networks, all single subnets, and steps of a subnet."""
  groups = {
    _name(key): own for key, own in rows_lib.group(rows, *_FIELDS).items()
  }
  with_subnets = {n: own for n, own in groups.items() if "subnets" in own[0]}
  return [
    figures.Panel(
      title="full network",
      dots={n: [row["accuracy"] for row in own] for n, own in groups.items()},
    ),
    figures.Panel(
      title="single subnets, all seeds",
      boxes={
        n: np.concatenate([row["subnets"] for row in own])
        for n, own in with_subnets.items()
      },
    ),
    figures.Panel(
      title="steps of a subnet",
      y_label="steps",
      boxes={
        n: np.concatenate([row["subnet_steps"] for row in own])
        for n, own in with_subnets.items()
        if "subnet_steps" in own[0]
      },
    ),
  ]


def _name(key: tuple) -> str:
  fields: dict[str, Any] = dict(zip(_FIELDS, key))
  name = fields["scheduling"] or fields["method"]
  for field, letter in (("temperature", "t"), ("total", "S")):
    if fields[field] is not None:
      name += f" {letter}={fields[field]:g}"
  return name


def tasks(rows: Rows, size: two_tasks.Size) -> study.Report:
  """Returns the report on one subnet a task."""
  joint = {task: columns.spread(f"joint_{task}_whole") for task in "ab"}
  return study.Report(
    name="guided_tasks",
    title="One task, one subnet: two tasks of digits",
    setting=(
      "embedded digits; task A: 0 to 4, task B: 5 to 9, five outputs for both;"
      f" MLP with {two_tasks.DEPTH} hidden layers of {size.hidden}; Adam,"
      f" learning rate {size.learning_rate:g}, batch {size.batch_size},"
      f" {size.num_steps:,} steps jointly, or half of them on each task in"
      " turn. Accuracies on test images in points, mean +- standard deviation"
      " over seeds."
    ),
    table=columns.table(
      rows,
      ("method",),
      {
        "method": lambda same: same[0]["method"].replace("_", " "),
        **{_WORDS[name]: columns.spread(name) for name in _PHASES},
        "forgotten of A": columns.spread("forgetting"),
      },
    ),
    rows=rows,
    claims=claims.TASKS,
    notes=[
      "Shared: every unit trains for both tasks; standard: with dropout of"
      " rate .5. Task subnets: two random ones of half the units, which share"
      " a quarter of their inner weights; disjoint ones share none. Each"
      " is tested on its own task's images, so that these methods are told the"
      " task of a test image and the controls are not. Their whole networks,"
      " all units at once: "
      + "; ".join(
        f"{method.replace('_', ' ')} jointly A {joint['a'](own)},"
        f" B {joint['b'](own)}"
        for (method,), own in rows_lib.group(rows, "method").items()
        if method in two_tasks.TASK_METHODS
      )
      + "."
    ],
    draw=figures.drawing(task_panels(rows), 2),
  )


def task_panels(rows: Rows) -> list[figures.Panel]:
  """Returns each task after each phase, a panel a method."""
  return [
    figures.Panel(
      title=method.replace("_", " "),
      dots={_WORDS[name]: [row[name] for row in own] for name in _PHASES},
    )
    for (method,), own in rows_lib.group(rows, "method").items()
  ]


def _scheduling(same: list[rows_lib.Row]) -> str:
  return same[0].get("scheduling") or same[0]["method"]


def _steps(same: list[rows_lib.Row]) -> str:
  """Returns the fewest and the most steps of a subnet, means over seeds."""
  steps = [row["subnet_steps"] for row in same if "subnet_steps" in row]
  if not steps:
    return "-"
  low, high = np.min(steps, axis=1).mean(), np.max(steps, axis=1).mean()
  return f"{low:.0f} to {high:.0f}"


_COLUMNS: dict[str, columns.Column] = {
  "scheduling": _scheduling,
  "Sigma": columns.setting("total", "{:g}"),
  "tau": columns.setting("concurrent", "{:g}"),
  "temperature": columns.setting("temperature", "{:g}"),
  "full network": columns.spread("accuracy"),
  "single subnets": columns.spread("subnet_mean"),
  "their deviation": columns.spread("subnet_deviation"),
  "weakest 5 %": columns.spread("weakest_subnets"),
  "strongest 5 %": columns.spread("strongest_subnets"),
  "steps a subnet": _steps,
}
