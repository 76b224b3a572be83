"""Dropout without sampling: what it does on average, in closed form.

Linear regression on inputs that are dropped is a ridge regression whose
strengths the data decide (Srivastava et al. 2014, section 9.1); for logistic
regression the sum of many dropped inputs is nearly a Gaussian, and so the
expected loss a formula (Wang and Manning 2013, "Fast dropout training").
Inputs are dropped with `rate` and divided by what is kept, as `kd.dropout` does
by default. `expectation` enumerates all masks: the oracle of both.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdropout_jax import _checks
from kdropout_jax import patterns
from kdropout_jax.analysis import _shapes

__all__ = (
  "Moments",
  "expectation",
  "expected_log_loss",
  "expected_sigmoid",
  "moments",
  "ridge",
  "squared_error",
)

MAX_WIDTH = 12
"""Units whose masks are enumerated, at most: 4,096 masks."""


class Moments(NamedTuple):
  """Mean and variance of what a unit sums up from inputs that are dropped.

  Attributes:
    mean: float [B].
    variance: float [B].
  """

  mean: Float[Array, "B"]
  variance: Float[Array, "B"]


def expectation(
  fn: Callable[[Float[Array, "W"]], Float[Array, "..."]],
  width: int,
  rate: float,
) -> Float[Array, "..."]:
  """Returns the mean of `fn` over all 2**W masks, weighted as they are drawn.

  Args:
    fn: of a mask of zeros and ones, float32 [W].
    width: W, at most 12.
    rate: probability of dropping a unit.

  Raises:
    ValueError: a wrong argument, or too many units.

  >>> import jax.numpy as jnp
  >>> float(expectation(lambda mask: mask.sum(), 4, rate=0.25))
  3.0
  """
  _checks.check_callable("fn", fn)
  _checks.check_positive("width", width)
  if width > MAX_WIDTH:
    raise ValueError(
      f"width must be <= {MAX_WIDTH} to enumerate 2**width masks, got {width}"
    )
  rate = patterns.check_rate(rate)
  masks = np.array(list(itertools.product((0.0, 1.0), repeat=width)))
  kept = masks.sum(axis=1)
  weights = (1.0 - rate) ** kept * rate ** (width - kept)
  values = jax.vmap(fn)(jnp.asarray(masks, jnp.float32))
  return jnp.tensordot(jnp.asarray(weights, values.dtype), values, 1)


def squared_error(
  x: Float[Array, "B I"],
  targets: Float[Array, "B"],
  weights: Float[Array, "I"],
  rate: float,
) -> Float[Array, ""]:
  """Returns the expected mean squared error of dropped inputs, exactly.

  That of the inputs as they are, and ``rate / (1 - rate) sum_j w_j**2
  mean(x_j**2)``: weights of large inputs cost more.

  Args:
    x: [B, I].
    targets: [B].
    weights: [I].
    rate: probability of dropping an input, below 1.

  Raises:
    ValueError: a wrong shape or dtype, or a rate of 1.

  >>> import jax.numpy as jnp
  >>> float(squared_error(jnp.ones((1, 1)), jnp.ones(1), jnp.ones(1), rate=0.5))
  1.0
  """
  odds = _odds(rate)
  _check_rows(x, targets, "floating")
  _check_weights(x, weights)
  error = jnp.mean((x @ weights - targets) ** 2)
  return error + odds * jnp.sum(jnp.mean(x**2, axis=0) * weights**2)


def ridge(
  x: Float[Array, "B I"], targets: Float[Array, "B"], rate: float
) -> Float[Array, "I"]:
  """Returns the weights that dropout of the inputs would find, float [I].

  The minimum of `squared_error`: a ridge regression whose strengths are
  ``rate / (1 - rate) diag(x' x)``. An input that is 0 in all rows has weight 0.

  Args:
    x: [B, I].
    targets: [B].
    rate: probability of dropping an input, in (0, 1).

  Raises:
    ValueError: a wrong shape or dtype, or a rate of 0 or 1.

  >>> import jax.numpy as jnp
  >>> found = ridge(jnp.eye(2), jnp.array([1.0, 3.0]), rate=0.5)
  >>> [round(w, 3) for w in found.tolist()]
  [0.5, 1.5]
  """
  odds = _odds(rate)
  if odds == 0.0:
    raise ValueError(
      f"rate must be > 0, without which the minimum may not be one, got {rate}"
    )
  _check_rows(x, targets, "floating")
  squares = jnp.sum(x**2, axis=0)
  # Inputs of unit length: then every strength is the same, also of tiny ones.
  length = jnp.where(squares > 0, jnp.sqrt(squares), 1.0)
  scaled = x / length[None]
  gram = scaled.T @ scaled + odds * jnp.eye(x.shape[1], dtype=x.dtype)
  found = jax.scipy.linalg.solve(gram, scaled.T @ targets, assume_a="pos")
  return found / length


def moments(
  x: Float[Array, "B I"],
  weights: Float[Array, "I"],
  rate: float,
  bias: Float[Array, ""] | float = 0.0,
) -> Moments:
  """Returns the Gaussian of a unit's sum over inputs that are dropped.

  Args:
    x: [B, I].
    weights: [I].
    rate: probability of dropping an input, below 1.
    bias: added to the sum.

  Raises:
    ValueError: a wrong shape or dtype, or a rate of 1.

  >>> import jax.numpy as jnp
  >>> x, w = jnp.array([[3.0, 4.0]]), jnp.ones(2)
  >>> [float(m[0]) for m in moments(x, w, rate=0.5)]
  [7.0, 25.0]
  """
  odds = _odds(rate)
  _shapes.check_rank("x", x, "B I")
  _shapes.check_floating("x", x)
  _check_weights(x, weights)
  bias = _checks.as_array("bias", bias)
  if bias.ndim or not jnp.issubdtype(bias.dtype, jnp.floating):
    raise ValueError(f"bias must be one number, got {_checks.shown(bias)}")
  return Moments(x @ weights + bias, odds * (x**2 @ weights**2))


def expected_sigmoid(
  mean: Float[Array, "B"], variance: Float[Array, "B"]
) -> Float[Array, "B"]:
  """Returns the expected sigmoid of a Gaussian, to within .02.

  ``sigmoid(mean / sqrt(1 + pi variance / 8))``, Wang and Manning's formula.

  Args:
    mean: [B].
    variance: [B], >= 0.

  Raises:
    ValueError: a wrong shape or dtype, or a negative variance.

  >>> import jax.numpy as jnp
  >>> expected_sigmoid(jnp.zeros(1), jnp.ones(1)).tolist()
  [0.5]
  """
  return jax.nn.sigmoid(mean / _widening(mean, variance))


def expected_log_loss(
  mean: Float[Array, "B"],
  variance: Float[Array, "B"],
  labels: Int[Array, "B"],
) -> Float[Array, "B"]:
  """Returns the expected logistic loss of a Gaussian, nearly.

  The integral over the mean of `expected_sigmoid`: ``c softplus(z / c)`` with
  ``c = sqrt(1 + pi variance / 8)`` and z the mean, turned where the label is
  1 (Wang and Manning 2013, section 3). It is never below what it stands for,
  and at most .06 c above.

  Args:
    mean: [B].
    variance: [B], >= 0.
    labels: int [B] of 0 and 1.

  Raises:
    ValueError: a wrong shape or dtype, a negative variance, or another label.

  >>> import jax.numpy as jnp
  >>> loss = expected_log_loss(jnp.zeros(1), jnp.zeros(1), jnp.ones(1, int))
  >>> round(float(loss[0]), 4)
  0.6931
  """
  widening = _widening(mean, variance)
  _checks.check_array("labels", labels, "B", "integer")
  _shapes.check_same(("mean", "labels"), (mean, labels))
  _checks.check_numbers(
    "labels", labels, lambda v: (v == 0) | (v == 1), "0 and 1"
  )
  towards = jnp.where(labels == 1, -mean, mean)
  return widening * jax.nn.softplus(towards / widening)


def _widening(mean, variance) -> Float[Array, "B"]:
  """Returns by how much a Gaussian widens a sigmoid."""
  for name, value in (("mean", mean), ("variance", variance)):
    _shapes.check_rank(name, value, "B")
    _shapes.check_floating(name, value)
  _shapes.check_same(("mean", "variance"), (mean, variance))
  _checks.check_numbers("variance", variance, lambda v: v >= 0, "all >= 0")
  return jnp.sqrt(1.0 + math.pi / 8 * variance)


def _odds(rate: float) -> float:
  """Returns the variance of a dropped input of size 1."""
  rate = patterns.check_rate(rate)
  if rate == 1.0:
    raise ValueError(f"rate must be < 1, where some input is kept, got {rate}")
  return rate / (1.0 - rate)


def _check_rows(x, targets, kind: str) -> None:
  _shapes.check_rank("x", x, "B I")
  _shapes.check_floating("x", x)
  _checks.check_array("targets", targets, "B", kind)
  if targets.shape[0] != x.shape[0] or 0 in x.shape:
    raise ValueError(
      f"targets must have one entry for each of the {x.shape[0]} rows of x, and"
      f" x at least one row and input, got {list(targets.shape)} for"
      f" {list(x.shape)}"
    )


def _check_weights(x, weights) -> None:
  _checks.check_array("weights", weights, "I", "floating")
  if weights.shape[0] != x.shape[1]:
    raise ValueError(
      f"weights must have one entry for each of the {x.shape[1]} inputs of x,"
      f" got {list(weights.shape)}"
    )
