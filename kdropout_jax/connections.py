"""DropConnect: masks on weights and biases (Wan et al. 2013).

"Regularization of Neural Networks using DropConnect". A subnet's mask covers
the I x O weights and, after them, the O biases of a dense layer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _shardings
from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Key

__all__ = ("drop_connect",)


def drop_connect(
  x: Float[Array, "B ... I"],
  w: Float[Array, "I O"],
  b: Float[Array, "O"] | None,
  masks: functional.MasksLike | None,
  *,
  rate: float,
  rescale: functional.Rescale = "expected",
  row_layout: functional.RowLayout = "contiguous",
  assignment: Int[Array, "B"] | None = None,
  batch_size: int | None = None,
) -> Float[Array, "B ... O"]:
  """Multiplies rows by the weights that their subnets keep.

  ``y[r] = x[r] @ (w * mask) + b * mask``, scaled, with the mask of the subnet
  that row r trains. The masked weights of all T subnets are in memory.

  Args:
    x: [B, ..., I].
    w: [I, O].
    b: [O] or None.
    masks: `Masks` or bool [T, I * O + O], the weights in row-major order and
      then the biases (without `b`: [T, I * O]); None: the mean network.
    rate: probability with which the masks drop a weight.
    rescale: as for `kd.dropout`; the scale goes to the weights and biases.
    row_layout: as for `kd.dropout`.
    assignment: as for `kd.dropout`.
    batch_size: rows of a full batch; the default is B.

  Returns:
    [B, ..., O].

  Raises:
    ValueError: shapes or masks that do not fit each other.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> masks = jnp.array([[True, False]])
  >>> kd.drop_connect(
  ...   jnp.ones((1, 2)), jnp.ones((2, 1)), None, masks, rate=0.5
  ... )
  Array([[2.]], dtype=float32)
  """
  x = functional.check_inputs(x)
  w = _checks.as_array("w", w)
  b = None if b is None else _checks.as_array("b", b)
  _check_operands(x, w, b)
  rate = patterns.check_rate(rate)
  _checks.check_option("rescale", rescale, functional.Rescale)
  _checks.check_option("row_layout", row_layout, functional.RowLayout)
  if batch_size is not None:
    _checks.check_rows("batch_size", batch_size)
  if masks is None:
    scale = 1.0 - rate if rescale == "at_test" else 1.0
    return _affine(x, w * scale, None if b is None else b * scale)
  masks = blocks.as_masks(masks, num_weights(w, b))
  flat = w.reshape(1, -1)
  if b is not None:
    flat = jnp.concatenate([flat, b[None]], axis=1)
  kept = functional.select_and_scale(flat, masks.dense(), masks, rate, rescale)
  whole = batch_size is None or batch_size == x.shape[0]
  fits = x.shape[0] > 0 and x.shape[0] % kept.shape[0] == 0
  if whole and fits and row_layout == "contiguous" and assignment is None:
    return _grouped(x, *_unflatten(kept, w, b))
  kept = functional.row_masks(
    kept, x.shape[0], row_layout, assignment, batch_size
  )
  return _rowwise(x, *_unflatten(kept, w, b))


def moments(
  x: Float[Array, "B ... I"],
  w: Float[Array, "I O"],
  b: Float[Array, "O"] | None,
  *,
  rate: float,
  rescale: functional.Rescale = "expected",
) -> tuple[Float[Array, "B ... O"], Float[Array, "B ... O"]]:
  """Returns mean and variance of `drop_connect` over independent masks.

  With keep probability p = 1 - rate and the papers' formula ("at_test") they
  are ``p (x @ w + b)`` and ``p (1 - p) (x**2 @ w**2 + b**2)`` (section 3.2 of
  Wan et al.); otherwise both belong to weights divided by p.

  Args:
    x: [B, ..., I].
    w: [I, O].
    b: [O] or None.
    rate: probability that a weight is dropped.
    rescale: as for training.
  """
  x = functional.check_inputs(x)
  _check_operands(x, w, b)
  rate = patterns.check_rate(rate)
  mean = drop_connect(x, w, b, None, rate=rate, rescale=rescale)
  keep = 1.0 - rate
  if rescale == "at_test":
    factor = keep * rate
  else:
    # At rate 1 the scale has no limit; the mean network is all there is.
    factor = rate / keep if keep > 0 else 0.0
  # Squares of small weights underflow in float16.
  squares = _affine(_square(x), _square(w), None if b is None else _square(b))
  return mean, squares * factor


def expected_activation(
  key: Key,
  mean: Float[Array, "..."],
  variance: Float[Array, "..."],
  activation: Callable[[Array], Array],
  num_samples: int,
) -> Float[Array, "..."]:
  """Averages `activation` over a Gaussian: DropConnect's inference.

  Args:
    key: key of the draws.
    mean: of the Gaussian.
    variance: of the Gaussian.
    activation: what follows the layer.
    num_samples: draws for each unit; one at a time is in memory.
  """
  _checks.check_positive("num_samples", num_samples)
  positive = variance > 0  # The gradient of sqrt is infinite at 0.
  deviation = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)

  dtype = mean.dtype
  wide = np.promote_types(dtype, jnp.float32)
  mean, deviation = mean.astype(wide), deviation.astype(wide)

  def draw(sample_key):
    noise = jax.random.normal(sample_key, mean.shape, wide)
    sample = (mean + deviation * noise).astype(dtype)
    return activation(sample).astype(wide)

  keys = jax.random.split(key, num_samples)
  # The first draw is the carry, which so has the placement of all others.
  total, _ = jax.lax.scan(
    lambda total, key: (total + draw(key), None), draw(keys[0]), keys[1:]
  )
  return (total / num_samples).astype(dtype)


def num_weights(w: Float[Array, "I O"], b: Float[Array, "O"] | None) -> int:
  """Returns the width of a layer's masks: its weights and its biases."""
  return w.size + (0 if b is None else b.size)


def _unflatten(flat: Float[Array, "T M"], w, b) -> tuple[Array, Array | None]:
  weights = flat[:, : w.size].reshape(flat.shape[0], *w.shape)
  return weights, None if b is None else flat[:, w.size :]


def _square(a):
  wide = a.astype(np.promote_types(a.dtype, jnp.float32))
  return wide * wide


def _affine(x, w, b):
  y = jnp.einsum("...i,io->...o", x, w)
  return y if b is None else y + b.reshape((1,) * (y.ndim - 1) + b.shape)


def _rowwise(x, w, b):
  """Every leading index of `x` has weights and biases of its own."""
  y = jnp.einsum("t...i,tio->t...o", x, _shardings.rows_like(w, x))
  if b is None:
    return y
  b = _shardings.rows_like(b, x)
  return y + b.reshape(b.shape[0], *(1,) * (y.ndim - 2), b.shape[1])


def _grouped(x, w, b):
  """Contiguous groups of equal size: T products, nothing gathered."""
  groups = x.reshape(w.shape[0], -1, *x.shape[1:])
  return _rowwise(groups, w, b).reshape(*x.shape[:-1], w.shape[2])


def _check_operands(x, w, b) -> None:
  if w.ndim != 2 or w.shape[0] != x.shape[-1]:
    raise ValueError(
      f"w must be [{x.shape[-1]}, outputs] for x of shape {x.shape}, got"
      f" {w.shape}"
    )
  if b is not None and b.shape != (w.shape[1],):
    raise ValueError(f"b must have shape [{w.shape[1]}], got {b.shape}")
