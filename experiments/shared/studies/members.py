"""The members of section 3.3's ensembles: subnets, and independent networks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.shared import scales
from experiments.shared.running import networks
from experiments.shared.sweeping import sweeps
from experiments.shared.sweeping import trained as trained_lib
from kdropout_jax.analysis import calibration
from kdropout_jax.analysis import diversity
from kdropout_jax.analysis import ensembles
from kdropout_jax.analysis import mc_dropout
from kdropout_jax.training import rng


@dataclasses.dataclass(frozen=True)
class Group:
  """The members of one seed's ensemble.

  Attributes:
    accuracies: [M], of each member.
    curve: {"accuracy", "vote_accuracy", "nll", "brier", "ece": [M]}, of the
      ensembles of the first 1 to M.
    disagreement: mean over pairs.
    error_correlation: mean over pairs.
    double_fault: mean over pairs.
    shares: [N], of the members that are right on each image.
    hits: bool [N], images that the ensemble of all is right on.
  """

  accuracies: Float[np.ndarray, "M"]
  curve: dict[str, Float[np.ndarray, "M"]]
  disagreement: float
  error_correlation: float
  double_fault: float
  shares: Float[np.ndarray, "N"]
  hits: Bool[np.ndarray, "N"]

  def as_json(self) -> dict[str, Any]:
    """Returns plain data, without what there is for each image."""
    found = dataclasses.asdict(self)
    return {k: v for k, v in found.items() if k not in ("shares", "hits")}


@dataclasses.dataclass(frozen=True)
class Nets:
  """What is trained for the ensembles.

  Attributes:
    pooled: a pool as large as the ensembles.
    standard: standard dropout.
    none: no dropout.
    independent: networks of half the width, `size` for each seed.
    size: members of an ensemble.
  """

  pooled: trained_lib.Trained
  standard: trained_lib.Trained
  none: trained_lib.Trained
  independent: trained_lib.Trained
  size: int


def train(store: sweeps.Store, scale: scales.Scale, depth: int) -> Nets:
  """Trains all networks that are not there yet."""
  size = scale.num_members

  def run(**fields):
    return trained_lib.train(store, scale, num_hidden=depth, **fields)

  return Nets(
    pooled=run(method="pooled", pool_size=size, m=scale.pool_ms[-1]),
    standard=run(method="standard"),
    none=run(method="none"),
    independent=run(
      method="none",
      hidden=scale.common["hidden"] // 2,
      seeds=range(1000, 1000 + scale.seeds * size),
    ),
    size=size,
  )


def groups(nets: Nets, index: int) -> dict[str, Group]:
  """Returns the ensembles of the seed number `index`, on the test set."""
  own, drawn = np.arange(nets.size), networks.random_ids(nets.size)
  inputs, labels = nets.pooled.nets.split("test")

  def subnets(run: trained_lib.Trained, ids) -> Group:
    cell = run.cells[index]
    logits = run.nets.subnet_logits(run.params(cell), cell.seed, ids, inputs)
    return measure(logits, labels)

  return {
    "pooled_subnets": subnets(nets.pooled, own),
    "pooled_random_subnets": subnets(nets.pooled, drawn),
    "standard_random_subnets": subnets(nets.standard, drawn),
    "none_random_subnets": subnets(nets.none, drawn),
    "independent_networks": _independent(nets, index, inputs, labels),
  }


def whole(nets: Nets, index: int) -> dict[str, dict[str, Any]]:
  """Returns the scores of whole networks, and of MC dropout, and their hits."""
  inputs, labels = nets.standard.nets.split("test")
  found = {}
  for name in ("pooled", "standard", "none"):
    run = getattr(nets, name)
    logits = run.nets.logits(run.params(run.cells[index]), inputs)
    found[f"{name}_network"] = _scores(logits, labels)
  found["mc_dropout"] = _scores(_mc_dropout(nets, index, inputs), labels)
  return found


def measure(
  logits: Float[np.ndarray, "M B C"], labels: Int[np.ndarray, "B"]
) -> Group:
  """Returns everything about the ensembles of the members of `logits`."""
  accuracies, curve, pairs, images = _measures(logits, labels)
  differ, correlated, both_wrong = map(float, pairs)
  return Group(
    np.asarray(accuracies, np.float64),
    {k: np.asarray(v, np.float64) for k, v in curve._asdict().items()},
    disagreement=differ,
    error_correlation=correlated,
    double_fault=both_wrong,
    shares=np.asarray(images[0]),
    hits=np.asarray(images[1]),
  )


@jax.jit
def _measures(logits, labels):
  """Returns accuracies [M], the curve, three means over pairs, images [N]."""
  predictions = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  right = predictions == labels[None]
  pairs = (
    diversity.disagreement(predictions),
    diversity.error_correlation(right),
    diversity.double_fault(right),
  )
  return (
    jnp.mean(right, axis=1, dtype=jnp.float32),
    ensembles.curve(logits, labels),
    [diversity.mean_over_pairs(matrix) for matrix in pairs],
    (
      jnp.mean(right, axis=0, dtype=jnp.float32),
      jnp.argmax(ensembles.average(logits), axis=-1) == labels,
    ),
  )


def _independent(nets: Nets, index: int, inputs, labels) -> Group:
  run = nets.independent
  cells = run.cells[index * nets.size : (index + 1) * nets.size]
  logits = [
    np.asarray(run.nets.logits(run.params(cell), inputs)) for cell in cells
  ]
  return measure(np.stack(logits), labels)


def _mc_dropout(nets: Nets, index: int, inputs):
  run = nets.standard
  cell, params = run.cells[index], run.params(run.cells[index])
  task = run.nets.task

  def sample(key) -> Any:
    return task.model.apply(
      {"params": params},
      task.preprocess(inputs),
      train=True,
      rngs={"dropout": key, rng.SUBNETS: key},
    )

  key = rng.run_key(jax.random.key(cell.seed), "mc_dropout")
  return mc_dropout.predict(sample, key, nets.size).log_probs


def _scores(logits, labels) -> dict[str, Any]:
  found = calibration.scores(jnp.asarray(logits), jnp.asarray(labels))
  scores: dict[str, Any] = {k: float(v) for k, v in found._asdict().items()}
  return scores | {"hits": np.asarray(logits).argmax(axis=-1) == labels}
