"""How differently the subnets of a run see: figure 5 of the gyro paper.

The paper takes ten subnets that trained in the last epoch. Conventional
dropout's are as many as examples: ten random masks, each trained once.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from experiments.cells import ensembles
from experiments.cells import networks
from kdropout_jax.analysis import diversity
from kdropout_jax.training import step as step_lib

_ROWS = 1000  # images at a time


@dataclasses.dataclass(frozen=True)
class Found:
  """Some subnets of one network, each a network of its own.

  Attributes:
    distance: of the last hidden features, over units that both keep, in units
      of their mean norm; mean over pairs.
    distance_of_all: the same over all units, where it is mostly the masks'.
    disagreement: share of images that two of them name differently.
    error_correlation: of two of them.
    accuracy: of one of them, mean.
    ensemble: accuracy of their mean probabilities.
  """

  distance: float
  distance_of_all: float
  disagreement: float
  error_correlation: float
  accuracy: float
  ensemble: float


def of_last_epoch(nets: networks.Networks, seed: int) -> Int[np.ndarray, "n"]:
  """Returns the ids of the subnets that the last epoch of a run trains."""
  config, task = nets.config, nets.task
  schedule: Any = config.schedule(nets.num_steps)
  if config.method not in ("standard", "gyro") or config.per_layer:
    raise ValueError(
      "method must be standard or gyro, one subnet for the whole network, got"
      f" {config.method!r} with per_layer={config.per_layer}"
    )
  key = jax.random.key(seed, impl="threefry2x32")
  first = max(0, nets.num_steps - task.steps_per_epoch)

  @jax.jit
  def at(steps):
    one = functools.partial(step_lib.global_ids, task, key, schedule)
    return jax.vmap(one)(steps)

  return np.unique(np.asarray(at(jnp.arange(first, nets.num_steps))))


def choose(
  ids: Int[np.ndarray, "n"], count: int, seed: int
) -> Int[np.ndarray, "m"]:
  """Returns `count` of the ids at random; all where there are fewer."""
  random = np.random.default_rng(seed)
  return np.sort(random.choice(ids, min(count, len(ids)), replace=False))


class Comparison:
  """Compares subnets of one network on its whole test set.

  Args:
    nets: the network's cells.
  """

  def __init__(self, nets: networks.Networks):
    self._nets = nets
    self._last = f"dropout_{nets.task.num_sites - 1}"
    self._on_batch = jax.jit(self._compare)

  def of(self, params: Any, seed: int, ids: Int[np.ndarray, "n"]) -> Found:
    """Compares the subnets `ids` of the run with `seed`."""
    inputs, labels = self._nets.split("test")
    keep = self._nets.masks(seed, ids)[self._last].dense()
    key, traced = networks.run_key(seed), jnp.asarray(ids, jnp.uint32)
    logits, sums = [], np.zeros((4, len(ids), len(ids)))
    for first in range(0, len(labels), _ROWS):
      rows = slice(first, first + _ROWS)
      part, more = self._on_batch(params, key, traced, keep, inputs[rows])
      logits.append(np.asarray(part))
      sums += np.asarray(more, np.float64)
    group = ensembles.measure(np.concatenate(logits, axis=1), labels)
    return Found(
      distance=_ratio(*sums[:2]),
      distance_of_all=_ratio(*sums[2:]),
      disagreement=group.disagreement,
      error_correlation=group.error_correlation,
      accuracy=float(group.accuracies.mean()),
      ensemble=float(group.curve["accuracy"][-1]),
    )

  def _compare(self, params, key, ids, keep, inputs):
    """Returns logits [n, B, C]; sums of distances and norms, [4, n, n]."""
    logits, features = jax.lax.map(
      lambda i: self._nets.subnet(params, key, i, inputs), ids
    )
    sums = (
      *diversity.feature_sums(features, keep),
      *diversity.feature_sums(features),
    )
    return logits, jnp.stack(sums)


def _ratio(distances: np.ndarray, norms: np.ndarray) -> float:
  """Returns the mean over pairs of distance over norm, without silent ones."""
  values = np.divide(
    distances, norms, out=np.full_like(norms, np.nan), where=norms > 0
  )
  return float(diversity.mean_over_pairs(jnp.asarray(values, jnp.float32)))
