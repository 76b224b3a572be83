"""Subnets during and after sequential training: figures 3, 4, 5, 8 to 10.

  python -m experiments.subnet_dynamics --scale=cpu

Shows the final accuracy of each trained subnet by its index, the accuracy of
every subnet during the whole run (its own window shaded, resampling marked),
and trained against random subnets for each k, with the full network. Controls,
at windows of T / 30 and more: SGD, RMSProp (as Adam, without momentum), and at
the longest window Adam with the dropped weights frozen, since Adam's momentum
moves the weights that a mask drops. During a run held-out images are looked at,
the test set once at its end; at ``--scale=paper`` nothing is held out, and the
curves read the test set as the paper's do. Expected at the cpu scale: about 30
minutes of two cores with ``--seeds=10``.
"""

from typing import Any

import numpy as np
from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import finished
from experiments.k_dropout import arms
from experiments.k_dropout import claims
from experiments.k_dropout import dynamics
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import study

absl_flags.DEFINE_bool(
  "controls", True, "also SGD, RMSProp, and frozen dropped weights"
)

FLAGS = absl_flags.FLAGS

_HEADER = (
  *("optimizer", "k", "k / T", "epochs a window", "subnets"),
  *("full network", "trained subnets", "random subnets"),
  *("U shape", "first keeps", "later lose"),
)

CONTROLS: dict[str, dict[str, Any]] = {
  "adam": {},
  # Adam's 5e-4 is far too little for plain SGD.
  "sgd": dict(optimizer="sgd", learning_rate=0.05),
  # Adam without momentum: all else is as Adam's.
  "rmsprop": dict(optimizer="rmsprop", momentum=0.0, epsilon=1e-8),
  "adam, frozen": dict(subnet_training="extract", dropped_weights="frozen"),
}
"""{label: fields of its runs}."""


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Follows the subnets of each window, of the controls and references."""
  depth = experiment.depth()

  def train(**fields) -> finished.Trained:
    return finished.train(store, scale, num_hidden=depth, **fields)

  found: dict[str, list[dynamics.Followed]] = {}
  for label, fields in CONTROLS.items():
    if label != "adam" and not FLAGS.controls:
      continue
    windows = _windows(label, scale)
    own = {"steps": scale.points, "method": "sequential", "m": 1, **fields}
    found[label] = [dynamics.follow(train(k=k, **own), scale) for k in windows]
  references = {
    method: dynamics.compare(train(method=method), scale)
    for method in ("none", "standard")
  }
  first = found["adam"][0]
  both_arms = [
    row
    for label, many in found.items()
    for one in many
    for row in dynamics.arm_rows(label, one)
  ]
  with_paper = scale.name == "paper" and depth == 3
  return study.Report(
    name="subnet_dynamics",
    title="Subnets during and after sequential training (m = 1)",
    setting=study.describe(first.cell),
    table=(
      _HEADER,
      [
        *(_reference(name, boxes) for name, boxes in references.items()),
        *(_line(label, one) for label, many in found.items() for one in many),
      ],
    ),
    rows=[*dynamics.rows(found["adam"]), *both_arms],
    numbers={
      "followed": {
        label: [one.as_json() for one in many] for label, many in found.items()
      },
      "references": {n: b.as_json() for n, b in references.items()},
    },
    seeds=first.seeds,
    claims=claims.named(*claims.TOLD["subnet_dynamics"]),
    notes=[
      "U shape: first and last sixth minus the middle. First keeps: final"
      " accuracy of subnet 0 minus that at its window's end. Later lose: the"
      " same, negated, over the subnets between the first and the last; both"
      f" on {first.watched} images. Box plots: all subnets that were trained,"
      f" {scale.num_random} random ones a seed.",
      arms.table(both_arms),
    ],
    draw=lambda path: dynamics.draw(path, found, references, with_paper),
  )


def _windows(label: str, scale: sizes.Scale) -> tuple[int, ...]:
  """Returns the windows of a control: long ones, where an arm can be seen."""
  if label == "adam":
    return scale.windows
  if label == "adam, frozen":
    return scale.windows[-1:]
  return tuple(k for k in scale.windows if 30 * k >= scale.num_steps)


def _reference(name: str, boxes: dynamics.Boxes) -> list[str]:
  full, subnets = _points(boxes.full), _points(boxes.random)
  return [name, "", "", "", "", full, "", subnets, "", "", ""]


def _line(label: str, one: dynamics.Followed) -> list[str]:
  boxes = one.boxes
  num_steps = one.num_steps
  return [
    label,
    f"{one.k:,}",
    f"{one.k / num_steps:.4g}",
    f"{one.k * one.cell.epochs / num_steps:.4g}",
    str(one.num_subnets),
    _points(boxes.full),
    _points(boxes.trained),
    _points(boxes.random),
    columns.points(one.u_shape()) if one.num_subnets > 2 else "-",
    _known(one.retention(1)),
    _known(one.loss_of_later()) if one.num_subnets > 2 else "-",
  ]


def _known(values: np.ndarray) -> str:
  """Windows shorter than the watched points tell nothing of their ends."""
  return columns.points(values) if np.isfinite(values).all() else "-"


def _points(shares: np.ndarray) -> str:
  """Returns the mean over seeds of a network's, or of subnets', accuracy."""
  means = shares if shares.ndim == 1 else shares.mean(axis=1)
  return columns.points(100 * means)


main = experiment.main(measure, sizes.SCALES)

if __name__ == "__main__":
  experiment.launch(main)
