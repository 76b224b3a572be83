"""The masked product that skips the dropped work: checks, and its gradient.

``y = (x * expand(in_mask)) @ w``, where columns in a dropped block of
`out_mask` are not computed and come back zero. The three products (forward,
dx, dw) are dispatched one by one, and each skips both kinds of dropped block.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from kdropout_jax import _types
from kdropout_jax import blocks
from kdropout_jax.ops import arguments
from kdropout_jax.ops import dense
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import problems


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
  the group's masks. No rescaling is done. First derivatives are supported,
  and they skip the same blocks.

  Args:
    x: [B, ..., I], floating point.
    w: [I, O].
    in_mask: `Masks` or bool [T, I]; dropped inputs count as zero.
    out_mask: `Masks` or bool [T, O]; dropped outputs come back zero.
    implementation: "dense" anywhere; "compact" for masks of an exact count;
      "triton" for CUDA devices; "auto" chooses from static facts. A named one
      never falls back.
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
  ins, outs = arguments.masks(w, in_mask, out_mask)
  problem = arguments.describe(
    x, w, ins, outs, precision=precision, out_dtype=preferred_element_type
  )
  plan = dispatch.plan(problem, implementation)
  if 0 in (problem.rows, problem.positions, w.shape[1]):
    return _empty(problem, x, w)
  y: Array = _product(  # pyright: ignore[reportAssignmentType]
    _Static(problem, plan, activation),
    x.reshape(problem.rows, problem.positions, w.shape[0]),
    w,
    b,
    arguments.keep(ins, problem.groups),
    arguments.keep(outs, problem.groups),
  )
  return y.reshape(*x.shape[:-1], w.shape[1])


def _empty(problem, x, w):
  """Returns a product without rows, positions or outputs: nothing is masked."""
  return dense.dot(problem, x, w, ((x.ndim - 1,), (0,)), out=problem.out)


@dataclasses.dataclass(frozen=True)
class _Static:
  """What the traced arrays do not say."""

  problem: problems.Problem
  plan: dispatch.Plan
  activation: str | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(static, x, w, b, in_keep, out_keep):
  return _forward(static, x, w, b, in_keep, out_keep)[0]


def _forward(static, x, w, b, in_keep, out_keep):
  # Once a mask: the products of the backward pass take the same tables.
  tables = dispatch.tables(static.plan, in_keep, out_keep)
  masks = (in_keep, out_keep)
  activation = static.activation
  y = _run("forward", static, tables, x, w, b, *masks, activation=activation)
  positive = y > 0 if activation == "relu" else None
  return y, (x, w, b, positive, masks, tables)


def _backward(static, residuals, dy):
  x, w, b, positive, masks, tables = residuals
  dy = dy.astype(x.dtype)
  if positive is not None:
    dy = jnp.where(positive, dy, jnp.zeros((), dy.dtype))
  dx = _run("dx", static, tables, dy, w, *masks)
  dw = _run("dw", static, tables, x, dy, *masks)
  db = _bias_gradient(static, b, dy, positive, masks[1])
  return dx, dw, db, None, None


_product.defvjp(_forward, _backward)


def _bias_gradient(static, b, dy, positive, out_keep):
  if b is None:
    return None
  if positive is None:  # Else dropped outputs, which are zero, are left out.
    problem = static.problem
    dy = dense.keep_units(problem, problem.outputs, dy, out_keep)
  wide = jnp.promote_types(dy.dtype, jnp.float32)
  return jnp.sum(dy, axis=(0, 1), dtype=wide).astype(b.dtype)


def _run(product, static, tables, *arrays, **options):
  """Runs a product; whoever differentiates it is told that it cannot be."""

  def run(tables, *arrays):
    return dispatch.call(
      product, static.plan, static.problem, tables, *arrays, **options
    )

  once = jax.custom_jvp(run)
  once.defjvp(_refuse)
  return once(tables, *arrays)


def _refuse(primals, tangents):
  del primals, tangents
  raise _types.UnsupportedError(
    "masked_matmul has first derivatives only: its gradient cannot be"
    " differentiated again; write (x * mask) @ w for second derivatives"
  )
