"""The masked product that skips the dropped work: checks, and its gradient.

``y = (x * expand(in_mask)) @ w``, where columns in a dropped block of
`out_mask` are not computed and come back zero. The three products (forward,
dx, dw) are dispatched one by one, and each skips both kinds of dropped block.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdropout_jax import _types
from kdropout_jax import blocks
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

  Returns:
    [B, ..., O] in the common dtype of `x` and `w`.

  Raises:
    ValueError: shapes, dtypes or masks that do not fit each other.
    UnsupportedError: the named implementation cannot do this here.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> out_mask = jnp.array([[True, False]])
  >>> kd.masked_matmul(jnp.ones((1, 3)), jnp.ones((3, 2)), out_mask=out_mask)
  Array([[3., 0.]], dtype=float32)
  """
  return masked_dense(
    x, w, in_mask=in_mask, out_mask=out_mask, implementation=implementation
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

  Returns:
    ``act((x * in_mask) @ w + b) * out_mask``, [B, ..., O].

  Raises:
    ValueError: as for `masked_matmul`, or an unknown activation.
    UnsupportedError: as for `masked_matmul`.
  """
  x, w, b = _check_operands(x, w, b)
  dense.check_activation(activation)
  ins = _check_mask("in_mask", in_mask, w.shape[0])
  outs = _check_mask("out_mask", out_mask, w.shape[1])
  groups = _check_groups(ins, outs)
  problem = _problem(x, w, ins, outs, min(groups, max(x.shape[0], 1)))
  plan = dispatch.plan(problem, implementation)
  if 0 in (problem.rows, problem.positions, w.shape[1]):
    return dense.dot(x, w, ((x.ndim - 1,), (0,)))  # Empty, and so is all else.
  y: Array = _product(  # pyright: ignore[reportAssignmentType]
    _Static(problem, plan, activation),
    x.reshape(problem.rows, problem.positions, w.shape[0]),
    w,
    b,
    _keep(ins, problem.groups),
    _keep(outs, problem.groups),
  )
  return y.reshape(*x.shape[:-1], w.shape[1])


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


def _check_operands(x, w, b):
  x, w = jnp.asarray(x), jnp.asarray(w)
  b = None if b is None else jnp.asarray(b)
  for name, array in (("x", x), ("w", w), ("b", b)):
    if array is not None and not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f"{name} must be floating point, got {array.dtype}")
  if x.ndim < 2:
    raise ValueError(f"x must be [rows, ..., inputs], got shape {x.shape}")
  if x.shape[-1] == 0:
    raise ValueError(f"x must have at least one input, got shape {x.shape}")
  if w.ndim != 2 or w.shape[0] != x.shape[-1]:
    raise ValueError(
      f"w must be [{x.shape[-1]}, outputs] for x of shape {x.shape}, got"
      f" shape {w.shape}"
    )
  if b is not None and b.shape != w.shape[1:]:
    raise ValueError(f"b must have shape [{w.shape[1]}], got {b.shape}")
  dtype = jnp.result_type(x, w)
  return x.astype(dtype), w.astype(dtype), b if b is None else b.astype(dtype)


def _check_mask(name, mask, width) -> blocks.Masks | None:
  if mask is None:
    return None
  try:
    return blocks.as_masks(mask, width)
  except ValueError as error:
    raise ValueError(f"{name}: {error}") from None


def _check_groups(ins: blocks.Masks | None, outs: blocks.Masks | None) -> int:
  """Returns the number of groups T, 1 without masks."""
  counts = [masks.num_subnets for masks in (ins, outs) if masks is not None]
  if 0 in counts:
    raise ValueError("in_mask and out_mask must hold at least one mask, got 0")
  if len(set(counts)) > 1:
    raise ValueError(
      "in_mask and out_mask must hold equally many masks, got"
      f" {counts[0]} and {counts[1]}"
    )
  return counts[0] if counts else 1


def _problem(x, w, ins, outs, groups) -> problems.Problem:
  return problems.Problem(
    rows=x.shape[0],
    positions=math.prod(x.shape[1:-1]),
    groups=groups,
    inputs=_side(ins, w.shape[0]),
    outputs=_side(outs, w.shape[1]),
    dtype=x.dtype.name,
  )


def _side(masks: blocks.Masks | None, width: int) -> problems.Side:
  if masks is None:
    return problems.Side(width)
  return problems.Side(width, masks.block_size, masks.num_kept, masked=True)


def _keep(masks: blocks.Masks | None, groups: int):
  """Returns the flags [T, G] of the groups that have rows, or None."""
  if masks is None:
    return None
  if masks.num_subnets == groups:
    return masks.keep
  # More masks than rows: each row is a group of its own.
  slots = jnp.asarray(blocks.row_slots(groups, masks.num_subnets))
  return masks.take(slots).keep
