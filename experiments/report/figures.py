"""Figures of the experiments: panels of lines, points and boxes, as PNG."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.judge import statistics
from experiments.report import plots
from kdropout_jax.training import files

GREY = "#9a9a9a"
_COLOURS = (
  *plots.COLOURS[1:],
  *("#7f3c8d", "#80ba5a", "#8c564b", "#3969ac", "#e68310", "#666666"),
)
"""One a line of a figure: no colour stands for two of a panel's."""

_LINES = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_STYLES = ((0, (8, 3)), (0, (2, 2)), (0, (8, 2, 2, 2)), (0, (8, 2, 2, 2, 2, 2)))
"""Long enough to be told apart in a legend."""

MAX_PANELS = 8
_INTERVAL = "mean and 95 % t interval"
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
    lines: {label: (x, values [n, S])}: mean, and a band, the 95 % t interval
      of the mean over seeds; a line has one colour in all panels of a figure.
    run: steps of a run, where x is in steps: its share is above the axes.
    levels: {label: value}: dashed horizontal lines.
    paper: {label: (x, y)}: the paper's points, grey.
    boxes: {label: values}: box plots, in place of lines.
    spans: (from, to) on x, shaded.
    marks: places on x, thin vertical lines.
    dots: {label: values}: points in a column, in place of lines.
    grey_dots: {label of `dots`: the paper's values}.
    legend: whether there is one.
    y_range: lowest and highest y; None: what all panels with the same
      `y_label` need.
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
  run: int | None = None
  y_range: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Drawing:
  """What draws panels, at most 8 a file: NAME.png, NAME-2.png and so on.

  Attributes:
    panels: all of them.
    columns: of a file.
  """

  panels: Sequence[Panel]
  columns: int = 3

  @property
  def num_files(self) -> int:
    """Files that it writes."""
    return max(1, -(-len(self.panels) // MAX_PANELS))

  def __call__(self, path: pathlib.Path) -> None:
    for number in range(self.num_files):
      part = self.panels[number * MAX_PANELS : (number + 1) * MAX_PANELS]
      draw(numbered(path, number), part, self.columns)


def numbered(path: pathlib.Path, number: int) -> pathlib.Path:
  """Returns the file of a part of the panels, from 0."""
  return path.with_stem(f"{path.stem}-{number + 1}") if number else path


def drawing(panels: Sequence[Panel], columns: int = 3) -> Drawing:
  """Returns what draws panels in rows of `columns`."""
  return Drawing(panels, columns)


def draw(path: pathlib.Path, panels: Sequence[Panel], columns: int = 3) -> None:
  """Draws panels in rows of `columns`.

  Raises:
    ValueError: more panels than can be looked at.
  """
  from matplotlib import figure  # pylint: disable=g-import-not-at-top

  if len(panels) > MAX_PANELS:
    raise ValueError(
      f"panels must be at most {MAX_PANELS} a figure, got {len(panels)}"
    )
  columns = min(columns, max(len(panels), 1))
  rows = -(-len(panels) // columns)
  labels = list(dict.fromkeys(label for p in panels for label in p.lines))
  beside = any(p.legend and (p.lines or p.levels or p.paper) for p in panels)
  drawing = figure.Figure(
    figsize=(4.4 * columns + 0.4 + 2.2 * beside, 3.6 * rows + 0.4),
    layout="constrained",
  )
  axes = drawing.subplots(rows, columns, squeeze=False).reshape(-1)
  for ax, panel in zip(axes, panels):
    _fill(ax, panel, labels)
  _share_y(list(zip(axes, panels)))
  for ax in axes[len(panels) :]:
    ax.axis("off")
  if beside:
    _add_legend(drawing, axes[: len(panels)])
  with files.replacing(path) as whole:
    drawing.savefig(whole, dpi=110)


def _fill(ax, panel: Panel, labels: Sequence[str]) -> None:
  y_label = panel.y_label
  for label, (x, values) in panel.lines.items():
    place = labels.index(label)
    colour = _COLOURS[place % len(_COLOURS)]
    style = _LINES[place // len(_COLOURS) % len(_LINES)]
    values = np.atleast_2d(np.asarray(values, np.float64))
    mean, spread = np.nanmean(values, 1), _spread(values)
    look = dict(color=colour, linestyle=style, marker=".", markersize=5)
    ax.plot(x, mean, label=label, **look)
    if spread is not None:
      ax.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15)
      y_label = f"{panel.y_label}\n{_INTERVAL}"
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
  ax.set_title(panel.title, fontsize=10)
  ax.set(xlabel=panel.x_label, ylabel=y_label)
  if panel.run is not None:
    _add_share(ax, panel.run)
  ax.grid(alpha=0.3)


def _share_y(drawn: Sequence[tuple[Any, Panel]]) -> None:
  """Gives panels of one quantity one range."""
  groups: dict[tuple[str, bool], list[Any]] = {}
  for ax, panel in drawn:
    if panel.y_range is not None:
      ax.set_ylim(*panel.y_range)
    else:
      groups.setdefault((panel.y_label, panel.log_y), []).append(ax)
  for same in groups.values():
    lows, highs = zip(*(ax.get_ylim() for ax in same))
    for ax in same:
      ax.set_ylim(min(lows), max(highs))


def _add_share(ax, run: int) -> None:
  """Puts the share of the run above axes whose x is in steps."""
  above = ax.secondary_xaxis(
    "top",
    functions=(lambda x: np.asarray(x) / run, lambda x: np.asarray(x) * run),
  )
  above.tick_params(labelsize=7)
  above.set_xlabel(f"share of the run ({run:,} steps)", fontsize=7)


def _name_ticks(ax, panel: Panel) -> None:
  """Puts a plain number below each place that was measured, if they are few."""
  places = sorted({float(v) for x, _ in panel.lines.values() for v in x})
  if 0 < len(places) <= _MAX_TICKS:
    labels = [f"{place:,.10g}" for place in places]
    ax.set_xticks(places, labels=labels, fontsize=7)
    if len(places) > _MAX_INSIDE:
      ax.tick_params(axis="x", labelrotation=30)
    ax.set_xticks([], minor=True)


def _add_legend(drawing, axes) -> None:
  """Puts one legend of all panels beside them."""
  found: dict[str, Any] = {}
  for ax in axes:
    for handle, label in zip(*ax.get_legend_handles_labels()):
      found.setdefault(label, handle)
  drawing.legend(
    list(found.values()),
    list(found),
    loc="outside right upper",
    fontsize=8,
    frameon=False,
    handlelength=3.5,
  )


def _spread(values: np.ndarray) -> np.ndarray | None:
  """Returns half of each interval; None where one seed has none."""
  if values.shape[1] < 2:
    return None
  found = []
  for row in values:
    seeds = row[np.isfinite(row)]
    interval = statistics.t_interval(seeds) if seeds.size > 1 else (0, 0, 0)
    found.append(interval[2] - interval[0])
  return np.array(found)


def _name_columns(ax, columns: Mapping[str, Any]) -> None:
  ax.set_xticks(range(1, len(columns) + 1))
  ax.set_xticklabels(list(columns), rotation=30, ha="right", fontsize=7)
