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
import time

import numpy as np
from absl import flags as absl_flags

from experiments.cells import finished
from experiments.cells import flags as experiment_flags
from experiments.k_dropout import sizes
from experiments.report import study
from experiments.run import flags

absl_flags.DEFINE_integer("subnets", 5, "subnets; the classes are shared out")
experiment_flags.define()

FLAGS = absl_flags.FLAGS

_HIDDEN = {"cpu": 256, "smoke": 32}
_EPOCHS = {"cpu": 60, "smoke": 12}


def main(argv: list[str]) -> None:
  del argv
  began = time.perf_counter()
  if FLAGS.scale not in _HIDDEN:
    raise ValueError(f"scale must be cpu or smoke, got {FLAGS.scale!r}")
  scale = scale_of(FLAGS.scale)
  store = experiment_flags.store(sizes.SCALES[FLAGS.scale].max_members)
  found = {
    how: by_class(train(store, scale, how, FLAGS.subnets), FLAGS.subnets)
    for how in ("label", "rows")
  }
  minutes = study.add_minutes(
    store.folder, "input_dependent", time.perf_counter() - began
  )
  write(scale, store.folder, found, minutes)


def scale_of(name: str) -> sizes.Scale:
  """Returns the smoke scale, or one of the same data and a wider network."""
  return sizes.resized(
    sizes.SMOKE,
    seeds=experiment_flags.num_seeds() or {"cpu": 5, "smoke": 2}[name],
    hidden=_HIDDEN[name],
    epochs=_EPOCHS[name],
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


def write(
  scale: sizes.Scale, folder: pathlib.Path, found, minutes: float
) -> None:
  """Writes the report."""
  count, classes = found["label"]["subnets"].shape[1:]
  rows = []
  for how, values in found.items():
    for i in range(count):
      own = [c for c in range(classes) if c * count // classes == i]
      means = 100 * values["subnets"][:, i].mean(axis=0)
      name = f"subnet {i}" + (f" (classes {own})" if how == "label" else "")
      rows.append([how, name, *(f"{v:.0f}" for v in means)])
    means = 100 * values["whole"].mean(axis=0)
    rows.append([how, "whole network", *(f"{v:.0f}" for v in means)])
  study.write(
    study.Report(
      name="input_dependent",
      title="Subnets assigned by label",
      scale=FLAGS.scale,
      setting=study.describe(scale.config()),
      header=(
        "assigned by",
        "network",
        *(f"class {c}" for c in range(classes)),
      ),
      table=rows,
      numbers=found,
      seeds=list(range(scale.seeds)),
      notes=[
        "Accuracy on the test images of each class, in points, mean over"
        " seeds. Whole networks: "
        + "; ".join(
          f"by {how} {study.points(v['whole'].mean(axis=1))}"
          for how, v in found.items()
        )
        + " (mean over classes)."
      ],
      minutes=minutes,
    ),
    folder,
    draw=lambda path: draw(path, found),
    publish=FLAGS.publish,
  )


def draw(path: pathlib.Path, found) -> None:
  """Draws subnets x classes, one panel an assignment."""
  from matplotlib import figure  # pylint: disable=g-import-not-at-top

  drawing = figure.Figure(figsize=(9, 3.6), layout="constrained")
  for ax, (how, values) in zip(drawing.subplots(1, 2), found.items()):
    image = ax.imshow(values["subnets"].mean(axis=0), vmin=0, vmax=1)
    ax.set(title=f"assigned by {how}", xlabel="class", ylabel="subnet")
  drawing.colorbar(image, ax=drawing.axes, label="test accuracy")
  drawing.savefig(path, dpi=120)


if __name__ == "__main__":
  flags.launch(main)
