"""Subnets of a pool, random ones, and independent networks as ensembles.

  python -m experiments.ensembles --scale=cpu

Section 3.3, figures 6 and 7: the subnets of a pool of 50, random subnets, and
50 independently trained networks of half the width, each alone and as
ensembles of 1 to 50, averaged and by vote: accuracy, NLL, ECE, diversity; MC
dropout is one more row. About 15 minutes of two cores at the cpu scale, most
of it for the independent networks. Expected: the independent ensemble is best
by far, though its members are no better than the pool's subnets.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.cells import ensembles as groups_lib
from experiments.cells import experiment
from experiments.k_dropout import claims
from experiments.k_dropout import ensemble_members
from experiments.k_dropout import paper as paper_lib
from experiments.k_dropout import seen
from experiments.k_dropout import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study

ENSEMBLES = {
  "pooled_subnets": "pooled_ensemble",
  "pooled_random_subnets": "pooled_random_ensemble",
  "standard_random_subnets": "standard_random_ensemble",
  "none_random_subnets": "none_random_ensemble",
  "independent_networks": "independent_ensemble",
}
"""{members: the ensemble that they are}."""

_HEADER = (
  *("subject", "one member", "ensemble, average", "ensemble, vote"),
  *("NLL", "ECE", "disagreement", "error correlation"),
)

Found = list[dict[str, groups_lib.Group]]
Whole = list[dict[str, dict[str, Any]]]
"""Of each seed: {subject: its ensemble, or its scores}; accuracies, shares."""


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Compares ensembles of subnets, of networks, and whole networks."""
  depth = experiment.depth()
  nets = ensemble_members.train(store, scale, depth)
  seeds = nets.pooled.seeds
  found = [ensemble_members.groups(nets, index) for index in range(len(seeds))]
  whole = [ensemble_members.whole(nets, index) for index in range(len(seeds))]
  claims_rows, hits = rows(seeds, found, whole)
  with_paper = scale.name == "paper" and depth == 3
  scores = [
    {
      name: {k: v for k, v in own.items() if k != "hits"}
      for name, own in networks.items()
    }
    for networks in whole
  ]
  own = {"rows": claims_rows, "whole": scores}
  return study.Report(
    name="ensembles",
    title="Subnets and networks as ensembles",
    setting=study.describe(nets.pooled.cells[0]),
    table=(
      _HEADER,
      [
        *(_whole_line(name, whole) for name in whole[0]),
        *(_line(name, found) for name in ENSEMBLES),
      ],
    ),
    rows=claims_rows,
    numbers={
      "groups": [
        {name: group.as_json() for name, group in groups.items()}
        for groups in found
      ],
      "whole": scores,
    },
    claims=claims.named(*claims.TOLD["ensembles"]),
    judged=seen.ensembles({"seeds": seeds, "numbers": own}),
    hits=hits,
    notes=[
      f"Ensembles of {nets.size}. Random subnets are one mask a layer that no"
      " run trained, each evaluated as the small network that it is."
      " Disagreement and error correlation are means over pairs of members."
    ],
    draw=figures.drawing(_panels(found, whole, with_paper), 2),
  )


def rows(
  seeds: list[int], found: Found, whole: Whole
) -> tuple[list[rows_lib.Row], dict[int, np.ndarray]]:
  """Returns what the claims read: a row a subject and seed, and its images.

  Returns:
    The rows, accuracies in points; {row number: [N]}, shares of hits.
  """
  result: list[rows_lib.Row] = []
  images: dict[int, np.ndarray] = {}

  def add(subject: str, seed: int, hits: np.ndarray, accuracy: float) -> None:
    images[len(result)] = hits
    row = {"subject": subject, "seed": seed, "accuracy": 100 * float(accuracy)}
    result.append(row)

  for seed, groups, networks in zip(seeds, found, whole):
    for name, own in networks.items():
      add(name, seed, own["hits"], own["accuracy"])
    for name, group in groups.items():
      add(name, seed, group.shares, float(group.accuracies.mean()))
      last = group.curve["accuracy"][-1]
      add(ENSEMBLES[name], seed, group.hits, last)
  return result, images


def _whole_line(name: str, whole: Whole) -> list[str]:
  own = {key: [w[name][key] for w in whole] for key in whole[0][name]}
  nll, ece = (f"{np.mean(own[key]):.3f}" for key in ("nll", "ece"))
  return [_words(name), _points(own["accuracy"]), "", "", nll, ece, "", ""]


def _line(name: str, found: Found) -> list[str]:
  groups = [groups[name] for groups in found]
  last = {
    key: [group.curve[key][-1] for group in groups] for key in groups[0].curve
  }
  return [
    _words(name),
    _points([group.accuracies.mean() for group in groups]),
    _points(last["accuracy"]),
    _points(last["vote_accuracy"]),
    f"{np.mean(last['nll']):.3f}",
    f"{np.mean(last['ece']):.3f}",
    f"{np.mean([group.disagreement for group in groups]):.3f}",
    f"{np.mean([group.error_correlation for group in groups]):.3f}",
  ]


def _points(shares: list[float]) -> str:
  return columns.points(100 * np.asarray(shares))


_WORDS = {
  "pooled_subnets": "subnets of the pool",
  "pooled_random_subnets": "random subnets, pool",
  "standard_random_subnets": "random subnets, standard dropout",
  "none_random_subnets": "random subnets, no dropout",
  "independent_networks": "independent networks",
  "pooled_network": "network trained on the pool",
  "standard_network": "network, standard dropout",
  "none_network": "network, no dropout",
  "mc_dropout": "MC dropout",
}


def _words(name: str) -> str:
  return _WORDS[name]


def drawn(numbers: Mapping[str, Any]) -> figures.Drawing:
  """Returns what draws the figure of numbers that were left."""
  nothing = np.zeros(0)
  found = [
    {
      name: groups_lib.Group(
        **{
          **own,
          "accuracies": np.array(own["accuracies"]),
          "curve": {k: np.array(v) for k, v in own["curve"].items()},
        },
        shares=nothing,
        hits=nothing,
      )
      for name, own in groups.items()
    }
    for groups in numbers["numbers"]["groups"]
  ]
  with_paper = numbers["scale"] == "paper"
  panels = _panels(found, numbers["numbers"]["whole"], with_paper)
  return figures.drawing(panels, 2)


def _panels(
  found: Found, whole: Whole, with_paper: bool
) -> list[figures.Panel]:
  members_of = np.arange(1, len(found[0]["pooled_subnets"].accuracies) + 1)

  def curves(key: str, factor: float = 100.0):
    return {
      _words(name): (
        members_of,
        factor * np.stack([groups[name].curve[key] for groups in found], 1),
      )
      for name in ENSEMBLES
    }

  levels = {
    _words(name): 100 * float(np.mean([w[name]["accuracy"] for w in whole]))
    for name in whole[0]
  }
  known = paper_lib.FIGURE_7 if with_paper else {}
  paper = {f"paper: {n}": (members_of[-1:], [v]) for n, v in known.items()}
  boxes = {
    _words(name): 100 * np.concatenate([g[name].accuracies for g in found])
    for name in ENSEMBLES
  }
  average, vote = curves("accuracy"), curves("vote_accuracy")
  common: dict[str, Any] = dict(x_label="members of the ensemble")
  return [
    figures.Panel(title="single members", boxes=boxes, levels=levels),
    figures.Panel(
      title="probabilities averaged",
      lines=average,
      levels=levels,
      paper=paper,
      **common,
    ),
    figures.Panel(title="majority vote", lines=vote, **common),
    figures.Panel(
      title="probabilities averaged",
      y_label="log loss (nats)",
      lines=curves("nll", 1.0),
      **common,
    ),
  ]


main = experiment.main(measure, sizes.SCALES)

if __name__ == "__main__":
  experiment.launch(main)
