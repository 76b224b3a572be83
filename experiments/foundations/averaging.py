"""Averaging sampled subnets against the scaled network, for 1 to 100 of them.

  python -m experiments.averaging --scale=cpu

Dropout at test uses one network with scaled weights for the equally weighted
geometric mean of all subnets (Srivastava et al. 2014). Here subnets that were
never trained as such are sampled, and their arithmetic mean, geometric mean
and vote stand beside it. About 2 minutes of two cores at the cpu scale, on
MNIST. Expected: tens of subnets reach the scaled network, and hardly pass it.
"""

import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import networks
from experiments.foundations import claims
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_SIZES = (1, 2, 3, 5, 10, 20, 30, 50, 70, 100)
_ROWS = 1000  # Images at a time.
_PREDICTORS = ("arithmetic", "geometric", "vote")


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains with dropout, and averages subnets of what was trained."""
  run = finished.train(
    store,
    scale,
    method="standard",
    rate=paper.HIDDEN_RATE,
    input_rate=paper.INPUT_RATE,
  )
  rows = []
  for cell, result in zip(run.cells, run.results):
    logits, labels = sampled(
      run.nets, run.params(cell), cell.seed, scale.num_sampled
    )
    whole = 100 * result["test_accuracy"][0]
    rows.append({"seed": cell.seed, "predictor": "scaled", "accuracy": whole})
    rows += averages(logits, labels, cell.seed)
  last = max(row["n"] for row in rows if "n" in row)
  return study.Report(
    name="averaging",
    title="Averaging subnets against scaling weights",
    setting=study.describe(run.cells[0]),
    table=columns.table(
      rows,
      ("predictor", "n"),
      {
        "predictor": columns.setting("predictor"),
        "subnets": columns.setting("n"),
        "test accuracy": columns.spread("accuracy"),
      },
    ),
    rows=rows,
    claims=claims.named(
      "scaling_is_like_averaging", "geometric_is_like_arithmetic"
    ),
    judged=[row for row in rows if row.get("n", last) == last],
    notes=[
      "A sampled subnet is one mask a layer, for all images. For one hidden"
      " layer and a softmax the geometric mean over all masks IS the scaled"
      " network (a test enumerates them); dropped inputs and further layers"
      " make it an approximation."
    ],
    draw=figures.drawing([_panel(rows)]),
  )


def sampled(
  nets: networks.Networks, params: Any, seed: int, count: int
) -> tuple[Float[np.ndarray, "M N C"], Int[np.ndarray, "N"]]:
  """Returns test logits of `count` random subnets, and the labels."""
  inputs, labels = nets.split("test")
  key, ids = networks.run_key(seed), networks.random_ids(count)
  ids = jax.numpy.asarray(ids, jax.numpy.uint32)

  @jax.jit
  def of(params, batch):
    one = functools.partial(nets.subnet, params, key)
    return jax.lax.map(lambda subnet: one(subnet, batch)[0], ids)

  parts = [
    np.asarray(of(params, inputs[first : first + _ROWS]))
    for first in range(0, len(labels), _ROWS)
  ]
  return np.concatenate(parts, axis=1), labels


def averages(
  logits: Float[np.ndarray, "M N C"],
  labels: Int[np.ndarray, "N"],
  seed: int,
) -> list[rows_lib.Row]:
  """Returns a row for each predictor and number of members, up to M."""
  log_probs = np.asarray(jax.nn.log_softmax(logits))
  members = log_probs.shape[0]
  totals = {
    "arithmetic": np.cumsum(np.exp(log_probs), axis=0),
    "geometric": np.cumsum(log_probs, axis=0),
    "vote": np.cumsum(
      np.eye(log_probs.shape[2])[log_probs.argmax(axis=2)], axis=0
    ),
  }
  # Ties of votes go to the more probable class, as in `analysis.ensembles`.
  totals["vote"] += totals["arithmetic"] / (2 * members)
  return [
    {
      "seed": seed,
      "predictor": name,
      "n": n,
      "accuracy": 100 * float(np.mean(total[n - 1].argmax(1) == labels)),
    }
    for name, total in totals.items()
    for n in _SIZES
    if n <= members
  ]


def _panel(rows: list[rows_lib.Row]) -> figures.Panel:
  groups = rows_lib.group(rows, "predictor")
  return figures.Panel(
    x_label="sampled subnets",
    log_x=True,
    lines={
      name: rows_lib.curve(groups[name,], "n")
      for name in _PREDICTORS
      if (name,) in groups
    },
    levels={"scaled": float(rows_lib.means(rows, "predictor")["scaled",])},
  )


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
