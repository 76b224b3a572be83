"""Wan et al.'s convolutional networks, at a size that two cores train.

  python -m experiments.wan_cnn --scale=cpu

Their tables 3 (MNIST, plain images) and 4 (CIFAR-10): no dropout, dropout of
units and DropConnect in the one hidden dense layer, and a vote of five
networks; DropConnect also with weight masks that stand for k steps, 8 at a
time. Networks and optimizer are theirs in kind: at the cpu scale 4 and 8
(CIFAR-10: 4, 4 and 8) channels for 32 and 64, 32 hidden units for 150 and 64,
images mean-pooled to 14 x 14 and 16 x 16, 1,000 of them, 40 times over, and
Adam. About 15 minutes of one core. Expected: levels far from the paper's; few
masks at a time train many times faster than one an example.
"""

from collections.abc import Mapping
from typing import Any

from experiments.cells import experiment
from experiments.foundations import claims
from experiments.foundations import dropconnect
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
  "paper": {
    "mnist": dict(model="cnn_wan"),
    "cifar10": dict(model="cnn_wan_cifar", dataset="cifar10"),
  },
  "cpu": {
    "mnist": dict(model="cnn_wan", channels=(4, 8), hidden=32),
    "cifar10": dict(
      model="cnn_wan_cifar", dataset="cifar10", channels=(4, 4, 8), hidden=32
    ),
  },
  "smoke": {"digits": dict(model="cnn_wan", channels=(2, 3), hidden=8)},
}
"""{scale: {data: fields}}."""

_ERRORS = {
  "mnist": dict(
    zip(paper.METHODS, (mean for mean, _ in paper.WAN_TABLE_3["plain"]))
  ),
  "cifar10": dict(zip(paper.METHODS, paper.WAN_TABLE_4)),
}
_VOTES = {
  "mnist": dict(zip(paper.METHODS, paper.WAN_TABLE_3_VOTES["plain"])),
}


def arms(scale: sizes.Scale) -> dict[tuple[str, str], dict[str, Any]]:
  """Returns {(method, schedule): fields}: the paper's, and one of ours."""
  found = dropconnect.arms(scale)
  wanted = (
    ("none", "-"),
    ("dropout", "standard"),
    ("drop_connect", "standard"),
    ("drop_connect", "sequential m=8"),
  )
  return {key: found[key] for key in wanted}


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains the networks, and puts the paper's errors beside ours."""
  rows, _ = dropconnect.train(store, scale, NETWORKS[scale.name], arms(scale))
  return study.Report(
    name="wan_cnn",
    title="DropConnect in convolutional networks",
    setting=_setting(scale),
    table=columns.table(
      rows,
      dropconnect.BY,
      {
        **{name: columns.setting(name) for name in dropconnect.BY},
        "paper's error": lambda same: _papers(_ERRORS, same),
        "paper's vote": lambda same: _papers(_VOTES, same),
        **dropconnect.COLUMNS,
      },
    ),
    rows=rows,
    claims=claims.named(
      "drop_connect_beats_none",
      "unit_dropout_beats_none",
      "moments_are_like_the_mean_network",
      "five_networks_vote_better",
    ),
    notes=[
      "The paper's: errors in per cent, of whole images for hundreds of epochs;"
      " of table 4 it has no vote, and verdicts take the differences of table 3"
      " on both. Ours: accuracies of the mean network and of"
      " the Gaussian of the moments, and the vote of all seeds."
    ],
    draw=figures.drawing(dropconnect.panels(rows)),
  )


def _papers(
  table: Mapping[str, Mapping[Any, float]], same: list[rows_lib.Row]
) -> str:
  """Returns the paper's number for a line; of its own methods alone."""
  row = same[0]
  if row["schedule"] not in ("-", "standard"):
    return "-"
  found = table.get(row["network"], {}).get(row["method"])
  return "-" if found is None else f"{found:.2f}"


def _setting(scale: sizes.Scale) -> str:
  names = " and ".join(NETWORKS[scale.name])
  common = scale.common
  return (
    f"{names}, mean-pooled {common['mean_pool']} x, {common['num_train']:,}"
    f" training images; {common['optimizer']}, learning rate"
    f" {common['learning_rate']:g}, batch {common['batch_size']},"
    f" {common['epochs']} epochs; last epoch, test set read once at the end."
    " Accuracies in points, mean +- standard deviation over seeds."
  )


main = experiment.main(measure, sizes.WAN, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
