"""A group of networks with their ensembles: members, curve, diversity."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from kdropout_jax.analysis import diversity
from kdropout_jax.analysis import ensembles


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
