"""The variance shift between dropout and batch normalisation.

  python -m experiments.batch_norm --scale=cpu

The notes' limitation, after Li et al. 2019: dropout before a normalisation
raises the variance of its input in training alone, and the running variance is
that of training. At test each normalisation's input then has less variance
than it was normalised for. Perceptrons without and with normalisation, dropout
before each, after each, or after the last one; the ratio is of variances on
test images, nothing dropped, to the running ones. 1,000 images 100 times over
at the cpu scale: a network without dropout has long learnt them by heart, so
dropout can help. About 2 minutes of one core at the cpu scale, on MNIST.
Expected: ratios well below 1 behind dropout, near 1 elsewhere; dropout helps
in all places, the shift notwithstanding.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from experiments.cells import experiment
from experiments.cells import finished
from experiments.foundations import claims
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_DROPOUT = dict(method="standard", rate=paper.HIDDEN_RATE)
_PLAIN = dict(method="none")

ARMS: dict[str, dict[str, Any]] = {
  "neither": dict(model="mlp", init="he", **_PLAIN),
  "dropout": dict(model="mlp", init="he", **_DROPOUT),
  "norm": dict(model="mlp_norm_before", **_PLAIN),
  "before": dict(model="mlp_norm_before", **_DROPOUT),
  "after": dict(model="mlp_norm_after", **_DROPOUT),
  "last": dict(model="mlp_norm_last", **_DROPOUT),
}
"""{arm: fields}."""

_WORDS = {
  "neither": "neither",
  "dropout": "dropout, no normalisation",
  "norm": "normalisation, no dropout",
  "before": "dropout before each",
  "after": "dropout after each",
  "last": "dropout after the last",
}


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains the six arms, and compares variances of test and training."""
  rows = []
  for arm, fields in ARMS.items():
    run = finished.train(store, scale, **fields)
    pixels = run.nets.task.preprocess(run.nets.split("test")[0])
    for cell, result in zip(run.cells, run.results):
      row = {"arm": arm, "seed": cell.seed}
      row["accuracy"] = 100 * result["test_accuracy"][0]
      row["train_accuracy"] = 100 * result["train_accuracy"][0]
      rows.append(row | shifts(run, run.params(cell), pixels))
  num_layers = run.cells[0].num_hidden or 0
  return study.Report(
    name="batch_norm",
    title="Dropout and batch normalisation",
    setting=study.describe(run.cells[0]),
    table=columns.table(
      rows,
      ("arm",),
      {
        "network": lambda same: _WORDS[same[0]["arm"]],
        "training accuracy": columns.spread("train_accuracy"),
        "test accuracy": columns.spread("accuracy"),
        **{
          f"variance ratio {i}": columns.spread(f"ratio_{i}", 3)
          for i in range(num_layers)
        },
        "shift": columns.spread("shift", 3),
      },
    ),
    rows=rows,
    claims=claims.named(
      "dropout_before_norm_shifts_variances",
      "dropout_after_all_norms_does_not",
      "dropout_after_beats_before_norm",
      "dropout_before_norm_loses_to_norm",
    ),
    notes=[
      f"Rate {paper.HIDDEN_RATE:g}. Variance ratio of a layer's normalisation:"
      " variance of its input on the test images, nothing dropped, over its"
      " running variance, mean over units whose running variance is not 0"
      " (units that are never active have none). Shift: the larger of the"
      " ratio and its inverse, as Li et al. have it, mean over units and"
      " layers."
    ],
    draw=figures.drawing(_panels(rows, num_layers)),
  )


def shifts(run: finished.Trained, kept: Any, pixels: Any) -> rows_lib.Row:
  """Returns the ratio of each normalisation, and the mean shift."""
  statistics = run.nets.variables(kept).get("batch_stats", {})
  if not statistics:
    return {}
  inputs = normalised(run.nets.task.model, run.nets.variables(kept), pixels)
  row, all_ratios = {}, []
  for name in sorted(statistics):
    own = ratios(inputs[name], np.asarray(statistics[name]["var"]))
    row[f"ratio_{name.removeprefix('norm_')}"] = float(own.mean())
    all_ratios.append(own)
  together = np.concatenate(all_ratios)
  row["shift"] = float(np.maximum(together, 1 / together).mean())
  return row


def normalised(model: Any, variables: Any, pixels: Any) -> dict[str, Any]:
  """Returns {normalisation: its inputs [N, W]} of a test-time call."""
  seen: dict[str, Any] = {}

  def record(next_fun, args, kwargs, context):
    if isinstance(context.module, nn.BatchNorm):
      seen[str(context.module.name)] = args[0]
    return next_fun(*args, **kwargs)

  @jax.jit
  def call(variables, pixels):
    with nn.intercept_methods(record):
      model.apply(variables, pixels, train=False)
    return dict(seen)

  return call(variables, jnp.asarray(pixels))


def ratios(
  inputs: Float[np.ndarray, "N W"], running: Float[np.ndarray, "W"]
) -> Float[np.ndarray, "U"]:
  """Returns test variance over running variance, of units that have both."""
  variances = np.asarray(inputs, np.float64).var(axis=0)
  alive = (running > 1e-6) & (variances > 1e-6)
  return variances[alive] / running[alive]


def _panels(rows: list[rows_lib.Row], num_layers: int) -> list[figures.Panel]:
  arms = {arm: same for (arm,), same in rows_lib.group(rows, "arm").items()}
  ratio_dots = {
    f"{_WORDS[arm]}: {i}": [row[f"ratio_{i}"] for row in same]
    for arm, same in arms.items()
    if "shift" in same[0]
    for i in range(num_layers)
  }
  accuracies = {
    _WORDS[arm]: [row["accuracy"] for row in same] for arm, same in arms.items()
  }
  return [
    figures.Panel(
      title="one point a run and layer",
      y_label="test variance / running variance",
      dots=ratio_dots,
      levels={"no shift": 1.0},
    ),
    figures.Panel(title="one point a run", dots=accuracies),
  ]


main = experiment.main(measure, sizes.FEW, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
