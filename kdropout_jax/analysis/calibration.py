"""How good and how honest probabilities are: accuracy, NLL, Brier, ECE."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from kdropout_jax import _checks
from kdropout_jax.analysis import _shapes

__all__ = (
  "Scores",
  "brier_score",
  "correct",
  "expected_calibration_error",
  "negative_log_likelihood",
  "scores",
)

_NUM_BINS = 15  # Guo et al. 2017


class Scores(NamedTuple):
  """Scores of one predictor over one set of rows, float32 scalars.

  Attributes:
    accuracy: share of rows whose most probable class is right.
    nll: mean negative log-likelihood, in nats.
    brier: mean squared distance of the probabilities to the one-hot label.
    ece: expected calibration error.
  """

  accuracy: Float[Array, ""]
  nll: Float[Array, ""]
  brier: Float[Array, ""]
  ece: Float[Array, ""]


def scores(logits: Float[Array, "B C"], labels: Int[Array, "B"]) -> Scores:
  """Returns all scores of one predictor; `vmap` it over members.

  Args:
    logits: [B, C].
    labels: [B], classes from 0.

  Raises:
    ValueError: shapes or dtypes do not fit.

  >>> import jax.numpy as jnp
  >>> logits = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
  >>> round(float(scores(logits, jnp.array([0, 1])).brier), 4)
  0.3125
  """
  return Scores(
    jnp.mean(correct(logits, labels), dtype=jnp.float32),
    negative_log_likelihood(logits, labels),
    brier_score(logits, labels),
    expected_calibration_error(logits, labels),
  )


def correct(
  logits: Float[Array, "B C"], labels: Int[Array, "B"]
) -> Bool[Array, "B"]:
  """Returns whether each row's most probable class is its label.

  Args:
    logits: [B, C].
    labels: [B].

  Raises:
    ValueError: shapes or dtypes do not fit.

  >>> import jax.numpy as jnp
  >>> correct(jnp.array([[0.0, 1.0], [2.0, 1.0]]), jnp.array([1, 1])).tolist()
  [True, False]
  """
  _shapes.check_logits(logits, labels)
  return jnp.argmax(logits, axis=-1) == labels


def negative_log_likelihood(
  logits: Float[Array, "B C"], labels: Int[Array, "B"]
) -> Float[Array, ""]:
  """Returns the mean negative log-likelihood, in nats.

  Args:
    logits: [B, C].
    labels: [B].

  Raises:
    ValueError: shapes or dtypes do not fit.

  >>> import jax.numpy as jnp
  >>> negative_log_likelihood(jnp.zeros((1, 2)), jnp.array([0])).tolist()
  0.693147...
  """
  _shapes.check_logits(logits, labels)
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), labels
  )
  return jnp.mean(losses)


def brier_score(
  logits: Float[Array, "B C"], labels: Int[Array, "B"]
) -> Float[Array, ""]:
  """Returns the Brier score: 0 is perfect, 2 confidently wrong.

  The sum over classes (Brier 1950), not their mean.

  Args:
    logits: [B, C].
    labels: [B].

  Raises:
    ValueError: shapes or dtypes do not fit.

  >>> import jax.numpy as jnp
  >>> brier_score(jnp.zeros((1, 2)), jnp.array([0])).tolist()
  0.5
  """
  _shapes.check_logits(logits, labels)
  probs = jax.nn.softmax(logits.astype(jnp.float32))
  target = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)
  return jnp.mean(jnp.sum((probs - target) ** 2, axis=-1))


def expected_calibration_error(
  logits: Float[Array, "B C"],
  labels: Int[Array, "B"],
  num_bins: int = _NUM_BINS,
) -> Float[Array, ""]:
  """Returns how far confidence is from accuracy, on average over rows.

  Rows fall into bins of equal width by the probability of their predicted
  class, and ``sum_b n_b / B * |accuracy_b - confidence_b|`` is taken: Guo et
  al. 2017, "On Calibration of Modern Neural Networks", section 2. Bin b holds
  confidences in ``(b / num_bins, (b + 1) / num_bins]``.

  Args:
    logits: [B, C].
    labels: [B].
    num_bins: number of bins.

  Raises:
    ValueError: shapes or dtypes do not fit, or a wrong number of bins.

  >>> import jax.numpy as jnp
  >>> sure = jnp.array([[0.0, 50.0], [0.0, 50.0]])
  >>> expected_calibration_error(sure, jnp.array([1, 0])).tolist()
  0.5
  """
  _shapes.check_logits(logits, labels)
  _checks.check_int32("num_bins", num_bins)
  probs = jax.nn.softmax(logits.astype(jnp.float32))
  confidence = jnp.max(probs, axis=-1)
  hit = correct(logits, labels).astype(jnp.float32)
  bins = jnp.ceil(confidence * num_bins).astype(jnp.int32) - 1
  bins = jnp.clip(bins, 0, num_bins - 1)
  gaps = jax.ops.segment_sum(hit - confidence, bins, num_segments=num_bins)
  return jnp.sum(jnp.abs(gaps)) / labels.shape[0]
