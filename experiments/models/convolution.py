"""Convolution and pooling whose gradients are fast in a loop on a CPU, too.

XLA's CPU compiler has a fast routine for convolutions of images in one layout
and brings others into it, but not those in the body of a loop, where training
steps are: there the two gradients took 35 times longer (measured, 5x5, 16 to 32
channels). So on a CPU they are written in that layout from the start. Its
gradient of max pooling goes pixel by pixel; ours is elementwise, and equal.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def conv_general_dilated(
  lhs: Float[Array, "B H W I"],
  rhs: Float[Array, "K K I O"],
  window_strides: Any,
  padding: Any,
  **others: Any,
) -> Float[Array, "B H W O"]:
  """Returns `jax.lax.conv_general_dilated` of stride 1 and "SAME" padding.

  For the field of that name of `flax.linen.Conv`.

  Args:
    lhs: images.
    rhs: the kernel, of odd sides.
    window_strides: all 1.
    padding: "SAME".
    **others: what Flax passes on besides; `precision` counts.

  Raises:
    ValueError: another stride, padding or kernel.

  >>> x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2))
  >>> conv_general_dilated(x, w, (1, 1), "SAME").shape
  (1, 4, 4, 2)
  """
  if set(window_strides) != {1} or padding != "SAME":
    raise ValueError(
      f"window_strides must be 1 and padding 'SAME', got {window_strides} and"
      f" {padding!r}"
    )
  if any(side % 2 == 0 for side in rhs.shape[:2]):
    raise ValueError(f"a kernel must have odd sides, got {rhs.shape[:2]}")
  return _convolve(lhs, rhs, others.get("precision"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, precision):
  return _plain(x, kernel, precision, "SAME")


def _forward(x, kernel, precision):
  return _plain(x, kernel, precision, "SAME"), (x, kernel)


def _backward(precision, saved, grad):
  def in_one_layout(x, kernel, grad):
    back = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    edges = [(side // 2, side // 2) for side in kernel.shape[:2]]
    # Here the channels are the batch, and the batch is what is summed over.
    of_kernel = _plain(
      x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3), precision, edges
    )
    of_x = _plain(grad, back, precision, "SAME")
    return of_x, of_kernel.transpose(1, 2, 0, 3)

  def native(x, kernel, grad):
    _, pull = jax.vjp(
      lambda x, kernel: _plain(x, kernel, precision, "SAME"), x, kernel
    )
    return pull(grad)

  return jax.lax.platform_dependent(
    *saved, grad, cpu=in_one_layout, default=native
  )


_convolve.defvjp(_forward, _backward)


def _plain(x, kernel, precision, padding):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=precision,
  )


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
  """Returns the maxima of squares of 2x2, "SAME" at odd edges.

  The gradient goes to the first of equal maxima, as `flax.linen.max_pool`'s.

  >>> max_pool(jnp.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0].tolist()
  [[4.0, 5.0], [7.0, 8.0]]
  """
  height, width = x.shape[1:3]
  if height % 2 or width % 2:
    edges = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    x = jnp.pad(x, edges, constant_values=-jnp.inf)
  return _max_pool(x)


@jax.custom_vjp
def _max_pool(x):
  return jnp.max(_squares(x), axis=(2, 4))


def _squares(x):
  batch, height, width, channels = x.shape
  return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _pool_forward(x):
  pooled = _max_pool(x)
  return pooled, (x, pooled)


def _pool_backward(saved, grad):
  x, pooled = saved
  at = _squares(x) == pooled[:, :, None, :, None, :]
  free, parts = jnp.ones(pooled.shape, bool), []
  for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
    own = at[:, :, row, :, column] & free
    free &= ~own
    parts.append(jnp.where(own, grad, 0))
  rows = [jnp.stack(parts[i : i + 2], axis=3) for i in (0, 2)]
  return (jnp.stack(rows, axis=2).reshape(x.shape),)


_max_pool.defvjp(_pool_forward, _pool_backward)
