"""Ensembles of members: their mean probabilities, their votes, by size.

The k-dropout paper, section 3.3 and figure 7: its text averages outputs, its
code takes a majority vote; both are here, and the geometric mean that dropout
approximates (Srivastava et al. 2014, section 1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _shardings
from kdropout_jax.analysis import _shapes
from kdropout_jax.analysis import calibration

__all__ = (
  "Curve",
  "average",
  "curve",
  "geometric",
  "vote",
)


class Curve(NamedTuple):
  """Scores of the ensembles of the first 1, 2, ..., M members, float32 [M].

  Attributes:
    accuracy: of the mean probabilities.
    vote_accuracy: of the majority vote.
    nll: of the mean probabilities.
    brier: of the mean probabilities.
    ece: of the mean probabilities.
  """

  accuracy: Float[Array, "M"]
  vote_accuracy: Float[Array, "M"]
  nll: Float[Array, "M"]
  brier: Float[Array, "M"]
  ece: Float[Array, "M"]


def average(logits: Float[Array, "M B C"]) -> Float[Array, "B C"]:
  """Returns the log of the members' mean probabilities, float32 [B, C].

  Args:
    logits: [M, B, C].

  Raises:
    ValueError: a wrong shape or dtype, or no member.

  >>> import jax.numpy as jnp
  >>> both = jnp.log(jnp.array([[[0.5, 0.5]], [[1.0, 0.0]]]))
  >>> [round(p, 3) for p in jnp.exp(average(both))[0].tolist()]
  [0.75, 0.25]
  """
  _check_members(logits)
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  return jax.nn.logsumexp(log_probs, axis=0) - jnp.log(logits.shape[0])


def geometric(logits: Float[Array, "M B C"]) -> Float[Array, "B C"]:
  """Returns the log of the members' geometric mean, float32 [B, C].

  Equally weighted, and divided by its sum over classes: ``softmax`` of the
  mean logits. Where masks act on the inputs of the softmax layer alone, logits
  are linear in them, and the mean over all masks at rate 1/2 IS the network
  with its weights halved; masks before a nonlinearity make that approximate.

  Args:
    logits: [M, B, C]; -inf rules a class out for the ensemble, too.

  Raises:
    ValueError: a wrong shape or dtype, or no member.

  >>> import jax.numpy as jnp
  >>> both = jnp.log(jnp.array([[[0.5, 0.5]], [[0.9, 0.1]]]))
  >>> [round(p, 3) for p in jnp.exp(geometric(both))[0].tolist()]
  [0.75, 0.25]
  """
  _check_members(logits)
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  return jax.nn.log_softmax(jnp.mean(log_probs, axis=0))


def vote(logits: Float[Array, "M B C"]) -> Int[Array, "B"]:
  """Returns the class that most members predict, int32 [B].

  Among classes with equally many votes, the more probable one on average
  wins: the lowest class number would favour some classes.

  Args:
    logits: [M, B, C].

  Raises:
    ValueError: a wrong shape or dtype, or no member.

  >>> import jax.numpy as jnp
  >>> vote(jnp.array([[[0.0, 1.0]], [[0.0, 1.0]], [[9.0, 0.0]]])).tolist()
  [1]
  """
  _check_members(logits)
  votes = jnp.sum(_one_vote(logits), axis=0)
  probs = jnp.mean(jax.nn.softmax(logits.astype(jnp.float32)), axis=0)
  return _winner(votes, probs)


def curve(
  logits: Float[Array, "M B C"],
  labels: Int[Array, "B"],
  order: Int[Array, "M"] | None = None,
) -> Curve:
  """Returns the scores of ensembles of 1 to M members, taken in `order`.

  Memory is that of one ensemble, whatever M. For the mean over random orders,
  `vmap` it over permutations.

  Args:
    logits: [M, B, C].
    labels: [B].
    order: int [M], a permutation of the members; the default is as given.

  Raises:
    ValueError: shapes or dtypes do not fit.

  >>> import jax.numpy as jnp
  >>> logits = jnp.array([[[0.0, 1.0]], [[4.0, 0.0]]])
  >>> curve(logits, jnp.array([0])).accuracy.tolist()
  [0.0, 1.0]
  """
  _check_members(logits)
  _shapes.check_logits(logits, labels, "M B C")
  num_members = logits.shape[0]
  order = jnp.arange(num_members) if order is None else order
  _checks.check_array("order", order, "M", "integer")
  _shapes.check_same(("order", "members"), (order, logits[:, 0, 0]))

  def add(carry, i):
    total, votes = carry
    member = logits[i].astype(jnp.float32)
    total = jnp.logaddexp(total, jax.nn.log_softmax(member))
    votes = votes + _one_vote(member)
    scores = calibration.scores(total, labels)
    winner = _winner(votes, jax.nn.softmax(total))
    hits = jnp.mean(winner == labels, dtype=jnp.float32)
    return (total, votes), Curve(
      scores.accuracy, hits, scores.nll, scores.brier, scores.ece
    )

  shape = logits.shape[1:]
  start = (jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32))
  return _shardings.scan(add, start, order)[1]


def _one_vote(logits):
  classes = logits.shape[-1]
  return jax.nn.one_hot(jnp.argmax(logits, axis=-1), classes, dtype=jnp.int32)


def _winner(votes, probs):
  most = jnp.max(votes, axis=-1, keepdims=True)
  tied = jnp.where(votes == most, probs, -1.0)
  return jnp.argmax(tied, axis=-1).astype(jnp.int32)


def _check_members(logits) -> None:
  _shapes.check_rank("logits", logits, "M B C")
  _shapes.check_floating("logits", logits)
  if logits.shape[0] == 0:
    raise ValueError("logits must hold at least one member, got shape [0, ...]")
  if logits.shape[2] == 0:
    raise ValueError("logits must have at least one class, got [..., 0]")
