"""Do subnets that train side by side pull the same way? Section 3.1.

  python -m experiments.interference --scale=cpu

The paper explains the harm of large m at large k by interference between
subnets, and does not measure it. Here it is the cosine between the gradients
of the subnets of a step, against m and k, early and late; the control is the
cosine between gradients of ONE subnet on the same groups of rows, since fewer
rows a subnet lower any cosine. About 6 minutes of two cores at the cpu scale.
"""

import itertools

from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import finished
from experiments.k_dropout import claims
from experiments.k_dropout import gradients
from experiments.k_dropout import seen
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_NUM_BATCHES = 4

absl_flags.DEFINE_enum(
  "order", "every_epoch", sizes.ORDERS, "order of the batches"
)
FLAGS = absl_flags.FLAGS

_MEASURES = ("cosine", "control_cosine", "alignment", "control_alignment")

_COLUMNS = {
  "m": columns.setting("m"),
  "k": columns.setting("k", "{:,}"),
  "k / T": columns.setting("k_over_T", "{:.4g}"),
  "after step": columns.setting("step", "{:,}"),
  **{name: columns.mean(name) for name in _MEASURES},
  "test accuracy": columns.spread("accuracy"),
}


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Compares the gradients of subnets, for each m and window."""
  rows, depth = [], experiment.depth()
  for m, k in itertools.product(scale.ms[1:], windows(scale)):
    rows += follow(store, scale, k, m, depth, FLAGS.order)
  return study.Report(
    name=_name(FLAGS.order),
    title="Interference between the subnets of a step",
    setting=study.describe(scale.config()),
    table=columns.table(rows, ("m", "k", "step"), _COLUMNS),
    rows=rows,
    numbers={"shuffle": FLAGS.order},
    claims=claims.named(*claims.TOLD["interference"]),
    judged=seen.opposed(rows),
    notes=[
      "Cosine: mean over pairs of the subnets of a step, over all weights,"
      f" means of {_NUM_BATCHES} batches. Alignment: the norm of the summed"
      " gradient over the sum of the norms. Controls: one subnet, the same"
      " groups of rows. Test accuracy is that after the last step. No claim"
      " has a figure of the paper to be held against, so there is no verdict."
    ],
    draw=figures.drawing(panels(rows), 2),
  )


def windows(scale: sizes.Scale) -> tuple[int, ...]:
  """Returns the shortest window, two between, and the whole run."""
  return (scale.ks[0], scale.windows[-2], scale.windows[-1], scale.ks[-1])


def follow(
  store: experiment.Store,
  scale: sizes.Scale,
  k: int,
  m: int,
  depth: int,
  shuffle: str,
) -> list[dict]:
  """Trains a cell's seeds and returns a row for each seed and time."""
  steps = tuple(scale.num_steps * i // 4 for i in (1, 2, 4))
  run = finished.train(
    store,
    scale,
    steps=steps,
    method="sequential",
    k=k,
    m=m,
    num_hidden=depth,
    shuffle=shuffle,
  )
  cosines = gradients.Cosines(run.nets, run.cells[0])
  rows = []
  for (cell, result), step in itertools.product(
    zip(run.cells, run.results), steps
  ):
    found = cosines.at(run.params(cell, step), cell, step, _NUM_BATCHES)
    own = {"k": k, "m": m, "seed": cell.seed, "step": step}
    own["accuracy"] = 100 * result["test_accuracy"][0]
    rows.append(own | {"k_over_T": k / scale.num_steps} | found)
  return rows


def _name(order: str) -> str:
  """Returns the name of the files: other orders stand beside the first."""
  return "interference" + ("" if order == "every_epoch" else f"_{order}")


def panels(rows: list[dict]) -> list[figures.Panel]:
  """Returns cosines and alignments by window."""
  return [
    figures.Panel(
      title=f"after step {step:,}",
      x_label="k",
      y_label="cosine of gradients",
      log_x=True,
      lines={
        f"m = {m}, {words}": rows_lib.curve(same, "k", name)
        for (m,), same in rows_lib.group(at_step, "m").items()
        for name, words in (
          ("cosine", "subnets"),
          ("control_cosine", "one subnet"),
        )
      },
    )
    for (step,), at_step in rows_lib.group(rows, "step").items()
  ]


main = experiment.main(measure, sizes.SCALES)

if __name__ == "__main__":
  experiment.launch(main)
