"""Are gyro dropout's subnets more diverse? Figure 5, section 5.2.

  python -m experiments.diversity --scale=cpu

Ten subnets that trained in the last epoch, each by itself, scaled as in
training: the pairwise L1 distance of their last hidden features on the test
set, over the units that both keep, divided by the features' mean norm, beside
conventional dropout's (whose subnets of the last epoch are ten of its random
masks); disagreement, error correlation, the subnets' own accuracy. Random
subnets, which no step trained, stand beside them: they tell whether the
training of these subnets or the network makes the difference. The runs are
those that ``experiments.pruning`` starts from. BERT's masks differ from
position to position, so that it has no such features. At the cpu scale (MLP2
on CIFAR-10, a stand-in, and MLP3 on NSL-KDD, width 256) about 5 minutes of
two cores, 3 where the other's runs are there. Expected by the paper: distances
21.9 % above conventional dropout's.
"""

import dataclasses
import math

import numpy as np

from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import networks
from experiments.gyro import analysed
from experiments.gyro import claims
from experiments.gyro import flags as gyro_flags
from experiments.gyro import subnet_diversity
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

gyro_flags.define()

CLAIMS = ("features_are_more_diverse",)

_PAPER_GAIN = 21.9


def main(argv: list[str]) -> None:
  del argv
  scale, store = gyro_flags.scale(), gyro_flags.store()
  experiment.report(store.folder, lambda: measure(scale, store))


def measure(scale: analysed.Scale, store: experiment.Store) -> study.Report:
  """Compares subnets of each row and method."""
  found, settings = [], []
  for label in scale.rows:
    for method in analysed.METHODS:
      cells = analysed.cells(scale, label, method, store.data_dir)
      own = {"row": label, "method": method, **scale.rows[label].names}
      run = finished.of(store, cells)
      found += [own | one for one in follow(run, scale.num_subnets)]
      if method == "gyro":
        settings.append(study.describe(cells[0]))
  rows = with_gains(found)
  return study.Report(
    name="diversity",
    title="Diversity of subnets (figure 5)",
    setting="\n\n".join(settings),
    table=columns.table(rows, ("row", "method", "subnets"), _COLUMNS),
    rows=rows,
    claims=claims.named(*CLAIMS),
    notes=[
      f"{scale.num_subnets} subnets a seed, one mask a layer, on the whole"
      " test set; means over their pairs. The distance is over units that"
      " both subnets keep; over all units it is mostly that of the masks."
      f" The paper's mean over its rows: {_PAPER_GAIN} % above conventional"
      " dropout. Random subnets were trained by no step."
    ],
    draw=figures.drawing(panels(rows), 2),
  )


def follow(run: finished.Trained, count: int) -> list[rows_lib.Row]:
  """Compares `count` subnets of each seed, trained ones and random ones."""
  comparison = subnet_diversity.Comparison(run.nets)
  found = []
  for cell, result in zip(run.cells, run.results):
    trained = subnet_diversity.of_last_epoch(run.nets, cell.seed)
    groups = {
      "last epoch": subnet_diversity.choose(trained, count, cell.seed),
      "random": networks.random_ids(count),
    }
    for group, ids in groups.items():
      seen = comparison.of(run.params(cell), cell.seed, ids)
      found.append(
        {
          "seed": cell.seed,
          "subnets": group,
          "whole": result["test_accuracy"][0],
          "num_subnets": result["num_subnets"],
          "all_trained": cell.method != "gyro"
          or result["num_subnets"] == cell.total,
          **dataclasses.asdict(seen),
        }
      )
  return found


def with_gains(found: list[rows_lib.Row]) -> list[rows_lib.Row]:
  """Adds how far each distance is above conventional dropout's, in per cent.

  The claim reads the subnets of the last epoch, where all Sigma were trained
  and their features say something: pairs without a shared live unit do not.
  """
  conventional = {
    (row["row"], row["subnets"], row["seed"]): row["distance"]
    for row in found
    if row["method"] == "conventional"
  }
  rows = []
  for row in found:
    base = conventional[row["row"], row["subnets"], row["seed"]]
    gain = 100.0 * (row["distance"] / base - 1.0) if base else math.nan
    own = {"gain": gain}
    is_last = row["subnets"] == "last epoch"
    if is_last and row["all_trained"] and math.isfinite(gain):
      own["feature_distance_gain_percent"] = gain
    rows.append(row | own)
  return rows


def panels(rows: list[rows_lib.Row]) -> list[figures.Panel]:
  """Returns distances and accuracies of subnets, two panels a row."""
  found = []
  for (label,), own in rows_lib.group(rows, "row").items():
    groups = rows_lib.group(own, "method", "subnets")
    found += [
      figures.Panel(
        title=f"{label}: feature distance",
        y_label="above conventional dropout's (%)",
        dots=_dots(groups, "gain", 1.0),
        levels={"paper, mean of its rows": _PAPER_GAIN},
      ),
      figures.Panel(
        title=f"{label}: single subnets", dots=_dots(groups, "accuracy", 100)
      ),
    ]
  return found


def _dots(groups, name: str, factor: float) -> dict[str, np.ndarray]:
  return {
    f"{method}, {subnets}": factor * _of(same, name)
    for (method, subnets), same in groups.items()
  }


def _of(same: list[rows_lib.Row], name: str) -> np.ndarray:
  return np.array([row[name] for row in same], np.float64)


def _shares(name: str) -> columns.Column:
  return lambda same: columns.points(100 * _of(same, name))


def _trained(same: list[rows_lib.Row]) -> str:
  count = f"{same[0]['num_subnets']:,}"
  return count if same[0]["all_trained"] else f"{count} (not all Sigma trained)"


_COLUMNS: dict[str, columns.Column] = {
  "row": columns.setting("row"),
  "method": columns.setting("method"),
  "subnets trained": _trained,
  "whole network": _shares("whole"),
  "compared": columns.setting("subnets"),
  "feature distance": columns.spread("distance", 3),
  "above conventional (%)": columns.spread("gain", 1),
  "distance, all units": columns.spread("distance_of_all", 3),
  "disagreement": columns.spread("disagreement", 3),
  "error correlation": columns.spread("error_correlation", 3),
  "single subnets": _shares("accuracy"),
  "their ensemble": _shares("ensemble"),
}


if __name__ == "__main__":
  experiment.launch(main)
