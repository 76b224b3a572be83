"""Subnets that depend on the example: one subnet for some of the classes.

  python -m experiments.input_dependent

Section 2 of the k-dropout paper remarks that a sampling rule could induce
modularity, with subnets active according to the input. Here the label says
which of m fixed subnets (sequential, k = T) an example trains, on the embedded
digits at every scale; the same subnets with examples assigned by their rows
are the control. Shown: each subnet's accuracy on each class. About a minute of
two cores.
Expected: a subnet knows its own classes, all of them, and calls every other
digit one of its own; the whole network, whose subnets were never told apart
within one network, is worse than the control's.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import finished
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import study
from experiments.report import tables
from kdropout_jax.training import files

absl_flags.DEFINE_integer("subnets", 5, "subnets; the classes are shared out")
FLAGS = absl_flags.FLAGS

SCALES = {
  "cpu": sizes.resized(sizes.SMOKE, seeds=5, hidden=256, epochs=60),
  "smoke": sizes.resized(sizes.SMOKE, seeds=2, hidden=32, epochs=12),
}
"""Of the same data: digits."""

_TITLES = {
  "label": "a subnet for each two classes",
  "rows": "subnets by rows, whatever the class",
}
"""{assignment: in words}."""

Found = dict[str, dict[str, np.ndarray]]
"""{how examples are assigned: accuracies of `by_class`}."""


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Compares subnets assigned by label with the same assigned by rows."""
  found = {
    how: by_class(train(store, scale, how, FLAGS.subnets), FLAGS.subnets)
    for how in ("label", "rows")
  }
  whole = "; ".join(
    f"by {how} {columns.points(100 * values['whole'].mean(axis=1))}"
    for how, values in found.items()
  )
  return study.Report(
    name="input_dependent",
    title="Subnets assigned by label",
    setting=study.describe(scale.config()),
    table=_table(found),
    numbers=found,
    seeds=range(scale.seeds),
    notes=[
      "Accuracy on the test images of each class, in points, mean over"
      f" seeds. Whole networks: {whole} (mean over classes)."
    ],
    draw=lambda path: draw(path, found),
  )


def train(store, scale: sizes.Scale, how: str, subnets: int):
  """Trains fixed subnets whose examples are assigned by label or by rows."""
  return finished.train(
    store,
    scale,
    method="sequential",
    k=scale.num_steps,
    m=subnets,
    assignment=how,
  )


def by_class(run: finished.Trained, subnets: int) -> dict[str, np.ndarray]:
  """Returns test accuracies by class, of subnets [S, m, C], whole [S, C]."""
  inputs, labels = run.nets.split("test")
  classes = np.arange(run.nets.info.num_classes)
  found = {"subnets": [], "whole": []}
  for cell in run.cells:
    params, ids = run.params(cell), np.arange(subnets)
    logits = run.nets.subnet_logits(params, cell.seed, ids, inputs)
    right = logits.argmax(-1) == labels
    whole = np.asarray(run.nets.logits(params, inputs)).argmax(-1) == labels
    found["subnets"].append(
      [[row[labels == c].mean() for c in classes] for row in right]
    )
    found["whole"].append([whole[labels == c].mean() for c in classes])
  return {name: np.array(values) for name, values in found.items()}


def _table(found: Found) -> tables.Table:
  count, classes = found["label"]["subnets"].shape[1:]
  lines = []
  for how, values in found.items():
    for i in range(count):
      own = [c for c in range(classes) if c * count // classes == i]
      name = f"subnet {i}" + (f" (classes {own})" if how == "label" else "")
      lines.append([how, name, *_means(values["subnets"][:, i])])
    lines.append([how, "whole network", *_means(values["whole"])])
  names = [f"class {c}" for c in range(classes)]
  return ["assigned by", "network", *names], lines


def _means(values: np.ndarray) -> list[str]:
  return [f"{value:.0f}" for value in 100 * values.mean(axis=0)]


def drawn(numbers: Mapping[str, Any]) -> Callable[[pathlib.Path], None]:
  """Returns what draws the figure of numbers that were left."""
  found = {
    how: {name: np.array(own) for name, own in values.items()}
    for how, values in numbers["numbers"].items()
  }
  return lambda path: draw(path, found)


def draw(path: pathlib.Path, found: Found) -> None:
  """Draws subnets x classes, one panel an assignment, means over seeds."""
  from matplotlib import figure  # pylint: disable=g-import-not-at-top

  drawing = figure.Figure(figsize=(9, 3.6), layout="constrained")
  for ax, (how, values) in zip(drawing.subplots(1, 2), found.items()):
    means = 100 * values["subnets"].mean(axis=0)
    image = ax.imshow(means, vmin=0, vmax=100)
    ax.set(
      title=_TITLES[how],
      xlabel="class",
      ylabel="subnet",
      xticks=range(means.shape[1]),
      yticks=range(means.shape[0]),
    )
  drawing.colorbar(
    image, ax=drawing.axes, label="test accuracy (%)", shrink=0.6
  )
  with files.replacing(path) as whole:
    drawing.savefig(whole, dpi=120)


main = experiment.main(measure, SCALES)

if __name__ == "__main__":
  experiment.launch(main)
