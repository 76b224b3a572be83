"""MC dropout of networks trained with k-dropout: section 4's future work.

  python -m experiments.mc_dropout --scale=cpu

Probabilities averaged over 50 fresh subnets, and over 50 subnets of those that
a run trained (all of a smaller pool; evenly spaced windows of a longer run),
beside the whole network's: accuracy, log loss, calibration, and how well the
disagreement of subnets (mutual information) finds the images that they get
wrong. A subnet is one mask a layer for all images, evaluated as the small
network that it is. The sequential runs are those of
``experiments.subnet_dynamics``; about 5 minutes of two cores at the cpu scale
once they are there.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import networks
from experiments.k_dropout import claims
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from kdropout_jax.analysis import calibration
from kdropout_jax.analysis import mc_dropout

WHOLE, FRESH, TRAINED = "whole network", "fresh subnets", "trained subnets"

_SETTING = ("method", "k", "pool_size")

_COLUMNS = {
  "method": columns.setting("method"),
  "k": columns.setting("k", "{:,}"),
  "pool": columns.setting("pool_size", "{:,}"),
  "predicts": columns.setting("subject"),
  "test accuracy": columns.spread("accuracy"),
  "NLL": columns.spread("nll", 3),
  "ECE (points)": columns.spread("ece"),
  "AUROC of errors": columns.spread("auroc"),
}


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Predicts the test set by whole networks and by their subnets."""
  depth, rows = experiment.depth(), []
  cell = None
  for fields in settings(scale):
    run = finished.train(store, scale, num_hidden=depth, **fields)
    cell = cell or run.cells[0]
    rows += of_run(run, scale)
  assert cell is not None
  return study.Report(
    name="mc_dropout",
    title="MC dropout of networks trained with k-dropout",
    setting=study.describe(cell),
    table=columns.table(rows, (*_SETTING, "subject"), _COLUMNS),
    rows=rows,
    claims=claims.named(*claims.TOLD["mc_dropout"]),
    notes=[
      f"Subnets: {scale.num_members}, or all of a smaller pool. AUROC: of the"
      " mutual information of subnet and label (of a whole network its"
      " entropy) as a sign that the prediction is wrong; 50 says nothing.",
    ],
    draw=figures.drawing(panels(rows), 2),
  )


def settings(scale: sizes.Scale) -> list[dict]:
  """Returns the methods that are trained, as fields of a run."""
  pools = [p for p in scale.pool_sizes if 1 < p <= 200]
  m = scale.pool_ms[min(1, len(scale.pool_ms) - 1)]
  return [
    dict(method="none"),
    dict(method="standard"),
    *(
      dict(method="sequential", m=1, k=k, steps=scale.points)
      for k in scale.windows
    ),
    *(dict(method="pooled", pool_size=p, m=m) for p in pools),
  ]


def of_run(run: finished.Trained, scale: sizes.Scale) -> list[rows_lib.Row]:
  """Returns a row a seed and what predicts."""
  first = run.cells[0]
  inputs, labels = run.nets.split("test")
  own = {
    "method": first.method,
    "k": first.k if first.method == "sequential" else None,
    "pool_size": first.pool_size if first.method == "pooled" else None,
  }
  if own["k"]:
    own["k_over_T"] = own["k"] / run.nets.num_steps
  rows = []
  for cell in run.cells:
    params = run.params(cell)
    logits = np.asarray(run.nets.logits(params, inputs))[None]
    found = {WHOLE: scores(logits, labels)}
    groups = {FRESH: networks.random_ids(scale.num_members)}
    trained = trained_ids(run, scale.num_members)
    if trained.size:
      groups[TRAINED] = trained
    for name, ids in groups.items():
      logits = run.nets.subnet_logits(params, cell.seed, ids, inputs)
      found[name] = scores(logits, labels)
    for name, values in found.items():
      row = {**own, "seed": cell.seed, "subject": name, **values}
      if name != WHOLE:
        row["nll_gain"] = found[WHOLE]["nll"] - values["nll"]
      if name == TRAINED:
        row["nll_gain_over_fresh"] = found[FRESH]["nll"] - values["nll"]
      rows.append(row)
  return rows


def trained_ids(run: finished.Trained, count: int) -> np.ndarray:
  """Returns the ids of at most `count` subnets that a run trained."""
  cell = run.cells[0]
  if cell.method == "pooled":
    return np.arange(min(cell.pool_size, count))
  if cell.method == "sequential":
    windows = -(-run.nets.num_steps // cell.k)
    return np.unique(np.linspace(0, windows - 1, min(windows, count)).round())
  return np.zeros(0)


def scores(logits: Float[np.ndarray, "n B C"], labels) -> dict[str, float]:
  """Returns the scores of the mean of n predictors' probabilities.

  Args:
    logits: of each predictor.
    labels: [B].
  """
  said = jax.jit(mc_dropout.combine)(logits)
  found = calibration.scores(said.log_probs, jnp.asarray(labels))
  wrong = np.asarray(said.log_probs).argmax(axis=-1) != labels
  # A single predictor disagrees with nobody: its entropy is all its doubt.
  doubt = said.entropy if len(logits) == 1 else said.mutual_information
  return {
    "accuracy": 100 * float(found.accuracy),
    "nll": float(found.nll),
    "ece": 100 * float(found.ece),
    "auroc": 100 * area_under_roc(np.asarray(doubt), wrong),
  }


def area_under_roc(
  doubt: Float[np.ndarray, "B"], wrong: Bool[np.ndarray, "B"]
) -> float:
  """Returns how often a wrong row has more doubt than a right one.

  Ties count one half; NaN where all rows are right, or all wrong.

  >>> import numpy as np
  >>> area_under_roc(np.array([0.1, 0.9, 0.2]), np.array([False, True, False]))
  1.0
  """
  count = int(wrong.sum())
  if count in (0, wrong.size):
    return float("nan")
  ranks = stats.rankdata(doubt)[wrong].sum()
  above = ranks - count * (count + 1) / 2
  return float(above / (count * (wrong.size - count)))


def panels(rows: list[rows_lib.Row]) -> list[figures.Panel]:
  """Returns log loss by window and by pool, and how errors are found."""
  levels = {
    words: float(np.mean([row["nll"] for row in same]))
    for method, words in (("none", "no dropout"), ("standard", "standard"))
    if (
      same := [
        r for r in rows if (r["method"], r["subject"]) == (method, WHOLE)
      ]
    )
  }
  found = []
  for method, by, words in (
    ("sequential", "k", "steps k that a subnet trains"),
    ("pooled", "pool_size", "subnets in the pool"),
  ):
    chosen = [row for row in rows if row["method"] == method]
    for measured, label, level in (
      ("nll", "log loss (nats)", levels),
      ("auroc", "AUROC of errors (%)", {}),
    ):
      found.append(
        figures.Panel(
          title=f"{method} k-dropout",
          x_label=words,
          y_label=label,
          log_x=True,
          lines={
            subject: rows_lib.curve(same, by, measured)
            for (subject,), same in rows_lib.group(chosen, "subject").items()
          },
          levels=level,
        )
      )
  return found


main = experiment.main(measure, sizes.SCALES)

if __name__ == "__main__":
  experiment.launch(main)
