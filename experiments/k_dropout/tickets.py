"""Pruning of networks trained with k-dropout: section 4's future work.

  python -m experiments.tickets --scale=cpu

The paper expects larger k to make networks more modular, so that more can be
pruned. Two answers, for standard dropout and three windows: the accuracy of a
trained network whose smallest weights are set to zero, layer by layer, and that
of winning tickets (iterative magnitude pruning, rewound to the initialisation
and trained again by the same method; Frankle and Carbin 2018) with as many
weights. The first trainings are those of ``experiments.subnet_dynamics``; about
15 minutes of two cores at the cpu scale once they are there.
"""

import functools
from typing import Any

import jax
import numpy as np

from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import sweeps
from experiments.cells import tickets
from experiments.k_dropout import claims
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import config as config_lib
from kdropout_jax.analysis import pruning

FRACTIONS = (0.45, 0.2, 0.1, 0.05)

_COLUMNS = {
  "method": columns.setting("method"),
  "k": columns.setting("k", "{:,}"),
  "% of the weights": columns.setting("percent_left"),
  "pruned, as trained": columns.spread("pruned_accuracy"),
  "winning tickets": columns.spread("ticket_accuracy"),
}


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Prunes networks, and trains what is left anew."""
  depth, rows, first = experiment.depth(), [], None
  for fields in settings(scale):
    run = finished.train(store, scale, num_hidden=depth, **fields)
    first = first or run.cells[0]
    rows += of_run(run, store)
  assert first is not None
  return study.Report(
    name="tickets",
    title="Pruning of networks trained with k-dropout (m = 1)",
    setting=study.describe(first),
    table=columns.table(rows, ("method", "k", "percent_left"), _COLUMNS),
    rows=rows,
    claims=claims.named(*claims.TOLD["tickets"]),
    notes=[
      "Each round leaves a share of all weights, layer by layer. Pruned, as"
      " trained: the smallest weights of the trained network set to zero."
      " Winning tickets: rewound to the initialisation and trained again with"
      " the method, the seed and the whole schedule that found them, a round"
      " after the other.",
    ],
    draw=figures.drawing(panels(rows), 2),
  )


def settings(scale: sizes.Scale) -> list[dict]:
  """Returns what is trained first, as fields of a run."""
  ks = sorted({*scale.windows[:2], scale.windows[-1]})
  windows = [
    dict(method="sequential", m=1, k=k, steps=scale.points) for k in ks
  ]
  return [dict(method="standard"), *windows]


def of_run(
  run: finished.Trained, store: experiment.Store
) -> list[rows_lib.Row]:
  """Returns a row a seed and share of the weights, in points."""
  first = run.cells[0]
  own: rows_lib.Row = {"method": first.method, "k": None}
  if first.method == "sequential":
    own |= {"k": first.k, "k_over_T": first.k / run.nets.num_steps}
  rows = [
    {**own, "seed": cell.seed, "percent_left": 100}
    | dict.fromkeys(("pruned_accuracy", "ticket_accuracy"), accuracy)
    for cell, accuracy in zip(run.cells, map(_accuracy, run.results))
  ]
  for count, fraction in enumerate(FRACTIONS, 1):
    found = _train(run.cells, count, store)
    for cell, result in zip(run.cells, found):
      row = {**own, "seed": cell.seed, "percent_left": round(100 * fraction)}
      row["pruned_accuracy"] = pruned_accuracy(run, cell, fraction)
      row["ticket_accuracy"] = _accuracy(result)
      rows.append(row)
  return rows


def pruned_accuracy(
  run: finished.Trained, cell: config_lib.RunConfig, fraction: float
) -> float:
  """Returns the accuracy of a network's largest weights, in points."""
  inputs, labels = run.nets.split("test")
  left = tickets.find_masks(
    jax.tree.map(lambda leaf: leaf[None], run.params(cell)), fraction
  )
  masks = jax.tree.map(lambda leaf: leaf[0], left)
  logits = run.nets.logits(pruning.apply(run.params(cell), masks), inputs)
  return 100 * float(np.mean(np.asarray(logits).argmax(axis=-1) == labels))


def panels(rows: list[rows_lib.Row]) -> list[figures.Panel]:
  """Returns both accuracies by the share of the weights, a line a method."""
  found = []
  for measured, title in (
    ("pruned_accuracy", "smallest weights set to zero"),
    ("ticket_accuracy", "winning tickets, trained again"),
  ):
    groups = rows_lib.group(rows, "method", "k")
    found.append(
      figures.Panel(
        title=title,
        x_label="% of the weights that are left",
        log_x=True,
        lines={
          "standard dropout" if k is None else f"k = {k:,}": rows_lib.curve(
            same, "percent_left", measured
          )
          for (_, k), same in groups.items()
        },
      )
    )
  return found


def _train(
  cells: sweeps.Cells, count: int, store: experiment.Store
) -> list[dict[str, Any]]:
  """Trains the tickets of a round that are not there; returns results."""
  round_of = [tickets.ticket(cell, FRACTIONS[:count]) for cell in cells]
  make = functools.partial(tickets.make, folder=store.folder)
  return store.results(round_of, make)


def _accuracy(result) -> float:
  return 100 * result["test_accuracy"][0]


main = experiment.main(measure, sizes.SCALES)

if __name__ == "__main__":
  experiment.launch(main)
