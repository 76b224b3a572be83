"""Figures: curves with bands over seeds, as PNG."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from kdropout_jax.training import files
from kdropout_jax.training import metrics

COLOURS = (
  "#4d4d4d",
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
)
"""Okabe and Ito's colours, which the colour-blind can tell apart."""

Curve = tuple[Sequence[float], Float[np.ndarray, "points S"]]


def curves(
  path: pathlib.Path, log: pathlib.Path, marks: Sequence[int] = ()
) -> None:
  """Draws a run's accuracies from its metrics; nothing where it has none.

  Args:
    path: the PNG.
    log: the metrics.
    marks: steps to mark, such as the first of each window.
  """
  records = metrics.read_jsonl(log)
  found = {
    name: accuracy_curve(records, name)
    for name in ("train_accuracy", "valid_accuracy", "test_accuracy")
    if records and name in records[-1]
  }
  if found:
    bands(path, found, x_label="step", y_label="accuracy", marks=marks)


def accuracy_curve(
  records: Sequence[Mapping], name: str = "valid_accuracy"
) -> Curve:
  """Returns the steps, and the values [points, S], of a metric."""
  sized = [(r, np.size(r[name])) for r in records if name in r]
  # A line of another form, which somebody put there, is none of the curve.
  usual = statistics.mode(size for _, size in sized) if sized else 0
  chosen = [r for r, size in sized if size == usual and _is_curve(r[name])]
  steps = [record["step"] for record in chosen]
  return steps, np.array([record[name] for record in chosen], np.float64)


def _is_curve(value: object) -> bool:
  return np.asarray(value).dtype.kind in "fi"


def bands(
  path: pathlib.Path,
  found: Mapping[str, Curve],
  *,
  x_label: str,
  y_label: str,
  title: str = "",
  y_from: float | None = None,
  marks: Sequence[int] = (),
) -> None:
  """Draws each curve's mean over seeds, and its 95 % t interval.

  Args:
    path: the PNG.
    found: {label: (x, values [points, S])}.
    x_label: what x is.
    y_label: what y is.
    title: above the figure.
    y_from: lower end of the y axis; default as the curves need.
    marks: places on x, thin vertical lines.
  """
  from matplotlib import figure

  drawing = figure.Figure(figsize=(7, 4.5), layout="constrained")
  axes = drawing.subplots()
  for (label, (x, values)), colour in zip(found.items(), COLOURS * 4):
    mean, spread = values.mean(axis=1), _half_intervals(values)
    axes.plot(x, mean, color=colour, label=label)
    axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15)
  for i, place in enumerate(marks):
    label = None if i else "a window starts"
    axes.axvline(place, color="#d55e00", lw=0.8, alpha=0.4, label=label)
  if y_from is not None:
    axes.set_ylim(bottom=y_from)
  seeds = max(values.shape[1] for _, values in found.values())
  band = "\nmean and 95 % t interval" if seeds > 1 else ""
  axes.set(xlabel=x_label, ylabel=y_label + band, title=title)
  # Beside marks, lines of a grid would pass for some.
  axes.grid(alpha=0.3, axis="y" if marks else "both")
  axes.legend(frameon=False)
  with files.replacing(path) as whole:
    drawing.savefig(whole, dpi=150)


def _half_intervals(
  values: Float[np.ndarray, "points S"],
) -> Float[np.ndarray, "points"]:
  """Returns half of each point's interval; 0 for one seed."""
  if values.shape[1] < 2:
    return np.zeros(len(values))
  # Imported where it is used: a host that times alone has no scipy.
  from experiments.judge import statistics

  found = [statistics.t_interval(row) for row in values]
  return np.array([interval.high - interval.estimate for interval in found])
