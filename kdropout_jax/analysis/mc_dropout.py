"""Monte Carlo dropout: many forward passes with units dropped, averaged.

Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation"; the k-dropout
paper, section 4.3, suggests it for networks trained with k-dropout.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import _shardings
from kdropout_jax._types import Key
from kdropout_jax.analysis import ensembles

__all__ = (
  "Prediction",
  "combine",
  "predict",
)


class Prediction(NamedTuple):
  """What S samples say about B rows, float32.

  Attributes:
    log_probs: [B, C], log of the mean probabilities; usable as logits.
    entropy: [B], of the mean probabilities, in nats: all uncertainty.
    mutual_information: [B], the part of it that is disagreement between
      samples: about the network, not the data.
  """

  log_probs: Float[Array, "B C"]
  entropy: Float[Array, "B"]
  mutual_information: Float[Array, "B"]


def combine(logits: Float[Array, "S B C"]) -> Prediction:
  """Returns what S samples say together, whose logits are at hand.

  As `predict`, of networks or subnets that were evaluated one by one.

  Args:
    logits: [S, B, C].

  Raises:
    ValueError: a wrong shape or dtype, or no sample.

  >>> import jax.numpy as jnp
  >>> sure = jnp.array([[[50.0, 0.0]], [[0.0, 50.0]]])  # of other classes
  >>> round(float(combine(sure).mutual_information[0]), 3)
  0.693
  """
  log_probs = ensembles.average(logits)
  each = jax.nn.log_softmax(logits.astype(jnp.float32))
  return _prediction(log_probs, jnp.mean(_entropy(each), axis=0))


def predict(
  logits_fn: Callable[[Key], Float[Array, "B C"]], key: Key, num_samples: int
) -> Prediction:
  """Averages the probabilities of `num_samples` stochastic forward passes.

  One pass after the other: memory is that of one, whatever their number.

  Args:
    logits_fn: a forward pass in training mode, its masks drawn from the key.
    key: split into one key a sample.
    num_samples: forward passes, S.

  Returns:
    The `Prediction`.

  Raises:
    ValueError: `num_samples` is no integer >= 1, or no logits [B, C].

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> certain = lambda key: jnp.array([[0.0, 50.0]])
  >>> predict(certain, jax.random.key(0), 3).log_probs.round().tolist()
  [[-50.0, 0.0]]
  """
  _checks.check_callable("logits_fn", logits_fn)
  _checks.check_int32("num_samples", num_samples)
  keys = jax.random.split(_keys.single(key), num_samples)
  like = jax.eval_shape(logits_fn, keys[0])
  if getattr(like, "ndim", None) != 2:
    raise ValueError(f"logits_fn must return logits [B, C], got {like}")
  start = (
    jnp.full(like.shape, -jnp.inf, jnp.float32),
    jnp.zeros(like.shape[:-1], jnp.float32),
  )

  def add(carry, sample_key):
    total, entropies = carry
    logits = logits_fn(sample_key).astype(jnp.float32)
    log_probs = jax.nn.log_softmax(logits)
    return (
      jnp.logaddexp(total, log_probs),
      entropies + _entropy(log_probs),
    ), None

  (total, entropies), _ = _shardings.scan(add, start, keys)
  return _prediction(total - jnp.log(num_samples), entropies / num_samples)


def _prediction(
  log_probs: Float[Array, "B C"], mean_entropy: Float[Array, "B"]
) -> Prediction:
  entropy = _entropy(log_probs)
  # Rounding may take the difference of two equal numbers below 0.
  shared = jnp.maximum(entropy - mean_entropy, 0.0)
  return Prediction(log_probs, entropy, shared)


def _entropy(log_probs: Float[Array, "... C"]) -> Float[Array, "..."]:
  probs = jnp.exp(log_probs)
  return -jnp.sum(jnp.where(probs > 0, probs * log_probs, 0.0), axis=-1)
