"""Figures of the experiments: panels of lines, points and boxes, as PNG."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from experiments.judge import statistics
from experiments.report import plots
from kdropout_jax.training import files

GREY = "#9a9a9a"
_LINES = ("-", "--", ":", "-.")
_STYLES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
_MARKS = "x+^v1"
_MAX_TICKS = 10  # more places on x are left to matplotlib
_MAX_INSIDE = 6  # more labels stand below the axes, or slant


@dataclasses.dataclass
class Panel:
  """One set of axes.

  Attributes:
    title: above it.
    x_label: what x is.
    y_label: what y is.
    log_x: whether x is logarithmic.
    log_y: whether y is logarithmic.
    lines: {label: (x, values [n, S])}: mean, and a band.
    band: of the lines: "deviation", one of them, or "interval", the 95 % t
      interval of the mean over seeds.
    levels: {label: value}: dashed horizontal lines.
    paper: {label: (x, y)}: the paper's points, grey.
    boxes: {label: values}: box plots, in place of lines.
    spans: (from, to) on x, shaded.
    marks: places on x, thin vertical lines.
    dots: {label: values}: points in a column, in place of lines.
    grey_dots: {label of `dots`: the paper's values}.
    legend: whether there is one.
    y_range: lowest and highest y; None: as the values need.
  """

  title: str = ""
  x_label: str = ""
  y_label: str = "test accuracy (%)"
  log_x: bool = False
  log_y: bool = False
  lines: Mapping[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
  levels: Mapping[str, float] = dataclasses.field(default_factory=dict)
  paper: Mapping[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
  boxes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  spans: Sequence[tuple[float, float]] = ()
  marks: Sequence[float] = ()
  dots: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  grey_dots: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  legend: bool = True
  band: Literal["deviation", "interval"] = "deviation"
  y_range: tuple[float, float] | None = None


def drawing(
  panels: Sequence[Panel], columns: int = 3
) -> Callable[[pathlib.Path], None]:
  """Returns what draws panels in rows of `columns`."""
  return lambda path: draw(path, panels, columns)


def draw(path: pathlib.Path, panels: Sequence[Panel], columns: int = 3) -> None:
  """Draws panels in rows of `columns`."""
  from matplotlib import figure  # pylint: disable=g-import-not-at-top

  columns = min(columns, max(len(panels), 1))
  rows = -(-len(panels) // columns)
  drawing = figure.Figure(
    figsize=(4.8 * columns + 0.6, 3.6 * rows + 0.4), layout="constrained"
  )
  axes = drawing.subplots(rows, columns, squeeze=False).reshape(-1)
  for ax, panel in zip(axes, panels):
    _fill(ax, panel)
  for ax in axes[len(panels) :]:
    ax.axis("off")
  with files.replacing(path) as whole:
    drawing.savefig(whole, dpi=120)


def _fill(ax, panel: Panel) -> None:
  colours = plots.COLOURS[1:]
  for i, (label, (x, values)) in enumerate(panel.lines.items()):
    colour = colours[i % len(colours)]
    style = _LINES[i // len(colours) % len(_LINES)]
    values = np.atleast_2d(np.asarray(values, np.float64))
    mean, spread = np.nanmean(values, 1), _spread(values, panel.band)
    look = dict(color=colour, linestyle=style, marker=".", markersize=5)
    ax.plot(x, mean, label=label, **look)
    ax.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15)
  for (label, value), style in zip(panel.levels.items(), _STYLES * 3):
    ax.axhline(value, color="black", linestyle=style, lw=1, label=label)
  for (label, (x, y)), mark in zip(panel.paper.items(), _MARKS * 3):
    ax.plot(x, y, color=GREY, marker=mark, lw=0.7, label=label, zorder=0)
  if panel.boxes:
    ax.boxplot(list(panel.boxes.values()), showfliers=True)
    _name_columns(ax, panel.boxes)
  if panel.dots:
    for place, (label, values) in enumerate(panel.dots.items(), 1):
      grey = panel.grey_dots.get(label, ())
      ax.plot(np.full(len(grey), place + 0.2), grey, "x", color=GREY, ms=4)
      ax.plot(np.full(len(values), place), values, "o", alpha=0.6, ms=4)
    _name_columns(ax, panel.dots)
  for low, high in panel.spans:
    ax.axvspan(low, high, color="#d55e00", alpha=0.15)
  for place in panel.marks:
    ax.axvline(place, color="black", lw=0.4, alpha=0.5)
  if panel.log_x:
    ax.set_xscale("log")
    _name_ticks(ax, panel)
  if panel.log_y:
    ax.set_yscale("log")
  ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
  if panel.y_range is not None:
    ax.set_ylim(*panel.y_range)
  ax.grid(alpha=0.3)
  if panel.legend and (panel.lines or panel.levels or panel.paper):
    _add_legend(ax)


def _name_ticks(ax, panel: Panel) -> None:
  """Puts a plain number below each place that was measured, if they are few."""
  places = sorted({float(v) for x, _ in panel.lines.values() for v in x})
  if 0 < len(places) <= _MAX_TICKS:
    labels = [f"{place:,.10g}" for place in places]
    ax.set_xticks(places, labels=labels, fontsize=7)
    if len(places) > _MAX_INSIDE:
      ax.tick_params(axis="x", labelrotation=30)
    ax.set_xticks([], minor=True)


def _add_legend(ax) -> None:
  if len(ax.get_legend_handles_labels()[1]) <= _MAX_INSIDE:
    ax.legend(fontsize=7, framealpha=0.6, edgecolor="none")
    return
  ax.legend(
    fontsize=7,
    frameon=False,
    ncols=2,
    loc="upper center",
    bbox_to_anchor=(0.5, -0.18),
  )


def _spread(values: np.ndarray, band: str) -> np.ndarray:
  if band == "deviation" or values.shape[1] < 2:
    return np.nanstd(values, 1)
  intervals = [statistics.t_interval(row) for row in values]
  return np.array([found.high - found.estimate for found in intervals])


def _name_columns(ax, columns: Mapping[str, Any]) -> None:
  ax.set_xticks(range(1, len(columns) + 1))
  ax.set_xticklabels(list(columns), rotation=30, ha="right", fontsize=7)
