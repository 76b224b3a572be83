"""Do early subnets stay in the valley that they found? Section 3.2.

  python -m experiments.connectivity --scale=cpu

The paper suggests it and leaves it to future work: linear mode connectivity
between a subnet right after its window and the same subnet at later snapshots
(barriers of loss and error along the line, after Frankle et al. 2020), and how
far its weights and its mean activations have moved. Sequential, m = 1; the
runs are those of ``experiments.subnet_dynamics``. About 4 minutes of two cores
at the cpu scale once those are there.
"""

import time

import numpy as np
from absl import flags as absl_flags

from experiments.cells import finished
from experiments.cells import flags as experiment_flags
from experiments.cells import sweeps
from experiments.k_dropout import claims
from experiments.k_dropout import lines as lines_lib
from experiments.k_dropout import sizes
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import flags

_SUBNETS, _LATER = 3, 5

experiment_flags.define()

FLAGS = absl_flags.FLAGS

CLAIMS = ("early_subnets_stay_connected",)


def main(argv: list[str]) -> None:
  del argv
  began = time.perf_counter()
  scale = experiment_flags.scale(sizes.SCALES)
  store = experiment_flags.store(scale.max_members)
  rows = []
  for k in windows(scale):
    run = finished.train(
      store,
      scale,
      steps=scale.points,
      method="sequential",
      m=1,
      k=k,
      num_hidden=FLAGS.depth or 2,
    )
    lines = lines_lib.Lines(run.nets, scale.num_rows)
    rows += lines_lib.follow(run, lines, _SUBNETS, _LATER)
  minutes = study.add_minutes(
    store.folder, "connectivity", time.perf_counter() - began
  )
  write(scale, store, rows, minutes)


def windows(scale: sizes.Scale) -> tuple[int, ...]:
  """Returns the windows at whose ends there are snapshots."""
  steps = set(scale.points)
  return tuple(
    k
    for k in scale.windows
    if set(range(k, scale.num_steps + 1, k)) <= steps
    and scale.num_steps > (_SUBNETS + 1) * k
  )


def claim_rows(rows: list[dict], num_steps: int) -> list[dict]:
  """Returns the rows that the claim reads: the first subnet, to the end."""
  return [
    {
      "method": "sequential",
      "m": 1,
      "k": row["k"],
      "k_over_T": row["k"] / num_steps,
      "seed": row["seed"],
      "error_barrier_of_first": 100 * row["error_barrier"],
    }
    for row in rows
    if row["subnet"] == 0 and row["step"] == num_steps
  ]


def write(
  scale: sizes.Scale, store: sweeps.Store, rows: list[dict], minutes: float
) -> None:
  """Writes the report."""
  groups = rows_lib.group(rows, "k", "subnet", "step")
  measures = (
    *("loss_barrier", "error_barrier"),
    *("weights_moved", "activations_moved"),
  )
  study.write(
    study.Report(
      name="connectivity",
      title="Linear connectivity of early subnets (m = 1)",
      scale=scale.name,
      setting=study.describe(scale.config()),
      header=("k", "subnet", "from step", "to step", *measures),
      table=[
        (
          f"{k:,}",
          str(subnet),
          f"{same[0]['from_step']:,}",
          f"{step:,}",
          *(_mean(same, name) for name in measures),
        )
        for (k, subnet, step), same in groups.items()
      ],
      numbers={"rows": rows},
      seeds=sorted({row["seed"] for row in rows}),
      verdicts=study.judge(
        claims.named(*CLAIMS),
        claim_rows(rows, scale.num_steps),
        scale=scale.name,
      ),
      notes=[
        "A barrier is how far loss, or error (a share of images), rises above"
        " the straight line between its ends, 0 for none. Movement is the L2"
        " norm of the change over that of what was at the window's end: of the"
        " subnet's own weights, and of its mean activations in the last hidden"
        " layer."
      ],
      minutes=minutes,
    ),
    store.folder,
    draw=lambda path: figures.draw(path, _panels(rows, scale.num_steps)),
    publish=FLAGS.publish,
  )


def _panels(rows: list[dict], num_steps: int) -> list[figures.Panel]:
  panels = []
  for (k,), of_k in rows_lib.group(rows, "k").items():
    lines = {}
    last = [row for row in of_k if row["step"] == num_steps]
    for (subnet,), same in rows_lib.group(last, "subnet").items():
      errors = 100 * np.array([row["line"]["error"] for row in same])
      alphas = np.linspace(0, 1, errors.shape[1])
      lines[f"subnet {subnet}"] = (alphas, errors.T)
    panels.append(
      figures.Panel(
        title=f"k = {k}: window's end to the run's",
        x_label="position on the line",
        y_label="error (%)",
        lines=lines,
      )
    )
    moved = {}
    for (subnet,), same in rows_lib.group(of_k, "subnet").items():
      places = rows_lib.group(same, "step")
      for name in ("weights_moved", "activations_moved"):
        values = [[row[name] for row in group] for group in places.values()]
        moved[f"subnet {subnet}, {name[:-6]}"] = (
          [s for (s,) in places],
          values,
        )
    panels.append(
      figures.Panel(
        title=f"k = {k}: movement since the window's end",
        x_label="step",
        y_label="relative L2",
        lines=moved,
      )
    )
  return panels


def _mean(rows: list[dict], name: str) -> str:
  values = np.array([row[name] for row in rows], np.float64)
  return f"{values.mean():.3f}"


if __name__ == "__main__":
  flags.launch(main)
