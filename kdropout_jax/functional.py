"""Dropout as pure functions: masks meet rows.

Rows are always the leading axis of `x`, masks act on its last one; the axes
between (positions, pixels) share the mask of their row.
"""

import functools
import os
import warnings
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _shardings
from kdropout_jax import blocks
from kdropout_jax import patterns
from kdropout_jax import rows

__all__ = (
  "assign_rows",
  "dropout",
  "kl_sparsity",
  "spatial_dropout",
)

Rescale = Literal["expected", "realised", "at_test"]
RowLayout = rows.RowLayout

MasksLike = blocks.MasksLike

assign_rows = rows.assign_rows
row_masks = rows.row_masks
check_assignment = rows.check_assignment


def dropout(
  x: Float[Array, "B ... W"],
  masks: MasksLike | None,
  *,
  rate: float,
  rescale: Rescale = "expected",
  row_layout: RowLayout = "contiguous",
  assignment: Int[Array, "B"] | None = None,
) -> Float[Array, "B ... W"]:
  """Drops units of `x` by the masks of the subnets that its rows train.

  Args:
    x: [B, ..., W]; floating point, of any rank from 2.
    masks: `Masks` or bool [T, W]; None asks for the test-time form.
    rate: probability with which the masks drop a unit.
    rescale: "expected" divides by the share of units that the pattern keeps;
      "realised" by the share that these T masks keep, one scalar (the gyro
      authors' code; no unit kept gives zeros); "at_test" leaves training
      alone and multiplies by ``1 - rate`` at test (the papers' formula).
    row_layout: "contiguous": row r trains subnet ``r * T // B`` (the papers);
      "tiled": subnet ``r % T`` (the k-dropout authors' code).
    assignment: int32 [B] of slots in [0, T), one a row; overrides
      `row_layout`. Values are checked where they are concrete.

  Returns:
    An array of x's shape and dtype.

  Raises:
    ValueError: masks of a wrong width or dtype, or a wrong option.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> masks = jnp.array([[True, False], [False, True]])
  >>> kd.dropout(jnp.ones((4, 2)), masks, rate=0.5)[:, 0].tolist()
  [2.0, 2.0, 0.0, 0.0]
  """
  x = check_inputs(x)
  rate = patterns.check_rate(rate)
  _checks.check_option("rescale", rescale, Rescale)
  _checks.check_option("row_layout", row_layout, RowLayout)
  if masks is None:
    return x * (1.0 - rate) if rescale == "at_test" else x
  masks = blocks.as_masks(masks, x.shape[-1])
  keep = row_masks(masks.dense(), x.shape[0], row_layout, assignment)
  keep = keep.reshape(keep.shape[0], *(1,) * (x.ndim - 2), keep.shape[1])
  return select_and_scale(x, keep, masks, rate, rescale)


def spatial_dropout(
  x: Float[Array, "B ... C"],
  masks: MasksLike | None,
  *,
  rate: float,
  rescale: Rescale = "expected",
  row_layout: RowLayout = "contiguous",
  assignment: Int[Array, "B"] | None = None,
) -> Float[Array, "B ... C"]:
  """Drops whole feature maps (Tompson et al. 2015, "Object Localization").

  Args:
    x: [B, ..., C], channels last, of rank 3 or more.
    masks: `Masks` or bool [T, C] over channels; None: the test-time form.
    rate: as for `dropout`, like the other options.
    rescale: as for `dropout`.
    row_layout: as for `dropout`.
    assignment: as for `dropout`.

  Returns:
    An array of x's shape and dtype.

  Raises:
    ValueError: `x` has no axis between rows and channels; or as for `dropout`.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> channels = jnp.array([[True, False]])
  >>> y = kd.spatial_dropout(jnp.ones((1, 3, 2)), channels, rate=0.5)
  >>> y.tolist()
  [[[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]]
  """
  x = _checks.as_array("x", x)
  if x.ndim < 3:
    raise ValueError(
      "x of spatial dropout must be [B, ..., C] of rank 3 or more, got shape"
      f" {x.shape}"
    )
  return dropout(
    x,
    masks,
    rate=rate,
    rescale=rescale,
    row_layout=row_layout,
    assignment=assignment,
  )


def kl_sparsity(
  activations: Float[Array, "B ... W"],
  target: float = 0.05,
  margin: float = 0.01,
) -> Float[Array, ""]:
  """Returns how far units are from being active a share `target` of the time.

  ``sum_j KL(target || mean_j)`` over Bernoulli variables, mean_j the mean
  activation of unit j over rows (and positions): the KL-sparsity of Srivastava
  et al. 2014, table 9. Means of sigmoid units lie in (0, 1); those of ReLU
  need not, so they count as at most ``1 - margin`` and at least `margin`, with
  the slope of the penalty there: a unit outside is still pulled back. It is
  float32, for a loss, times a strength.

  Args:
    activations: [B, ..., W] of a hidden layer.
    target: in (0, 1).
    margin: in (0, 1/2).

  Raises:
    ValueError: a number outside its range, or activations of a wrong shape.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> float(kd.kl_sparsity(jnp.full((4, 3), 0.25), target=0.25))
  0.0
  """
  x = check_inputs(activations, "activations").astype(jnp.float32)
  for name, value, high in (("target", target, 1.0), ("margin", margin, 0.5)):
    _checks.check_static_number(name, value)
    if not 0.0 < value < high:
      raise ValueError(f"{name} must be in (0, {high:g}), got {value}")
  mean = jnp.mean(x, axis=tuple(range(x.ndim - 1)))
  inside = jnp.clip(mean, margin, 1.0 - margin)
  # Of value `inside`, and of the slope of `mean`.
  mean = jax.lax.stop_gradient(inside) + (mean - jax.lax.stop_gradient(mean))
  odds = target * jnp.log(target / mean)
  return jnp.sum(odds + (1 - target) * jnp.log((1 - target) / (1 - mean)))


def select_and_scale(
  x: Float[Array, "..."],
  keep: Bool[Array, "..."],
  masks: blocks.Masks,
  rate: float,
  rescale: Rescale,
) -> Float[Array, "..."]:
  """Zeroes what `keep` drops and scales the rest as `rescale` says.

  Args:
    x: any shape.
    keep: broadcastable to x's shape.
    masks: the T masks that `keep` was made from.
    rate: probability of dropping.
    rescale: as for `dropout`.
  """
  fraction = keep_fraction(masks, rate) if rescale == "expected" else 1.0
  return scale_and_select(x, keep, rescale, fraction, masks.dense)


def scale_and_select(
  x: Float[Array, "..."],
  keep: Bool[Array, "..."],
  rescale: Rescale,
  fraction: float,
  dense: Callable[[], Bool[Array, "..."]],
) -> Float[Array, "..."]:
  """Zeroes what `keep` drops and scales the rest as `rescale` says.

  Args:
    x: any shape.
    keep: broadcastable to x's shape.
    rescale: as for `dropout`.
    fraction: share that the pattern keeps, for "expected".
    dense: gives the masks whose share "realised" takes.
  """
  if rescale == "expected":
    kept = x / fraction if fraction > 0 else jnp.zeros_like(x)
  elif rescale == "realised":
    share = jnp.mean(dense(), dtype=jnp.float32)
    kept = x / jnp.where(share > 0, share, 1.0).astype(x.dtype)
  else:
    kept = x
  return jnp.where(_shardings.like(keep, x), kept, jnp.zeros_like(x))


def keep_fraction(masks: blocks.Masks, rate: float) -> float:
  """Returns the share of units that the masks' pattern keeps on average.

  It is exact also where rounding bites: 2 of 3 blocks kept at rate 0.5. One
  warning is given if it is over 10 % away from ``1 - rate``, relatively.
  """
  if masks.num_kept is None:
    return 1.0 - rate
  count = blocks.num_blocks(masks.width, masks.block_size)
  _warn_if_far(masks.num_kept, count, rate)
  return masks.num_kept / count


def check_inputs(x, name: str = "x") -> Array:
  """Returns `x` as an array, or raises a ValueError that names the rule."""
  x = _checks.as_array(name, x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(f"{name} must be floating point, got {x.dtype}")
  if x.ndim < 2:
    raise ValueError(
      f"{name} must have rows as its leading axis and units as its last, got"
      f" shape {x.shape}"
    )
  return x


@functools.cache
def _warn_if_far(num_kept: int, count: int, rate: float) -> None:
  keep_prob = 1.0 - rate
  if abs(num_kept / count - keep_prob) > 0.1 * keep_prob:
    warnings.warn(
      f"an exact pattern keeps {num_kept} of {count} blocks, which is over"
      f" 10 % away from 1 - rate = {keep_prob:g}; scaling follows what is"
      " kept. Use smaller blocks, or another rate.",
      skip_file_prefixes=(os.path.dirname(__file__),),
    )
