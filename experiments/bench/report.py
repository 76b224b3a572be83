"""Tables and the plot of `experiments.throughput`."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.bench import in_order
from experiments.bench import shapes
from experiments.report import passport
from experiments.report import tables
from kdropout_jax.training import files

# Speed-up over the dense product at a drop rate, as published.
_PUBLISHED = {
  # Gyro dropout (Lee et al. 2023), table 7, is relative to its own kernel at
  # rate 0, so that its points belong to no axis of this plot.
  "SparseDrop, 1024^3, forward": {0.5: 1.57},
}

_SIDES = {"in": "inputs masked", "out": "outputs masked", "both": "both masked"}
_SHAPES = {
  shape.name: f"{shape.rows} x {shape.inputs} x {shape.outputs},"
  f" {_SIDES[shape.masks]}"
  for shape in shapes.SHAPES
}
"""{shape: in words}."""


def facts(rounds: int, seconds: float) -> dict[str, Any]:
  """Returns how a benchmark was made: command, minutes, machine."""
  return {
    "command": passport.command(),
    "minutes": round(seconds / 60, 2),
    "rounds": rounds,
    "tunables": os.environ.get("GLIBC_TUNABLES", ""),
    **passport.of_this_machine(),
  }


def markdown(result, further: Sequence[str] = ()) -> str:
  """Returns the tables of all parts under one heading, and `further` ones."""
  heading = (
    f"{result['device']}; jax {result['versions']['jax']}; rounds"
    f" {result['rounds']}; GLIBC_TUNABLES={result['tunables'] or 'unset'};"
    f" {result['minutes']:.0f} minutes\n\n    {result['command']}"
  )
  parts = [heading]
  op = [row for row in result["rows"] if row["part"] == "op"]
  step = [row for row in result["rows"] if row["part"] == "step"]
  if op:
    parts += ["## The product", _op_table(op), _auto_line(op)]
  ordered = [row for row in result["rows"] if row["part"] == "in_order"]
  if ordered:
    parts += ["## Units in the order of their parts", in_order.table(ordered)]
  if step:
    parts += ["## Whole training steps", _step_table(step)]
  return "\n\n".join([*parts, *further]) + "\n"


def _op_table(rows) -> str:
  header = (
    "shape", "masks", "direction", "rate", "T", "block", "candidate", "ms",
    "ideal", "x over x @ w", "x over flax", "x over dense",
  )  # fmt: skip
  return tables.text(
    header,
    [
      (
        row["shape"],
        row["masks"],
        row["direction"],
        f"{row['rate']:g}",
        str(row["groups"]),
        str(row["block_size"]),
        row["candidate"] + (f" ({row['chosen']})" if row["chosen"] else ""),
        f"{row['ms']:.3f}",
        _ideal(row["ideal"]),
        _ratio(row["over_matmul"]),
        _ratio(row["over_flax"]),
        _ratio(row["over_dense"]),
      )
      for row in rows
    ],
  )


def _auto_line(rows) -> str:
  """States where auto is slowest against dense, which is its promise.

  Where auto runs dense, the two are one program: its ratio is the noise.
  """
  auto = [row for row in rows if row["candidate"] == "auto"]
  other = [row for row in auto if row["chosen"] != "dense"]
  same = [row["over_dense"][0] for row in auto if row["chosen"] == "dense"]
  lines = []
  if other:
    worst = min(other, key=lambda row: row["over_dense"][0])
    below = sum(row["over_dense"][0] < 0.97 for row in other)
    lines += [
      "Where auto runs something other than dense: worst median"
      f" {worst['over_dense'][0]:.2f} of dense at {worst['shape']},"
      f" {worst['direction']}, rate {worst['rate']:g}, T = {worst['groups']},"
      f" blocks of {worst['block_size']}; below 0.97 in {below} of"
      f" {len(other)} cells."
    ]
  if same:
    lines += [
      "Where auto runs dense, the same program twice, medians are between"
      f" {min(same):.2f} and {max(same):.2f} in {len(same)} cells: the noise."
    ]
  return " ".join(lines)


def _step_table(rows) -> str:
  header = ("network", "batch", "width", "method", "ms", "ideal", "x faster")
  return tables.text(
    header,
    [
      (
        row["network"],
        str(row["batch_size"]),
        str(row["width"]),
        row["candidate"],
        f"{row['ms']:.2f}",
        _ideal(row["ideal"]),
        _ratio(row["over_conventional"]),
      )
      for row in rows
    ],
  )


def _ideal(value) -> str:
  return "-" if value is None else f"{value:.2f}"


def _ratio(values) -> str:
  return "{:.2f} [{:.2f}, {:.2f}]".format(*values)


def plot(rows, path: pathlib.Path) -> None:
  """Draws speed over ``x @ w`` against the drop rate, papers' points included.

  Nothing is drawn where part (a) did not vary the rate.
  """
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  curves = {}
  for row in rows:
    if row["part"] == "op" and row["groups"] == 1 and row["block_size"] == 32:
      if row["candidate"] == "auto":
        words = _SHAPES.get(row["shape"], row["shape"])
        name = f"{words}, {row['direction']}"
        curves.setdefault(name, []).append((row["rate"], row["over_matmul"][0]))
  if not any(len(points) > 1 for points in curves.values()):
    return
  figure, axes = plt.subplots(figsize=(8, 5))
  for number, (name, points) in enumerate(sorted(curves.items())):
    style = "--" if name.endswith("backward") else "-"
    axes.plot(*zip(*sorted(points)), style, color=f"C{number // 2}", label=name)
  for name, points in _PUBLISHED.items():
    axes.plot(*zip(*sorted(points.items())), "k*", label=f"{name} (published)")
  axes.axhline(1, color="grey", linewidth=0.8)
  dropped = [rate / 100 for rate in range(96)]
  for power, label in ((1, "ideal, one side and both"), (2, None)):
    ideal = [(1 - rate) ** -power for rate in dropped]
    axes.plot(dropped, ideal, ":", color="grey", lw=1, label=label)
  axes.set_yscale("log")
  ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
  axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
  axes.set_yticks([], minor=True)
  axes.grid(alpha=0.3)
  slowest = min(speed for points in curves.values() for _, speed in points)
  axes.set_ylim(min(0.8, 0.9 * slowest), 120)
  axes.set_xlim(-0.02, 0.95)
  axes.set_xlabel("drop rate")
  axes.set_ylabel("times faster than x @ w")
  axes.legend(fontsize=7)
  figure.tight_layout()
  with files.replacing(path) as whole:
    figure.savefig(whole, dpi=150)
  plt.close(figure)
