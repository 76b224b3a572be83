"""DropConnect against dropout and none, also under k-dropout schedules.

  python -m experiments.dropconnect --scale=cpu

Wan et al. 2013 drop weights, for each example anew, and infer by the Gaussian
of the moments of what a layer sums up; here beside the mean network. Five
networks, one a seed, vote. 784-800-800-10 at the paper's scale, 196-64-64-10 at
the cpu scale (their CNNs: `experiments.wan_cnn`): each row of a batch has masks
over all weights of its own. New are weight masks that stand for k steps, m at
a time. About 18 minutes of two cores at the cpu scale. Expected: few subnets at
a time cost little and train many times faster than a mask an example.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import networks
from experiments.foundations import claims
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from kdropout_jax.analysis import ensembles

NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
  "paper": {"mlp": dict(model="mlp", hidden=800, num_hidden=2)},
  "cpu": {"mlp": dict(model="mlp", hidden=64)},
  "smoke": {"mlp": dict(model="mlp")},
}
"""{scale: {label: fields}}."""

_ROWS = 1000  # Images at a time.
BY = ("network", "method", "schedule")
COLUMNS = {
  **{name: columns.setting(name) for name in BY},
  "mean network": columns.spread("accuracy"),
  "moments": columns.spread("accuracy_by_moments"),
  "vote of all seeds": columns.setting("vote", "{:.2f}"),
  "training examples a second": columns.mean("examples_per_second", 0),
}


def arms(scale: sizes.Scale) -> dict[tuple[str, str], dict[str, Any]]:
  """Returns {(method, schedule): fields}."""
  rate = dict(rate=paper.HIDDEN_RATE)
  window = max(1, scale.num_steps // 20)
  schedules: dict[str, dict[str, Any]] = {
    "sequential m=8": dict(method="sequential", k=window, m=8),
    "sequential m=1": dict(method="sequential", k=window, m=1),
    "pooled m=8": dict(method="pooled", pool_size=50, m=8),
  }
  return {
    ("none", "-"): dict(method="none"),
    ("dropout", "standard"): dict(method="standard", **rate),
    ("dropout", "sequential m=8"): schedules["sequential m=8"] | rate,
    ("drop_connect", "standard"): dict(method="drop_connect", **rate),
    **{
      ("drop_connect", name): fields | rate | dict(drops="weights")
      for name, fields in schedules.items()
    },
  }


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains all arms of each network, and infers in both ways."""
  rows, cell = train(store, scale, NETWORKS[scale.name], arms(scale))
  return study.Report(
    name="dropconnect",
    title="DropConnect",
    setting=study.describe(cell),
    table=columns.table(rows, BY, COLUMNS),
    rows=rows,
    claims=claims.named(
      "drop_connect_beats_none",
      "unit_dropout_beats_none",
      "moments_are_like_the_mean_network",
      "five_networks_vote_better",
    ),
    notes=[
      f"Rate {paper.HIDDEN_RATE:g} in the hidden dense layers; windows of k ="
      f" {max(1, scale.num_steps // 20)} steps, a pool of 50. Moments: the"
      f" ReLU averaged over {scale.num_sampled} draws of a Gaussian with the"
      " mean and variance of each sum (section 3.2; a test holds them against"
      " samples). Examples a second are of all seeds side by side and noisy:"
      " other work shared the machine."
    ],
    draw=figures.drawing(panels(rows)),
  )


def train(
  store: experiment.Store,
  scale: sizes.Scale,
  networks: Mapping[str, Mapping[str, Any]],
  methods: Mapping[tuple[str, str], Mapping[str, Any]],
) -> tuple[list[rows_lib.Row], Any]:
  """Returns a row for each network, method and seed, and a cell.

  Args:
    store: where cells live.
    scale: the size.
    networks: {label: fields}.
    methods: {(method, schedule): fields}.
  """
  rows = []
  for network, own in networks.items():
    for (method, schedule), fields in methods.items():
      run = finished.train(store, scale, **(dict(own) | dict(fields)))
      label = {"network": network, "method": method, "schedule": schedule}
      rows += [label | row for row in infer(run, scale.num_sampled)]
  return rows, run.cells[0]


def infer(run: finished.Trained, num_samples: int) -> list[rows_lib.Row]:
  """Returns a row a seed: its accuracy in both ways, and all seeds' vote."""
  inputs, labels = run.nets.split("test")
  batches = range(0, len(labels), _ROWS)
  apply = {"mean": run.nets.logits, "moments": moments(run.nets, num_samples)}
  logits: dict[str, list[np.ndarray]] = {"mean": [], "moments": []}
  for cell in run.cells:
    params = run.params(cell)
    for name, fn in apply.items():
      if fn is not None:
        parts = [np.asarray(fn(params, inputs[b : b + _ROWS])) for b in batches]
        logits[name].append(np.concatenate(parts))
  vote = accuracy(ensembles.vote(jnp.asarray(np.stack(logits["mean"]))), labels)
  rows = []
  for i, (cell, result) in enumerate(zip(run.cells, run.results)):
    own = accuracy(logits["mean"][i].argmax(-1), labels)
    row = {"seed": cell.seed, "accuracy": own, "vote": vote}
    row["vote_minus_one"] = vote - own
    row["examples_per_second"] = result["examples_per_second"]
    if logits["moments"]:
      by_moments = accuracy(logits["moments"][i].argmax(-1), labels)
      row["accuracy_by_moments"] = by_moments
      row["moments_minus_mean"] = by_moments - own
    rows.append(row)
  return rows


def moments(nets: networks.Networks, num_samples: int) -> Any:
  """Returns what infers by moments; None where no layer drops weights."""
  model: Any = nets.task.model
  if model.connections is None:
    return None
  model = model.clone(
    connections=functools.partial(
      model.connections, inference="moments", num_samples=num_samples
    )
  )

  @jax.jit
  def logits(params: Any, inputs: Any) -> Float[jax.Array, "B C"]:
    return model.apply(
      nets.variables(params),
      nets.task.preprocess(inputs),
      train=False,
      rngs={"dropout": jax.random.key(0)},
    )

  return logits


def accuracy(predicted: Any, labels: Int[np.ndarray, "N"]) -> float:
  """Returns the share of labels that are predicted, in points."""
  return 100 * float(np.mean(np.asarray(predicted) == labels))


def panels(rows: list[rows_lib.Row]) -> list[figures.Panel]:
  """Returns a panel a network: accuracies, and the seeds' vote."""
  return [
    figures.Panel(
      title=f"{network}; one point a run, x: their vote",
      dots={
        " ".join(key): [row["accuracy"] for row in own]
        for key, own in rows_lib.group(same, "method", "schedule").items()
      },
      grey_dots={
        " ".join(key): (own[0]["vote"],)
        for key, own in rows_lib.group(same, "method", "schedule").items()
      },
    )
    for (network,), same in rows_lib.group(rows, "network").items()
  ]


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
