"""The masked product that skips the dropped work: checks, and its gradient.

``y = (x * expand(in_mask)) @ w``, where columns in a dropped block of
`out_mask` are not computed and come back zero. The three products (forward,
dx, dw) are dispatched one by one, and each skips both kinds of dropped block.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from kdropout_jax import blocks
from kdropout_jax.ops import arguments
from kdropout_jax.ops import dense
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import products

__all__ = ("masked_matmul",)


def masked_matmul(
  x: Float[Array, "B ... I"],
  w: Float[Array, "I O"],
  *,
  in_mask: blocks.MasksLike | None = None,
  out_mask: blocks.MasksLike | None = None,
  implementation: dispatch.Implementation = "auto",
  precision: Any = None,
  preferred_element_type: DTypeLike | None = None,
) -> Float[Array, "B ... O"]:
  """Multiplies masked rows by `w` and skips the blocks that masks drop.

  Row r of the B rows belongs to group ``r * T // B``; all its positions share
  the group's masks. No rescaling is done. Derivatives, forward and reverse,
  skip the same blocks.

  Args:
    x: [B, ..., I], floating point.
    w: [I, O].
    in_mask: `Masks` or bool [T, I]; dropped inputs count as zero.
    out_mask: `Masks` or bool [T, O]; dropped outputs come back zero.
    implementation: "dense" anywhere; "compact" for masks of an exact count
      (it wins on a CPU); "triton" for CUDA devices; "auto" chooses from static
      facts, and `kd.explain` says what. A named one never falls back.
    precision: as for `jnp.matmul`; "triton" takes those that name one of
      JAX's precisions.
    preferred_element_type: dtype of the result, as for `jnp.matmul`; the
      gradients are computed in the operands' dtype.

  Returns:
    [B, ..., O] in the common dtype of `x` and `w`, or as preferred.

  Raises:
    ValueError: shapes, dtypes or masks that do not fit each other.
    UnsupportedError: the named implementation cannot do this here.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> out_mask = jnp.array([[True, False]])
  >>> kd.masked_matmul(jnp.ones((1, 3)), jnp.ones((3, 2)), out_mask=out_mask)
  Array([[3., 0.]], dtype=float32)
  """
  return masked_dense(
    x,
    w,
    in_mask=in_mask,
    out_mask=out_mask,
    implementation=implementation,
    precision=precision,
    preferred_element_type=preferred_element_type,
  )


def masked_dense(
  x: Float[Array, "B ... I"],
  w: Float[Array, "I O"],
  b: Float[Array, "O"] | None = None,
  *,
  activation: dense.Activation | None = None,
  in_mask: blocks.MasksLike | None = None,
  out_mask: blocks.MasksLike | None = None,
  implementation: dispatch.Implementation = "auto",
  precision: Any = None,
  preferred_element_type: DTypeLike | None = None,
) -> Float[Array, "B ... O"]:
  """`masked_matmul` with a bias and a ReLU in the same kernel.

  Args:
    x: [B, ..., I].
    w: [I, O].
    b: [O] or None; dropped outputs stay zero.
    activation: "relu" or None.
    in_mask: as for `masked_matmul`, like the other options.
    out_mask: as for `masked_matmul`.
    implementation: as for `masked_matmul`.
    precision: as for `masked_matmul`.
    preferred_element_type: as for `masked_matmul`.

  Returns:
    ``act((x * in_mask) @ w + b) * out_mask``, [B, ..., O].

  Raises:
    ValueError: as for `masked_matmul`, or an unknown activation.
    UnsupportedError: as for `masked_matmul`.
  """
  x, w, b = arguments.operands(x, w, b)
  dense.check_activation(activation)
  arguments.check_precision(precision, preferred_element_type)
  ins, outs = arguments.masks(x, w, in_mask, out_mask)
  problem = arguments.describe(
    x, w, ins, outs, precision=precision, out_dtype=preferred_element_type
  )
  plan = dispatch.plan(problem, implementation)
  if 0 in (problem.rows, problem.positions, w.shape[1]):
    return _empty(problem, x, w)
  keeps = [arguments.keep(side, problem.groups) for side in (ins, outs)]
  x3 = x.reshape(problem.rows, problem.positions, w.shape[0])
  x3, w, b, in_keep, out_keep = arguments.equally_varying(x3, w, b, *keeps)
  # Once a mask: the products of all derivatives take the same tables.
  tables = dispatch.tables(plan, in_keep, out_keep)
  static = products.Static(problem, plan)
  y: Array = _product(  # pyright: ignore[reportAssignmentType]
    static, activation, x3, w, b, in_keep, out_keep, tables
  )
  return y.reshape(*x.shape[:-1], w.shape[1])


def _empty(problem, x, w):
  """Returns a product without rows, positions or outputs: nothing is masked."""
  return dense.dot(problem, x, w, ((x.ndim - 1,), (0,)), out=problem.out)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _product(static, activation, x, w, b, in_keep, out_keep, tables):
  return dispatch.call(
    "forward",
    static.plan,
    static.problem,
    tables,
    x,
    w,
    b,
    in_keep,
    out_keep,
    activation=activation,
  )


def _product_jvp(static, activation, primals, tangents):
  x, w, b, *masks = primals
  y: Array = _product(static, activation, *primals)  # pyright: ignore[reportAssignmentType]
  parts = []
  if not _is_zero(tangents[0]):
    parts.append(products.bind("forward", static, tangents[0], w, *masks))
  if not _is_zero(tangents[1]):
    parts.append(products.bind("forward", static, x, tangents[1], *masks))
  if b is not None and not _is_zero(tangents[2]):
    # A ReLU's outputs that are dropped are not positive.
    keep = None if activation == "relu" else masks[1]
    parts.append(_spread_bias(static.problem, tangents[2], y, keep))
  if not parts:
    return y, jnp.zeros_like(y)
  tangent = functools.reduce(jnp.add, parts)
  if activation == "relu":
    tangent = jnp.where(y > 0, tangent, jnp.zeros((), y.dtype))
  return y, tangent


_product.defjvp(_product_jvp, symbolic_zeros=True)


def _is_zero(tangent) -> bool:
  return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _spread_bias(problem, b, y, out_keep):
  """Returns what a bias adds to each row; its gradient is summed widely."""
  wide = b.astype(dense.wide_dtype(b.dtype))
  spread = jnp.broadcast_to(wide, y.shape).astype(y.dtype)
  return dense.keep_units(problem, problem.outputs, spread, out_keep)
