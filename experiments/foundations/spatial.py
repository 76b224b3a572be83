"""SpatialDropout against dropout of units in a convolutional network.

  python -m experiments.spatial --scale=cpu

Tompson et al. 2015, by the lecture: neighbours in an activation map are alike,
so that dropping units has virtually no effect, and whole channels are dropped.
New are channels that are dropped for k steps, m subnets at a time (the
k-dropout paper's future work). 1,000 images of CIFAR-10, mean-pooled to 16 x
16, 50 times over at the cpu scale: undropped, the network knows them twice as
well as new ones, so that dropout can help. About 4 minutes of one core that is
free. Expected: units help, whole channels, of which there are 16 and 32, cost
a point; few subnets at a time cost no more.
"""

from typing import Any

from experiments.cells import experiment
from experiments.foundations import arms
from experiments.foundations import claims
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

RATE = 0.3
"""Ours, and not tuned: dropped units or channels after each convolution."""

_BY = ("drops", "schedule")


def settings(scale: sizes.Scale) -> dict[tuple[str, str], dict[str, Any]]:
  """Returns {(what is dropped, schedule): fields}."""
  schedules = sizes.schedules(scale)
  return {
    ("none", "-"): dict(model="cnn_units", method="none"),
    **{
      (drops, schedule): dict(model=f"cnn_{drops}", rate=RATE, **fields)
      for drops in ("units", "channels")
      for schedule, fields in schedules.items()
      if (drops, schedule) != ("units", "pooled m=8")
    },
  }


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains all arms, and compares them."""
  labels = {" ".join(key): key for key in settings(scale)}
  found = arms.train(
    store,
    scale,
    {label: settings(scale)[key] for label, key in labels.items()},
    key="arm",
  )
  rows = [
    row | dict(zip(_BY, labels[row["arm"]], strict=True)) for row in found.rows
  ]
  dots = {
    label: [row["accuracy"] for row in same]
    for (label,), same in rows_lib.group(rows, "arm").items()
  }
  return study.Report(
    name="spatial",
    title="Dropout of channels and of units",
    setting=study.describe(found.cells[0]),
    table=columns.table(
      rows,
      _BY,
      {**{name: columns.setting(name) for name in _BY}, **arms.ACCURACIES},
    ),
    rows=rows,
    claims=claims.named(
      "units_of_maps_do_nothing",
      "channels_beat_units",
      "few_channel_masks_cost_little",
    ),
    hits=found.hits,
    notes=[
      f"Rate {RATE:g} after each convolution, ReLU and pooling, ours and not"
      f" tuned; windows of k = {sizes.window(scale)} steps, a pool of 50."
    ],
    draw=figures.drawing([figures.Panel(title="one point a run", dots=dots)]),
  )


main = experiment.main(measure, sizes.SPATIAL, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
