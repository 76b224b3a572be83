"""The three products as one primitive that is closed under differentiation.

Forward, dx and dw are linear in each operand, and each one's transposes are the
other two. So derivatives in either mode and of any order are such products
again, planned and dispatched like the first.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax.interpreters import ad
from jax.interpreters import batching
from jax.interpreters import mlir
from jaxtyping import Array, Float

from kdropout_jax import blocks
from kdropout_jax.ops import dense
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import problems

__all__ = ()

# (product, linear operand) -> its transpose, as (product, operands of it).
_TRANSPOSES = {
  ("forward", 0): ("dx", lambda ct, w: (ct, w)),
  ("forward", 1): ("dw", lambda ct, x: (x, ct)),
  ("dx", 0): ("forward", lambda ct, w: (ct, w)),
  ("dx", 1): ("dw", lambda ct, dy: (ct, dy)),
  ("dw", 0): ("dx", lambda ct, dy: (dy, ct)),
  ("dw", 1): ("forward", lambda ct, x: (x, ct)),
}


@dataclasses.dataclass(frozen=True)
class Static:
  """What the traced arrays do not say."""

  problem: problems.Problem
  plan: dispatch.Plan


@dataclasses.dataclass(frozen=True)
class _Params:
  """The static parameters of the primitive.

  Attributes:
    product: "forward", "dx" or "dw".
    static: the problem and the plan.
    tree: structure of the operands that are not differentiated.
    levels: for each `vmap`, the inner ones first, the axis of each operand (0
      or None).
    sharding: of the result, where axes are explicit; None leaves it to JAX.
  """

  product: str
  static: Static
  tree: Any
  levels: tuple[tuple[int | None, ...], ...] = ()
  sharding: Any = None


def bind(
  product: str,
  static: Static,
  a: Float[Array, "..."],
  b: Float[Array, "..."],
  in_keep: dense.Keep,
  out_keep: dense.Keep,
  tables: blocks.Tables | None,
) -> Float[Array, "..."]:
  """Returns one product without bias or activation.

  Args:
    product: "forward" of x and w, "dx" of dy and w, or "dw" of x and dy.
    static: the problem and the plan.
    a: the first operand.
    b: the second.
    in_keep: as for `dense.forward`.
    out_keep: likewise.
    tables: of the two masks, from `dispatch.tables`.
  """
  leaves, tree = jax.tree.flatten((in_keep, out_keep, tables))
  return _primitive.bind(a, b, *leaves, params=_Params(product, static, tree))


def _run(a, b, *leaves, params: _Params):
  def once(a, b, *leaves):
    in_keep, out_keep, tables = jax.tree.unflatten(params.tree, leaves)
    operands = (a, b, None) if params.product == "forward" else (a, b)
    options = {"sharding": params.sharding} if params.sharding else {}
    return dispatch.call(
      params.product,
      params.static.plan,
      params.static.problem,
      tables,
      *operands,
      in_keep,
      out_keep,
      **options,
    )

  run = once
  for axes in params.levels:
    run = jax.vmap(run, axes)
  return run(a, b, *leaves)


def _abstract(*avals, params: _Params):
  """Traces the product: shape, sharding and varying axes as JAX has them."""
  run = functools.partial(_run, params=params)
  return jax.make_jaxpr(run)(*avals).out_avals[0]


def _jvp(primals, tangents, *, params: _Params):
  a, b, *leaves = primals
  out = _primitive.bind(a, b, *leaves, params=params)
  parts = []
  for operands, tangent in (
    (lambda t: (t, b), tangents[0]),
    (lambda t: (a, t), tangents[1]),
  ):
    if type(tangent) is not ad.Zero:
      parts.append(_primitive.bind(*operands(tangent), *leaves, params=params))
  return out, functools.reduce(jnp.add, parts)


def _transpose(ct, a, b, *leaves, params: _Params):
  linear = 0 if ad.is_undefined_primal(a) else 1
  aval, known = (a.aval, b) if linear == 0 else (b.aval, a)
  if type(ct) is ad.Zero:
    grad = ad.Zero(aval)
  else:
    product, order = _TRANSPOSES[params.product, linear]
    levels = tuple(
      (*order(0, axes[1 - linear]), *axes[2:]) for axes in params.levels
    )
    new = dataclasses.replace(
      params,
      product=product,
      levels=levels,
      sharding=None if levels else explicit_sharding(aval),
    )
    operands = order(ct.astype(known.dtype), known)
    grad = _primitive.bind(*operands, *leaves, params=new)
    shared = tuple(
      i
      for i, axes in enumerate(reversed(params.levels))
      if axes[linear] is None
    )
    grad = (jnp.sum(grad, shared) if shared else grad).astype(aval.dtype)
  none = [None] * len(leaves)
  return [grad, None, *none] if linear == 0 else [None, grad, *none]


def _batch(operands, dims, *, params: _Params):
  moved = [
    a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(operands, dims)
  ]
  axes = tuple(None if d is None else 0 for d in dims)
  params = dataclasses.replace(params, levels=(*params.levels, axes))
  return _primitive.bind(*moved, params=params), 0


def explicit_sharding(aval):
  """Returns the sharding of an array whose axes are explicit, or None."""
  sharding = getattr(aval, "sharding", None)
  mesh = getattr(sharding, "mesh", None)
  if mesh is None or not mesh.explicit_axes:
    return None
  return sharding


_primitive = jax.extend.core.Primitive("kd_product")
_primitive.def_impl(_run)
_primitive.def_abstract_eval(_abstract)
ad.primitive_jvps[_primitive] = _jvp
ad.primitive_transposes[_primitive] = _transpose
batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, mlir.lower_fun(_run, multiple_results=False))
