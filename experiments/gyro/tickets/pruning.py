"""Are gyro dropout's winning tickets better? Figure 6, section 5.2.

  python -m experiments.pruning --scale=cpu

Iterative magnitude pruning with rewinding (Frankle and Carbin 2018; to the
initialisation, ResNet to epoch 1) after gyro and conventional training: rounds
to 45, 20, 10 and 5 % of the weights, each retrained with the method, the seed
and the whole schedule that found it; the same with whole units of the layers
that drop units, ranked by the norm of what they make and read (structured
pruning, not in the paper). Pruned weights are held at zero, in gradients and
parameters, by masks that one compiled program takes for all rounds. The
paper's 26 of 42 better tickets have a sign test of p = .08, so each setting is
judged by its interval over seeds. ``--dry_run`` prints cells, steps and time;
the same command continues what was stopped. ``--shard=i/n`` trains a part
alone: the command without it then writes the report. At the cpu scale (MLP2 on
CIFAR-10, a stand-in, and MLP3 on NSL-KDD, width 256) about 15 minutes of two
cores; at the paper's it keeps the parameters of every round, some 60 GB.
"""

import numpy as np
from absl import flags as absl_flags
from scipy import stats

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.gyro import claims
from experiments.gyro import flags as gyro_flags
from experiments.gyro.tickets import rounds
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

gyro_flags.define()
experiment_flags.define_sharing()

FLAGS = absl_flags.FLAGS

CLAIMS = ("winning_tickets_are_better",)

_CLAIMED = (20, 10, 5)  # per cent left


def main(argv: list[str]) -> None:
  del argv
  scale, store = gyro_flags.scale(), gyro_flags.store()
  todo = rounds.plans(scale, store.max_members, FLAGS.shard, store.data_dir)
  experiment.share(
    store.folder,
    "pruning",
    plan=lambda: rounds.describe(todo, store),
    train=lambda: rounds.run(todo, store),
    done=lambda: f": {len(todo)} packs with all rounds",
    report=lambda: report(rounds.rows(todo, store), todo),
  )


def report(rows: list[rows_lib.Row], done: list[rounds.Plan]) -> study.Report:
  """Returns the report on finished packs and their rows."""
  first = {plan.label: plan.cells[0] for plan in done}
  return study.Report(
    name="pruning",
    title="Winning tickets (figure 6)",
    setting="\n\n".join(map(study.describe, first.values())),
    table=columns.table(rows, ("row", "kind", "percent_left"), _COLUMNS),
    rows=rows,
    claims=claims.named(*CLAIMS),
    notes=[
      "Each round leaves a share of all weights, layer by layer (ResNet:"
      " over all layers), or of each layer's units, and trains anew. The"
      " difference is the mean over seeds, in points, with its 95 % t"
      " interval; a seed's two tickets share initialisation and batches.",
      sign_test(rows),
      *_untrained(rows),
    ],
    draw=figures.drawing(panels(rows), 2),
  )


def sign_test(rows: list[rows_lib.Row]) -> str:
  """Returns in how many of the paper's cases gyro's mean is higher."""
  claimed = [
    row
    for row in rows
    if row["kind"] == "weights" and row["percent_left"] in _CLAIMED
  ]
  wins = [
    difference.mean() > 0
    for same in rows_lib.group(claimed, "row", "percent_left").values()
    for difference in [differences(same)]
    if difference.size
  ]
  if not wins:
    return "No round left 20, 10 or 5 % of the weights."
  won, cases = sum(wins), len(wins)
  p = stats.binomtest(won, cases, alternative="greater").pvalue
  return (
    f"At 20, 10 and 5 % of the weights gyro's mean is higher in {won} of"
    f" {cases} cases (one-sided sign test p = {p:.2f}); in the paper in 26 of"
    " 42 (p = 0.08)."
  )


def differences(same: list[rows_lib.Row]) -> np.ndarray:
  """Returns gyro minus conventional for each seed that has both, in points."""
  methods = rows_lib.group(same, "method")
  gyro, base = (methods.get((m,), []) for m in ("gyro", "conventional"))
  return rows_lib.differences(gyro, base)


def _untrained(rows: list[rows_lib.Row]) -> list[str]:
  labels = dict.fromkeys(row["row"] for row in rows if not row["all_trained"])
  if not labels:
    return []
  return [f"Not all Sigma trained, and so in no verdict: {', '.join(labels)}."]


def panels(rows: list[rows_lib.Row]) -> list[figures.Panel]:
  """Returns a panel a row and kind of pruning."""
  return [
    figures.Panel(
      title=f"{label}: pruned {kind}",
      y_label=f"{label}: test accuracy (%)",
      x_label=f"{kind} left (%)",
      log_x=True,
      lines={
        method: _round_by_round(same)
        for (method,), same in rows_lib.group(own, "method").items()
      },
    )
    for (label, kind), own in rows_lib.group(rows, "row", "kind").items()
  ]


def _round_by_round(same: list[rows_lib.Row]):
  """Returns what is left, from all to little, and accuracies at each."""
  x, values = rows_lib.curve(same, "percent_left")
  return x[::-1], values[::-1]


def _of_method(method: str) -> columns.Column:
  return lambda same: columns.points(
    [row["accuracy"] for row in same if row["method"] == method]
  )


def _won(same: list[rows_lib.Row]) -> str:
  paired = differences(same)
  return f"{int((paired > 0).sum())} of {paired.size}"


_COLUMNS: dict[str, columns.Column] = {
  "row": columns.setting("row"),
  "pruned": columns.setting("kind"),
  "% left": columns.setting("percent_left", "{:g}"),
  "% of the weights": columns.mean("weights_left", 1),
  **{method: _of_method(method) for method in rounds.METHODS},
  "gyro minus conventional": lambda same: columns.paired(differences(same)),
  "seeds won": _won,
}


if __name__ == "__main__":
  experiment.launch(main)
