"""The effect of p, of width at constant p n, and of the training set's size.

  python -m experiments.effects --scale=cpu

Srivastava et al. 2014, section 7: accuracy with and without dropout of hidden
units, as one sweep of three figures. All runs take equally many steps. About
11 minutes of two cores at the cpu scale, on MNIST. Expected: flat from .3 to
.7; dropout gains most at middling sizes of the training set.
"""

from typing import Any

import numpy as np

from experiments.cells import experiment
from experiments.foundations import arms
from experiments.foundations import claims
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_DROPOUT = dict(method="standard", rate=paper.HIDDEN_RATE)


def settings(scale: sizes.Scale) -> dict[str, dict[float, dict[str, Any]]]:
  """Returns {part: {x: fields}}.

  At constant p n the narrowest network keeps all of its units.
  """
  narrow = scale.widths[0]
  sizes_ = scale.train_sizes
  return {
    "rate": {rate: dict(method="standard", rate=rate) for rate in scale.rates},
    "width": {
      n: dict(hidden=n, method="standard", rate=1 - narrow / n)
      if n > narrow
      else dict(hidden=n, method="none")
      for n in scale.widths
    },
    "size, dropout": {n: dict(num_train=n, **_DROPOUT) for n in sizes_},
    "size, none": {n: dict(num_train=n, method="none") for n in sizes_},
  }


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains the sweep, and draws its three figures."""
  rows = []
  length = dict(epochs=30, num_steps=scale.num_steps // 2)
  for part, by in settings(scale).items():
    found = _train(store, scale, by, length)
    rows += [row | {"part": part} for row in found]
  best = best_rate(rows)
  return study.Report(
    name="effects",
    title="Effect of p, width and size of the training set",
    setting=_setting(scale),
    table=columns.table(
      rows,
      ("part", "x"),
      {
        "part": columns.setting("part"),
        "rate, units or images": columns.setting("x", "{:g}"),
        **arms.ACCURACIES,
      },
    ),
    rows=rows,
    claims=claims.named("half_is_close_to_optimal"),
    judged=best,
    notes=[
      f"width: {scale.widths[0]} units are kept on average in each hidden"
      " layer, whatever its width; the narrowest network drops none. size:"
      f" rate {paper.HIDDEN_RATE:g}, and none. The claim's difference is that"
      " of rate .5 to the rate that is best on average, seed by seed."
    ],
    draw=figures.drawing(_panels(rows)),
  )


def _train(store, scale, by, length) -> list[rows_lib.Row]:
  labels = {f"{x:g}": x for x in by}
  found = arms.train(
    store,
    scale,
    {label: by[x] | length for label, x in labels.items()},
    key="x",
  )
  return [row | {"x": labels[row["x"]]} for row in found.rows]


def best_rate(rows: list[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns the rows of rate .5, less the rate that is best on average."""
  own = [row for row in rows if row["part"] == "rate"]
  means = rows_lib.means(own, "x")
  (best,) = max(means, key=means.__getitem__)
  top = {row["seed"]: row["accuracy"] for row in own if row["x"] == best}
  return [
    row | {"accuracy_minus_the_best_rate": row["accuracy"] - top[row["seed"]]}
    for row in own
    if np.isclose(row["x"], paper.HIDDEN_RATE) and row["seed"] in top
  ]


def _setting(scale: sizes.Scale) -> str:
  cell = scale.config(**_DROPOUT)
  return (
    f"{study.describe(cell)} But for what varies, and {scale.num_steps // 2:,}"
    " steps for each run."
  )


def _panels(rows: list[rows_lib.Row]) -> list[figures.Panel]:
  parts = rows_lib.group(rows, "part")
  words = {
    "rate": "probability of dropping a hidden unit",
    "width": "hidden units n, p n constant",
    "size": "training images",
  }
  return [
    figures.Panel(
      x_label=label,
      log_x=name != "rate",
      lines={
        part.partition(", ")[2] or "dropout": rows_lib.curve(same, "x")
        for (part,), same in parts.items()
        if part.startswith(name)
      },
    )
    for name, label in words.items()
  ]


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
