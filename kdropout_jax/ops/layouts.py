"""A layout that is pinned, but not in a program that is exported."""

import jax
import jax.extend
from jax.experimental import layout
from jax.interpreters import batching
from jax.interpreters import mlir
from jaxtyping import Array, Shaped

__all__ = ()


def row_major(a: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
  """Asks XLA to keep `a` row by row; an exported program leaves it free.

  `jax.export` refuses the call that pins a layout, which is a matter of speed.
  """
  return _primitive.bind(a, order=tuple(range(a.ndim)))


def _pin(a, *, order: tuple[int, ...]):
  return layout.with_layout_constraint(a, layout.Layout(order))


def _lower(ctx, a, *, order):
  if ctx.module_context.lowering_parameters.for_export:
    return [a]
  return mlir.lower_fun(_pin, multiple_results=False)(ctx, a, order=order)


def _batch(operands, dims, *, order):
  (a,), (dim,) = operands, dims
  # The batch is the slowest axis, wherever it stands.
  order = (dim, *(axis + (axis >= dim) for axis in order))
  return _primitive.bind(a, order=order), dim


_primitive = jax.extend.core.Primitive("kd_row_major")
_primitive.def_impl(_pin)
_primitive.def_abstract_eval(lambda a, **_: a)
batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, _lower)
