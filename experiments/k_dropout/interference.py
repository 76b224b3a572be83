"""Do subnets that train side by side pull the same way? Section 3.1.

  python -m experiments.interference --scale=cpu

The paper explains the harm of large m at large k by interference between
subnets, and does not measure it. Here it is the cosine between the gradients
of the subnets of a step, against m and k, early and late; the control is the
cosine between gradients of ONE subnet on the same groups of rows, since fewer
rows a subnet lower any cosine. About 6 minutes of two cores at the cpu scale.
"""

import itertools
import time

import numpy as np
from absl import flags as absl_flags

from experiments.cells import finished
from experiments.cells import flags as experiment_flags
from experiments.cells import sweeps
from experiments.k_dropout import gradients
from experiments.k_dropout import sizes
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import flags

_NUM_BATCHES = 4

absl_flags.DEFINE_string("order", "every_epoch", "order of the batches")
experiment_flags.define()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  began = time.perf_counter()
  scale = experiment_flags.scale(sizes.SCALES)
  store = experiment_flags.store(scale.max_members)
  rows = []
  for m, k in itertools.product(scale.ms[1:], windows(scale)):
    rows += measure(store, scale, k, m, FLAGS.depth or 2, FLAGS.order)
  minutes = study.add_minutes(
    store.folder, "interference", time.perf_counter() - began
  )
  write(scale, store, rows, minutes)


def windows(scale: sizes.Scale) -> tuple[int, ...]:
  """Returns the shortest window, two between, and the whole run."""
  return (scale.ks[0], scale.windows[-2], scale.windows[-1], scale.ks[-1])


def measure(
  store: sweeps.Store,
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


def write(
  scale: sizes.Scale, store: sweeps.Store, rows: list[dict], minutes: float
) -> None:
  """Writes the report."""
  groups = rows_lib.group(rows, "m", "k", "step")
  measures = ("cosine", "control_cosine", "alignment", "control_alignment")
  study.write(
    study.Report(
      name=_name(FLAGS.order),
      title="Interference between the subnets of a step",
      scale=scale.name,
      setting=study.describe(scale.config()),
      header=("m", "k", "k / T", "after step", *measures, "test accuracy"),
      table=[
        (
          str(m),
          f"{k:,}",
          f"{same[0]['k_over_T']:.4g}",
          f"{step:,}",
          *(_mean(same, name) for name in measures),
          study.points([row["accuracy"] / 100 for row in same]),
        )
        for (m, k, step), same in groups.items()
      ],
      numbers={"rows": rows, "shuffle": FLAGS.order},
      seeds=sorted({row["seed"] for row in rows}),
      notes=[
        "Cosine: mean over pairs of the subnets of a step, over all weights,"
        f" means of {_NUM_BATCHES} batches. Alignment: the norm of the summed"
        " gradient over the sum of the norms. Controls: one subnet, the same"
        " groups of rows. Test accuracy is that after the last step. No claim"
        " has a figure of the paper to be held against, so there is no verdict."
      ],
      minutes=minutes,
    ),
    store.folder,
    draw=lambda path: figures.draw(path, _panels(rows), 2),
    publish=FLAGS.publish,
  )


def _name(order: str) -> str:
  """Returns the name of the files: other orders stand beside the first."""
  return "interference" + ("" if order == "every_epoch" else f"_{order}")


def _panels(rows: list[dict]) -> list[figures.Panel]:
  panels = []
  for (step,), at_step in rows_lib.group(rows, "step").items():
    lines = {}
    for (m,), of_m in rows_lib.group(at_step, "m").items():
      places = rows_lib.group(of_m, "k")
      x = [key[0] for key in places]
      for name in ("cosine", "control_cosine"):
        values = [[row[name] for row in same] for same in places.values()]
        words = "one subnet" if name.startswith("control") else "subnets"
        lines[f"m = {m}, {words}"] = (x, values)
    panels.append(
      figures.Panel(
        title=f"after step {step:,}",
        x_label="k",
        y_label="cosine of gradients",
        log_x=True,
        lines=lines,
      )
    )
  return panels


def _mean(rows: list[dict], name: str) -> str:
  values = np.array([row[name] for row in rows])
  return f"{values.mean():.3f}"


if __name__ == "__main__":
  flags.launch(main)
