"""One picture and five lines: what few subnets cost, and what they save.

  python -m experiments.first_screen

From the numbers that lie under ``docs/results``: accuracy at the paper's scale
(paper_scale.json), the time of a training step on two CPU cores
(throughput.json, throughput_k970.json, in_order.json) and on an H200
(gpu_h200.jsonl). It trains nothing. Times are of another network than the
accuracies, which the picture says: two hidden layers of 2048 beside three of
2000.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags as absl_flags

from experiments.judge import statistics
from experiments.report import plots
from experiments.report import rows as rows_lib
from experiments.run import flags
from kdropout_jax.training import files

_FREE = {"shuffle": "every_epoch"}
_STANDARD = {"method": "standard", **_FREE}
_NETWORK = "kdropout"


class Point(NamedTuple):
  """A way to drop, with what it costs and saves.

  Attributes:
    words: in the picture.
    kind: one at a time, a pool, or many.
    cost: accuracy minus standard dropout's, in points.
    speed: {device: steps a second over `flax.linen.Dropout`'s: median, lowest
      and highest round}; a device where it was not timed is left out.
  """

  words: str
  kind: str
  cost: statistics.Interval
  speed: Mapping[str, Sequence[float]]


CPU, GPU = "two CPU cores", "NVIDIA H200"
_KINDS = {
  "one subnet at a time": (plots.COLOURS[2], "o"),
  "a pool, 8 at a time": (plots.COLOURS[1], "s"),
  "512 at a time": (plots.COLOURS[3], "D"),
}
_ONE, _POOL, _MANY = _KINDS


def points(root: pathlib.Path) -> list[Point]:
  """Returns the points of the picture.

  The time is of the fastest way that was timed with the values of masking: of
  one subnet at a time, windows on a small network (k = 97, and 970 for longer
  windows), or masked products; of eight, products that skip, or masks alone.

  Args:
    root: ``docs/results``.
  """
  rows = _rows(root)
  timed = _timed(root)
  one = {
    d: _best(own, "sequential T=1", "k=97 caught_up")
    for d, own in timed.items()
  }
  longer = {
    d: _best(own, "sequential T=1", "caught_up") for d, own in timed.items()
  }
  eight = {
    d: _best(own, "sequential T=8", "gyro T=8") for d, own in timed.items()
  }
  whole = max(row["k"] for row in rows if row["method"] == "sequential")
  found = [
    Point(words, _ONE, _cost(rows, method="sequential", m=1, k=k), speed)
    for k, words, speed in (
      (485, "60 in turn", one),
      (4850, "6 in turn", longer),
      (whole, "1 for the whole run", longer),
    )
  ]
  found += [
    Point(
      f"pool of {size}",
      _POOL,
      _cost(rows, method="pooled", pool_size=size),
      eight,
    )
    for size in (10, 50, 200)
  ]
  many = _cost(rows, method="sequential", m=512, k=whole)
  return [*found, Point("512 for the whole run", _MANY, many, {})]


def lines(root: pathlib.Path) -> list[str]:
  """Returns five sentences, which README.md and docs/results/README.md hold."""
  found = {point.words: point for point in points(root)}
  rows = _rows(root)
  loss = rows_lib.means(
    [r for r in rows if r["shuffle"] == _FREE["shuffle"]],
    *("method", "m", "pool_size", "k"),
    measure="test_loss",
  )
  whole = max(row["k"] for row in rows if row["method"] == "sequential")
  none = _cost(rows, method="none")
  once = [
    _cost(rows, method="sequential", m=512, k=k, shuffle="once")
    for k in (whole, 4850)
  ]
  fastest = [p.speed for p in found.values() if p.kind == _ONE]
  frozen = _timed(root)[GPU]["extracted T=1 k=97 frozen"][0]
  in_order = _over_conventional(_read(root / "in_order.json"))
  return [
    "**Many fixed subnets cost no accuracy**: 512 for the whole run are"
    f" {_words(found['512 for the whole run'].cost)} points from standard"
    f" dropout; a pool of 200 is {_words(found['pool of 200'].cost)}, of 50"
    f" {_words(found['pool of 50'].cost)}, of 10"
    f" {_words(found['pool of 10'].cost)}; no dropout {_words(none)}.",
    "**One subnet at a time saves time on CPUs and costs accuracy**:"
    f" {_words(found['60 in turn'].cost)} points with 60 in turn,"
    f" {_words(found['1 for the whole run'].cost)} with one for the whole"
    f" run; steps are {min(s[CPU][0] for s in fastest):.1f} to"
    f" {max(s[CPU][0] for s in fastest):.1f} times faster on two cores. Four"
    f" and eight at a time that share out the units evenly, kept in order, are"
    f" {in_order['permuted T=4 k=97'][0]:.1f} and"
    f" {in_order['permuted T=8 k=97'][0]:.1f} times faster, their accuracy at"
    " this scale not run; eight independent ones are hardly faster.",
    "**On a GPU, not yet**: on an H200 one at a time ran at"
    f" {fastest[0][GPU][0]:.1f} times the speed of conventional dropout;"
    f" windows with frozen dropped weights at {frozen:.1f} times, their"
    " accuracy not run. What was mended since is not timed.",
    "**Never freeze the batches** with many subnets and long windows: an image"
    " that always meets the same mask leaves 512 subnets"
    f" {_words(once[0])} (k = T) and {_words(once[1])} points (k = T / 6) from"
    " standard dropout, below no dropout.",
    "**Log loss and calibration get worse** with few subnets, where accuracy"
    " does not: a test loss of"
    f" {loss['sequential', 512, None, whole]:.2f} with 512 for the whole run,"
    f" {_of_pool(loss, 200):.2f} and {_of_pool(loss, 50):.2f} with pools of 200"
    f" and 50, {loss['standard', None, None, None]:.2f} with standard dropout.",
  ]


def draw(path: pathlib.Path, root: pathlib.Path) -> None:
  """Draws cost against speed, a panel a device."""
  from matplotlib import figure

  found = points(root)
  none = _cost(_rows(root), method="none")
  drawing = figure.Figure(figsize=(11, 5), layout="constrained")
  for axes, device in zip(drawing.subplots(1, 2, sharey=True), (CPU, GPU)):
    axes.axhline(0, color="black", lw=1)
    axes.axhline(none.estimate, color="black", lw=1, linestyle=(0, (6, 3)))
    axes.axvline(1, color="black", lw=0.6, alpha=0.5)
    for point in found:
      _draw_point(axes, point, device)
    axes.set_xscale("log", base=2)
    ticks = (0.25, 0.5, 1, 2, 3)
    axes.set_xticks(ticks, labels=[f"{t:g}" for t in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlim(0.22, 5.2)
    axes.set_ylim(-6, 1.2)
    axes.grid(alpha=0.25)
    axes.set_title(device)
    axes.set_xlabel("training steps a second over flax.linen.Dropout's (x)")
    axes.text(0.23, 0.08, "standard dropout", fontsize=8)
    axes.text(0.23, none.estimate + 0.08, "no dropout (not timed)", fontsize=8)
  first, second = drawing.axes
  first.set_ylabel(
    "test accuracy minus standard dropout's (points)\nmean and 95 % t interval"
  )
  _mark_frozen(second, _timed(root)[GPU]["extracted T=1 k=97 frozen"][0])
  for kind, (colour, mark) in _KINDS.items():
    first.plot([], [], mark, color=colour, label=kind)
  first.legend(loc="lower left", fontsize=8, bbox_to_anchor=(0.0, 0.03))
  drawing.suptitle(
    "Accuracy: CIFAR-10, 3072-2000-2000-2000-10, 300 epochs, five seeds (H200)."
    "  Time: 3072-2048-2048-10, batch 512, float32.",
    fontsize=9,
  )
  with files.replacing(path) as whole:
    drawing.savefig(whole, dpi=110)


def _draw_point(axes, point: Point, device: str) -> None:
  colour, mark = _KINDS[point.kind]
  timed = point.speed.get(device)
  speed, low, high = timed or (1.0, 1.0, 1.0)
  x = [[speed - low], [high - speed]]
  y = [
    [point.cost.estimate - point.cost.low],
    [point.cost.high - point.cost.estimate],
  ]
  axes.errorbar(
    *(speed, point.cost.estimate),
    xerr=np.abs(x),
    yerr=y,
    fmt=mark,
    color=colour,
    mfc=colour if timed else "white",
    capsize=2,
  )
  words = point.words if timed else f"{point.words} (not timed)"
  axes.annotate(
    *(words, (speed, point.cost.estimate)),
    xytext=(7, 3),
    textcoords="offset points",
    fontsize=8,
    color=colour,
  )


def _mark_frozen(axes, speed: float) -> None:
  colour = _KINDS[_ONE][0]
  axes.axvline(speed, color=colour, lw=1, linestyle=(0, (4, 3)))
  axes.text(
    *(
      speed * 1.06,
      -3.4,
      "one at a time, dropped\nweights at rest:\naccuracy not run",
    ),
    fontsize=8,
    color=colour,
  )


def _rows(root: pathlib.Path) -> list[rows_lib.Row]:
  file = root / "k-dropout" / "paper_scale.json"
  return json.loads(file.read_text())["numbers"]["rows"]


def _cost(rows: Sequence[rows_lib.Row], **fields: Any) -> statistics.Interval:
  """Returns the paired difference to standard dropout of the same order."""
  wanted = {**_FREE, **fields}
  own = [r for r in rows if all(r.get(n) == v for n, v in wanted.items())]
  base = {**_STANDARD, "shuffle": wanted["shuffle"]}
  standard = [r for r in rows if all(r.get(n) == v for n, v in base.items())]
  return statistics.t_interval(rows_lib.differences(own, standard))


def _timed(root: pathlib.Path) -> dict[str, dict[str, list[float]]]:
  """Returns {device: {candidate: speed over conventional dropout}}."""
  names = ("throughput", "throughput_k970")
  cpu = [row for name in names for row in _read(root / f"{name}.json")]
  text = (root / "gpu_h200.jsonl").read_text()
  gpu = [json.loads(line) for line in text.splitlines()]
  return {CPU: _over_conventional(cpu), GPU: _over_conventional(gpu)}


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
  return json.loads(path.read_text())["rows"]


def _over_conventional(rows) -> dict[str, list[float]]:
  return {
    row["candidate"]: row["over_conventional"]
    for row in rows
    if row.get("part") == "step" and row["network"] == _NETWORK
  }


def _best(timed: Mapping[str, list[float]], *words: str) -> list[float]:
  """Returns the fastest of the ways that one of the words names, or ends."""
  chosen = [
    values
    for name, values in timed.items()
    if any(name == word or name.endswith(word) for word in words)
    and not name.startswith("block-wise")
  ]
  return max(chosen, key=lambda values: values[0])


def _of_pool(loss: Mapping[tuple, float], size: int) -> float:
  (found,) = [v for k, v in loss.items() if k[0] == "pooled" and k[2] == size]
  return found


def _words(found: statistics.Interval) -> str:
  return f"{found.estimate:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def main(argv: list[str]) -> None:
  del argv
  root = pathlib.Path(absl_flags.FLAGS.folder)
  draw(root / "first_screen.png", root)
  print("\n".join(f"- {line}" for line in lines(root)))


if __name__ == "__main__":
  absl_flags.DEFINE_string("folder", "docs/results", "where the numbers lie")
  flags.launch(main)
