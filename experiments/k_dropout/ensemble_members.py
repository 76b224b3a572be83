"""The members of section 3.3's ensembles: subnets, and independent networks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cells import ensembles
from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import networks
from experiments.k_dropout import sizes
from kdropout_jax.analysis import calibration
from kdropout_jax.analysis import mc_dropout
from kdropout_jax.training import rng


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

  pooled: finished.Trained
  standard: finished.Trained
  none: finished.Trained
  independent: finished.Trained
  size: int


def train(store: experiment.Store, scale: sizes.Scale, depth: int) -> Nets:
  """Trains all networks that are not there yet."""
  size = scale.num_members

  def run(**fields):
    return finished.train(store, scale, num_hidden=depth, **fields)

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


def groups(nets: Nets, index: int) -> dict[str, ensembles.Group]:
  """Returns the ensembles of the seed number `index`, on the test set."""
  own, drawn = np.arange(nets.size), networks.random_ids(nets.size)
  inputs, labels = nets.pooled.nets.split("test")

  def subnets(run: finished.Trained, ids) -> ensembles.Group:
    cell = run.cells[index]
    logits = run.nets.subnet_logits(run.params(cell), cell.seed, ids, inputs)
    return ensembles.measure(logits, labels)

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


def _independent(nets: Nets, index: int, inputs, labels) -> ensembles.Group:
  run = nets.independent
  cells = run.cells[index * nets.size : (index + 1) * nets.size]
  logits = [
    np.asarray(run.nets.logits(run.params(cell), inputs)) for cell in cells
  ]
  return ensembles.measure(np.stack(logits), labels)


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
