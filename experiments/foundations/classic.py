"""Dropout as first described, against inverted dropout and none.

  python -m experiments.classic --scale=cpu

Srivastava et al. 2014 keep .8 of the inputs and half of the hidden units,
leave the scale alone in training, and multiply the weights by what was kept at
test; the variant in use divides in training. About 2 minutes of two cores at
the cpu scale, on MNIST. Expected: both are alike, and better than none.
"""

from experiments.cells import experiment
from experiments.foundations import arms
from experiments.foundations import claims
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

_RATES = dict(
  method="standard", rate=paper.HIDDEN_RATE, input_rate=paper.INPUT_RATE
)
ARMS = {
  "none": dict(method="none"),
  "inverted": dict(**_RATES, rescale="expected"),
  "at_test": dict(**_RATES, rescale="at_test"),
}


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains the three ways, and compares them."""
  found = arms.train(store, scale, ARMS)
  dots = {
    label: [row["accuracy"] for row in same]
    for (label,), same in rows_lib.group(found.rows, "method").items()
  }
  return study.Report(
    name="classic",
    title="Dropout as first described",
    setting=study.describe(found.cells[0]),
    table=columns.table(
      found.rows,
      ("method",),
      {"dropout": columns.setting("method"), **arms.ACCURACIES},
    ),
    rows=found.rows,
    claims=claims.named(
      "scaling_at_test_is_like_inverted", "classic_dropout_beats_none"
    ),
    hits=found.hits,
    notes=[
      f"Dropped: {paper.INPUT_RATE:g} of the inputs, {paper.HIDDEN_RATE:g} of"
      " the hidden units. inverted: `--rescale=expected`; at_test:"
      " `--rescale=at_test`. For a linear layer both have one expectation"
      " (a test enumerates all masks). Training differs: with weights w that"
      " count for p w at test, an optimizer's step is p times as large there,"
      " and so are the initial weights."
    ],
    draw=figures.drawing([figures.Panel(title="one point a run", dots=dots)]),
  )


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
