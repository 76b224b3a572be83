"""Tables and figures of `experiments.guided`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.gyro.grid import cells as grid_cells
from experiments.gyro.guided import cells as guided_cells
from experiments.gyro.guided import claims
from experiments.gyro.guided import two_tasks
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import config as config_lib

Rows = Sequence[dict[str, Any]]

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
  rows: Rows, hits: Mapping[int, Any], scale: str, minutes: float
) -> study.Report:
  """Returns the report on guided scheduling.

  Args:
    rows: of `guided_cells.follow`.
    hits: {row number: bool [N]} of test images.
    scale: its name.
    minutes: that it took.
  """
  groups = rows_lib.group(rows, *_FIELDS)
  seeds = sorted({row["seed"] for row in rows})
  (label,) = grid_cells.SIZES[scale].models
  common = grid_cells.SIZES[scale].common(label)
  return study.Report(
    name="guided",
    title="Guided scheduling: weak subnets train for longer",
    scale=scale,
    setting=f"{label}: " + study.describe(config_lib.RunConfig(**common)),
    header=(
      *("scheduling", "Sigma", "tau", "temperature", "full network"),
      *("single subnets", "their deviation", "weakest 5 %", "strongest 5 %"),
      "steps a subnet",
    ),
    table=[_line(key, own) for key, own in groups.items()],
    numbers={"rows": list(rows)},
    seeds=seeds,
    verdicts=study.judge(claims.SCHEDULES, rows, scale=scale, hits=hits),
    notes=[
      "Guided: at each step tau of Sigma subnets, without replacement, with"
      " weight exp(average loss / temperature), in nats; a quarter of the"
      " steps draws uniformly. Random draws uniformly at every step;"
      " consecutive trains each subnet in one window and then no more. Single"
      " subnets: all Sigma, as networks of their own, on the first"
      f" {guided_cells.SIZES[scale].num_rows:,} test images; the deviation is"
      " over subnets. Steps a subnet: shortest to longest, mean over seeds."
      " The paper suggests this and gives no number: a claim fails where its"
      " interval lies below 0."
    ],
    minutes=minutes,
  )


def _line(key: tuple, rows: Rows) -> list[str]:
  fields: dict[str, Any] = dict(zip(_FIELDS, key))
  name = fields["scheduling"] or fields["method"]
  sizes = [fields[n] for n in ("total", "concurrent", "temperature")]
  steps = [row["subnet_steps"] for row in rows if "subnet_steps" in row]
  extremes = "-"
  if steps:
    low, high = np.min(steps, axis=1).mean(), np.max(steps, axis=1).mean()
    extremes = f"{low:.0f} to {high:.0f}"
  return [
    name,
    *("-" if value is None else f"{value:g}" for value in sizes),
    _points(rows, "accuracy"),
    *(
      _points(rows, measure)
      for measure in (
        *("subnet_mean", "subnet_deviation"),
        *("weakest_subnets", "strongest_subnets"),
      )
    ),
    extremes,
  ]


def draw_schedules(path: pathlib.Path, rows: Rows) -> None:
  """Draws full networks, all single subnets, and accuracy against steps."""
  groups = {
    _name(key): own for key, own in rows_lib.group(rows, *_FIELDS).items()
  }
  with_subnets = {n: own for n, own in groups.items() if "subnets" in own[0]}
  figures.draw(
    path,
    [
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
    ],
    3,
  )


def _name(key: tuple) -> str:
  fields: dict[str, Any] = dict(zip(_FIELDS, key))
  name = fields["scheduling"] or fields["method"]
  for field, letter in (("temperature", "t"), ("total", "S")):
    if fields[field] is not None:
      name += f" {letter}={fields[field]:g}"
  return name


def tasks(rows: Rows, scale: str, minutes: float) -> study.Report:
  """Returns the report on one subnet a task."""
  groups = rows_lib.group(rows, "method")
  sizes = two_tasks.SIZES[scale]
  return study.Report(
    name="guided_tasks",
    title="One task, one subnet: two tasks of digits",
    scale=scale,
    setting=(
      "embedded digits; task A: 0 to 4, task B: 5 to 9, five outputs for both;"
      f" MLP with {two_tasks.DEPTH} hidden layers of {sizes.hidden}; Adam,"
      f" learning rate {sizes.learning_rate:g}, batch {sizes.batch_size},"
      f" {sizes.num_steps:,} steps jointly, or half of them on each task in"
      " turn. Accuracies on test images in points, mean +- standard deviation"
      " over seeds."
    ),
    header=("method", *(_WORDS[name] for name in _PHASES), "forgotten of A"),
    table=[
      [
        method.replace("_", " "),
        *(_points(own, name) for name in (*_PHASES, "forgetting")),
      ]
      for (method,), own in groups.items()
    ],
    numbers={"rows": list(rows)},
    seeds=sorted({row["seed"] for row in rows}),
    verdicts=study.judge(claims.TASKS, rows, scale=scale),
    notes=[
      "Shared: every unit trains for both tasks; standard: with dropout of"
      " rate .5. Task subnets: two random ones of half the units, which share"
      " a quarter of their inner weights; disjoint ones share none. Each"
      " is tested on its own task's images, so that these methods are told the"
      " task of a test image and the controls are not. Their whole networks,"
      " all units at once: "
      + "; ".join(
        f"{method.replace('_', ' ')} jointly A {_points(own, 'joint_a_whole')},"
        f" B {_points(own, 'joint_b_whole')}"
        for (method,), own in groups.items()
        if method in two_tasks.TASK_METHODS
      )
      + "."
    ],
    minutes=minutes,
  )


def draw_tasks(path: pathlib.Path, rows: Rows) -> None:
  """Draws each task after each phase, a panel a method."""
  figures.draw(
    path,
    [
      figures.Panel(
        title=method.replace("_", " "),
        dots={_WORDS[name]: [row[name] for row in own] for name in _PHASES},
      )
      for (method,), own in rows_lib.group(rows, "method").items()
    ],
    2,
  )


def _points(rows: Rows, measure: str) -> str:
  return study.points([row[measure] / 100 for row in rows if measure in row])
