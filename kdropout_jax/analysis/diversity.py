"""How differently members see, and err: distances of every pair, [M, M].

Gyro dropout, section 5.2 and figure 5, measures the L1 distance of the last
hidden features; the others are the usual measures of ensemble diversity
(Kuncheva and Whitaker 2003). Diagonals are the pair of a member with itself;
`mean_over_pairs` leaves them out.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdropout_jax import _checks
from kdropout_jax.analysis import _shapes

__all__ = (
  "disagreement",
  "double_fault",
  "error_correlation",
  "feature_distance",
  "feature_sums",
  "mean_over_pairs",
)


def feature_distance(
  features: Float[Array, "M B F"], keep: Bool[Array, "M F"] | None = None
) -> Float[Array, "M M"]:
  """Returns the L1 distance of features, in units of the mean feature norm.

  For members i and j, with sums over the units u that both keep::

    sum_rows sum_u |f_i - f_j| / sum_rows sum_u (|f_i| + |f_j|) / 2

  So neither the scale of the features nor the number of shared units counts:
  0 for equal features, at most 2. (Distances over all units would mostly
  measure that masks differ.)

  Args:
    features: [M, B, F], each member's last hidden layer on the same rows.
    keep: bool [M, F], the units that each member keeps; the default is all.

  Returns:
    float32 [M, M], NaN for a pair that shares no unit or only silent ones.

  Raises:
    ValueError: shapes do not fit.

  >>> import jax.numpy as jnp
  >>> features = jnp.array([[[1.0, 2.0]], [[3.0, 2.0]]])
  >>> feature_distance(features)[0].tolist()
  [0.0, 0.5]
  """
  distance, norm = feature_sums(features, keep)
  return jnp.where(norm > 0, distance / norm, jnp.nan)


def feature_sums(
  features: Float[Array, "M B F"], keep: Bool[Array, "M F"] | None = None
) -> tuple[Float[Array, "M M"], Float[Array, "M M"]]:
  """Returns numerator and denominator of `feature_distance`.

  Both add up over batches of rows: the way for features too many to hold.

  Args:
    features: [M, B, F], as for `feature_distance`.
    keep: bool [M, F], likewise.

  Returns:
    Two arrays, float32 [M, M].

  Raises:
    ValueError: shapes do not fit.

  >>> import jax.numpy as jnp
  >>> features = jnp.array([[[1.0, 2.0]], [[3.0, 2.0]]])
  >>> [part[0, 1].tolist() for part in feature_sums(features)]
  [2.0, 4.0]
  """
  _shapes.check_rank("features", features, "M B F")
  _shapes.check_floating("features", features)
  if keep is None:
    keep = jnp.ones((features.shape[0], features.shape[2]), jnp.bool_)
  _checks.check_array("keep", keep, "M F", "bool")
  _shapes.check_same(("keep", "members and units"), (keep, features[:, 0]))
  features = features.astype(jnp.float32)
  units = keep.astype(jnp.float32)
  sizes = jnp.sum(jnp.abs(features), axis=1)

  def one(member):
    own, kept = member

    def other(pair):
      theirs, both = pair[0], kept * pair[1]
      return jnp.sum(jnp.sum(jnp.abs(own - theirs), axis=0) * both)

    return jax.lax.map(other, (features, units))

  distance = jax.lax.map(one, (features, units))
  # sum_u kept_i kept_j |f_i|, and its transpose for |f_j|
  norm = (sizes * units) @ units.T
  return distance, (norm + norm.T) / 2


def disagreement(predictions: Int[Array, "M B"]) -> Float[Array, "M M"]:
  """Returns the share of rows on which two members predict differently.

  Args:
    predictions: integers [M, B], the class that each member predicts.

  Raises:
    ValueError: a wrong shape or dtype.

  >>> import jax.numpy as jnp
  >>> disagreement(jnp.array([[0, 1], [0, 2]]))[0].tolist()
  [0.0, 0.5]
  """
  _checks.check_array("predictions", predictions, "M B", "integer")
  differs = lambda a, b: jnp.mean(a != b, dtype=jnp.float32)  # noqa: E731
  return jax.lax.map(
    lambda own: jax.vmap(differs, (None, 0))(own, predictions), predictions
  )


def error_correlation(correct: Bool[Array, "M B"]) -> Float[Array, "M M"]:
  """Returns Pearson's correlation between two members' errors.

  Independent errors give 0. NaN where a member is right, or wrong, on all
  rows.

  Args:
    correct: bool [M, B], whether each member is right.

  Raises:
    ValueError: a wrong shape or dtype.

  >>> import jax.numpy as jnp
  >>> hits = jnp.array([[True, False], [False, True]])
  >>> [round(r, 3) for r in error_correlation(hits)[0].tolist()]
  [1.0, -1.0]
  """
  _checks.check_array("correct", correct, "M B", "bool")
  errors = 1.0 - correct.astype(jnp.float32)
  centred = errors - jnp.mean(errors, axis=1, keepdims=True)
  products = centred @ centred.T
  size = jnp.sqrt(jnp.diagonal(products))
  scale = size[:, None] * size[None, :]
  return jnp.where(scale > 0, products / scale, jnp.nan)


def double_fault(correct: Bool[Array, "M B"]) -> Float[Array, "M M"]:
  """Returns the share of rows on which two members are both wrong.

  Args:
    correct: bool [M, B], whether each member is right.

  Raises:
    ValueError: a wrong shape or dtype.

  >>> import jax.numpy as jnp
  >>> double_fault(jnp.array([[True, False], [False, False]]))[0].tolist()
  [0.5, 0.5]
  """
  _checks.check_array("correct", correct, "M B", "bool")
  wrong = 1.0 - correct.astype(jnp.float32)
  return (wrong @ wrong.T) / correct.shape[1]


def mean_over_pairs(values: Float[Array, "M M"]) -> Float[Array, ""]:
  """Returns the mean over pairs of two different members, without NaN.

  NaN where no pair is left.

  Args:
    values: [M, M], of every pair.

  Raises:
    ValueError: `values` is not square.

  >>> import jax.numpy as jnp
  >>> mean_over_pairs(jnp.array([[0.0, 2.0], [4.0, 0.0]])).tolist()
  3.0
  """
  _checks.check_array("values", values, "M M", "number")
  if values.shape[0] != values.shape[1]:
    raise ValueError(f"values must be square, got {list(values.shape)}")
  pairs = ~jnp.eye(values.shape[0], dtype=jnp.bool_) & ~jnp.isnan(values)
  total = jnp.sum(jnp.where(pairs, values, 0.0))
  return total / jnp.sum(pairs)
