"""Six regularizers on MNIST: Srivastava et al.'s table 9.

  python -m experiments.regularizers --scale=cpu

784-1024-1024-2048-10 of ReLU at the paper's scale, a quarter as wide at the
cpu scale; SGD with momentum. The sources give no strengths: ours are fixed
beforehand, the same at all scales, and 10,000 validation images are held out
at the paper's scale and left alone. About 7 minutes of two cores at the cpu
scale. Expected: dropout and max-norm help; L1 and KL beside L2 change too
little to be told, as in the paper.
"""

from typing import Any

from experiments.cells import experiment
from experiments.foundations import arms
from experiments.foundations import claims
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_SGD = dict(
  model="table9_mlp",
  num_hidden=3,
  optimizer="sgd",
  momentum=0.95,
  learning_rate=0.03,
  lr_schedule="linear",
  init="he",
)
_L2 = dict(weight_decay=5e-4)
_MAX_NORM = dict(max_norm=2.0)
_PLAIN = dict(method="none")
_DROPOUT = dict(
  method="standard", rate=paper.HIDDEN_RATE, input_rate=paper.INPUT_RATE
)

ARMS: dict[str, dict[str, Any]] = {
  "l2": _PLAIN | _L2,
  "l2_l1": _PLAIN | _L2 | dict(l1=1e-5, l1_from=0.75),
  "l2_kl": _PLAIN | _L2 | dict(sparsity=1e-4, sparsity_target=0.05),
  "max_norm": _PLAIN | _MAX_NORM,
  "dropout_l2": _DROPOUT | _L2,
  "dropout_max_norm": _DROPOUT | _MAX_NORM,
}
"""{row of table 9: fields}; the strengths are ours."""


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains the six rows, and puts them beside the paper's."""
  found = arms.train(store, scale, ARMS, key="regularizer", **_SGD)
  rows = [row | {"error": 100 - row["accuracy"]} for row in found.rows]
  dots = {
    paper.WORDS[name]: [row["error"] for row in same]
    for (name,), same in rows_lib.group(rows, "regularizer").items()
  }
  return study.Report(
    name="regularizers",
    title="Regularizers on MNIST: table 9",
    setting=study.describe(found.cells[0]),
    table=columns.table(
      rows,
      ("regularizer",),
      {
        "regularizer": lambda same: paper.WORDS[same[0]["regularizer"]],
        "paper": lambda same: f"{paper.TABLE_9[same[0]['regularizer']]:.2f}",
        "test error": columns.spread("error"),
        "training accuracy": columns.spread("train_accuracy"),
      },
    ),
    rows=rows,
    claims=claims.named(
      "max_norm_beats_l2",
      "dropout_l2_beats_l2",
      "dropout_max_norm_beats_max_norm",
      "dropout_max_norm_beats_dropout_l2",
    ),
    hits=found.hits,
    notes=[_note()],
    draw=figures.drawing(
      [
        figures.Panel(
          title="one point a run"
          + ("; x: the paper's" if scale.name == "paper" else ""),
          y_label="test error (%)",
          dots=dots,
          grey_dots={
            paper.WORDS[name]: (error,) for name, error in paper.TABLE_9.items()
          }
          if scale.name == "paper"
          else {},
        )
      ]
    ),
  )


def _note() -> str:
  error = paper.binomial_error(paper.TABLE_9["l2"])
  strengths = ", ".join(
    f"{name}={value:g}"
    for name, value in (ARMS["l2_l1"] | ARMS["l2_kl"] | _MAX_NORM).items()
    if not isinstance(value, str)
  )
  return (
    f"The paper's errors are of one network each on {paper.TEST_IMAGES:,}"
    f" images: a binomial standard error of {error:.2f} points each,"
    f" {error * 2**0.5:.2f} for a difference. Its first three rows lie within"
    " .07 and cannot be told apart, so no claim is made of them. Strengths,"
    f" ours and not tuned: {strengths}; dropout of {paper.INPUT_RATE:g} of the"
    f" inputs and {paper.HIDDEN_RATE:g} of the hidden units."
  )


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
