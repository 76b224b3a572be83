"""Do early subnets stay in the valley that they found? Section 3.2.

  python -m experiments.connectivity --scale=cpu

The paper suggests it and leaves it to future work: linear mode connectivity
between a subnet right after its window and the same subnet at later snapshots
(barriers of loss and error along the line, after Frankle et al. 2020), and how
far its weights and its mean activations have moved. Sequential, m = 1; the
runs are those of ``experiments.subnet_dynamics``. About 4 minutes of two cores
at the cpu scale once those are there.
"""

import numpy as np

from experiments.cells import experiment
from experiments.cells import finished
from experiments.k_dropout import claims
from experiments.k_dropout import lines as lines_lib
from experiments.k_dropout import lines_words
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_SUBNETS, _LATER = 3, 5
_DRAWN = 4  # of the windows, the longest

_MEASURES = (
  *("loss_barrier", "error_barrier", "error_over_mean"),
  *("weights_moved", "activations_moved"),
)

_COLUMNS = {
  "k": columns.setting("k", "{:,}"),
  "subnet": columns.setting("subnet"),
  "from step": columns.setting("from_step", "{:,}"),
  "to step": columns.setting("step", "{:,}"),
  **{name: columns.mean(name) for name in _MEASURES},
}


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Compares the first subnets of each window with later snapshots."""
  rows = []
  for k in windows(scale):
    run = finished.train(
      store,
      scale,
      steps=scale.points,
      method="sequential",
      m=1,
      k=k,
      num_hidden=experiment.depth(),
    )
    lines = lines_lib.Lines(run.nets, scale.num_rows)
    rows += lines_lib.follow(run, lines, _SUBNETS, _LATER)
  depth = experiment.depth()
  run = finished.train(store, scale, method="standard", num_hidden=depth)
  control = lines_lib.control(run, lines_lib.Lines(run.nets, scale.num_rows))
  return study.Report(
    name="connectivity",
    title="Linear connectivity of early subnets (m = 1)",
    setting=study.describe(scale.config()),
    table=columns.table(rows, ("k", "subnet", "step"), _COLUMNS),
    rows=rows,
    claims=claims.named(*claims.TOLD["connectivity"]),
    numbers={"control": control},
    judged=[
      *lines_words.claim_rows(rows, scale.num_steps),
      *lines_words.control_rows(control),
    ],
    notes=[lines_words.NOTE, lines_words.control_note(control)],
    draw=figures.drawing(panels(rows, scale.num_steps)),
  )


def windows(scale: sizes.Scale) -> tuple[int, ...]:
  """Returns the windows at whose ends there are snapshots."""
  steps = set(scale.points)
  return tuple(
    k
    for k in scale.windows
    if set(range(k, scale.num_steps + 1, k)) <= steps
    and scale.num_steps > (_SUBNETS + 1) * k
  )


def panels(rows: list[dict], num_steps: int) -> list[figures.Panel]:
  """Returns the lines and the movement of each window."""
  panels = []
  for (k,), of_k in [*rows_lib.group(rows, "k").items()][-_DRAWN:]:
    ends = [row for row in of_k if row["step"] == num_steps]
    panels.append(
      figures.Panel(
        title=f"k = {k}: window's end to the run's",
        x_label="position on the line",
        y_label="error (%)",
        lines={
          f"subnet {subnet}": _errors(same)
          for (subnet,), same in rows_lib.group(ends, "subnet").items()
        },
      )
    )
    panels.append(
      figures.Panel(
        title=f"k = {k}: movement since the window's end",
        x_label="step",
        y_label="relative L2",
        lines={
          f"subnet {subnet}, {name[:-6]}": rows_lib.curve(same, "step", name)
          for (subnet,), same in rows_lib.group(of_k, "subnet").items()
          for name in ("weights_moved", "activations_moved")
        },
      )
    )
  return panels


def _errors(same: list[dict]):
  """Returns positions on the line, and the error at each in points."""
  errors = 100 * np.array([row["line"]["error"] for row in same])
  return np.linspace(0, 1, errors.shape[1]), errors.T


main = experiment.main(measure, sizes.SCALES)

if __name__ == "__main__":
  experiment.launch(main)
