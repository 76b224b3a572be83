"""Variational dropout of a text: one mask for all positions of a row.

  python -m experiments.variational --scale=cpu

Gal and Ghahramani 2016, where the notes say that dropout is less effective in
recurrent networks: a small LSTM and a small transformer tell the next
character of Python's help texts, with a mask for each position, with one for
all positions, and with the latter for k steps, m subnets at a time. Bits a
character on text that comes later. 100 windows of 64 characters, 80 times over
at the cpu scale, which undropped networks then know by heart. About 10 minutes
of one core that is free. Expected: dropout helps there; few subnets at a time
cost no more.
"""

import math
from typing import Any

from experiments.cells import experiment
from experiments.cells import sweeps
from experiments.foundations import arms
from experiments.foundations import claims
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

RATE = 0.25
"""Ours, and not tuned."""

NETWORKS: dict[str, dict[str, Any]] = {
  "lstm": dict(learning_rate=2e-2),
  "transformer": dict(learning_rate=3e-3),
}
"""{network: fields}."""

_BY = ("network", "masks", "schedule")


def settings(scale: sizes.Scale) -> dict[tuple[str, ...], dict[str, Any]]:
  """Returns {(network, masks of a row, schedule): fields}."""
  schedules = sizes.schedules(scale)
  found: dict[tuple[str, ...], dict[str, Any]] = {}
  for network, own in NETWORKS.items():
    model = f"char_{network}"
    found[network, "none", "-"] = own | dict(model=model, method="none")
    dropped = own | dict(model=model, rate=RATE)
    found[network, "many", "standard"] = dropped | schedules["standard"]
    dropped = dropped | dict(model=f"{model}_variational")
    for schedule, fields in schedules.items():
      found[network, "one", schedule] = dropped | fields
  return found


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains all arms, and compares their bits a character."""
  labels = {" ".join(key): key for key in settings(scale)}
  found = arms.train(
    store,
    scale,
    {label: settings(scale)[key] for label, key in labels.items()},
    key="arm",
  )
  rows = [
    row
    | dict(zip(_BY, labels[row["arm"]], strict=True))
    | bits(sweeps.result(cell, store.folder) or {})
    for row, cell in zip(found.rows, found.cells)
  ]
  return study.Report(
    name="variational",
    title="One mask for all positions of a text",
    setting=_setting(scale),
    table=columns.table(
      rows,
      _BY,
      {
        **{name: columns.setting(name) for name in _BY},
        "training bits": columns.spread("train_bits", 3),
        "test bits a character": columns.spread("bits", 3),
        "characters told": columns.spread("accuracy"),
      },
    ),
    rows=rows,
    claims=claims.named(
      "dropout_helps_texts",
      "one_mask_is_no_worse_than_many",
      "few_masks_of_texts_cost_little",
    ),
    notes=[
      f"Rate {RATE:g}, ours and not tuned; windows of k ="
      f" {sizes.window(scale)} steps, a pool of 50. masks: many, a mask of its"
      " own at each position; one, the same at all. The cross entropy is of"
      " the network without dropout, in bits; characters told in per cent. A"
      " first run with 20 epochs in batches of 10 was too short for dropout to"
      " help anywhere, so that the length was raised; the claims are those of"
      " before."
    ],
    draw=figures.drawing(_panels(rows), columns=2),
  )


def _setting(scale: sizes.Scale) -> str:
  cell = scale.config()
  units = f"{cell.hidden} units" if cell.hidden else "64 (lstm) and 32 units"
  return (
    f"{cell.dataset}: {cell.num_train:,} windows of 64 characters; {units};"
    f" {cell.optimizer}, learning rates {_rates()} falling to 0, batch"
    f" {cell.batch_size}, {cell.epochs} epochs; last epoch, test set read once"
    " at the end. Mean +- standard deviation over seeds."
  )


def _rates() -> str:
  return " and ".join(
    f"{fields['learning_rate']:g} ({name})" for name, fields in NETWORKS.items()
  )


def bits(result: dict[str, Any]) -> rows_lib.Row:
  """Returns bits a character of a result's losses, which are in nats."""
  return {
    name: result[f"{split}_loss"][0] / math.log(2)
    for name, split in (("bits", "test"), ("train_bits", "train"))
  }


def _panels(rows: list[rows_lib.Row]) -> list[figures.Panel]:
  return [
    figures.Panel(
      title=f"{network}; one point a run",
      y_label="test bits a character",
      dots={
        " ".join(key): [row["bits"] for row in own]
        for key, own in rows_lib.group(same, "masks", "schedule").items()
      },
    )
    for (network,), same in rows_lib.group(rows, "network").items()
  ]


main = experiment.main(measure, sizes.TEXT, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
