"""In what precision a model computes while it is probed; how far it is off."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

__all__ = ()


@contextlib.contextmanager
def linen_dtype(dtype: Any) -> Iterator[None]:
  """Lets linen modules compute in `dtype` whose own field says a narrower one.

  Their field `dtype` is replaced during their own calls.
  """

  def intercept(next_fun, args, kwargs, context):
    module = context.module
    given = getattr(module, "dtype", None)
    if not is_narrower(given, dtype):
      return next_fun(*args, **kwargs)
    object.__setattr__(module, "dtype", dtype)  # a frozen module's field
    try:
      return next_fun(*args, **kwargs)
    finally:
      object.__setattr__(module, "dtype", given)

  with nn.intercept_methods(intercept):
    yield


def widened(tree: Any, dtype: Any) -> Any:
  """Returns a tree whose narrower floating-point arrays are of `dtype`."""

  def widen(leaf):
    narrow = is_narrower(getattr(leaf, "dtype", None), dtype)
    return jnp.asarray(leaf, dtype) if narrow else leaf

  return jax.tree.map(widen, tree)


def is_narrower(given: Any, dtype: Any) -> bool:
  """Whether `given` is a floating-point dtype with fewer bits than `dtype`."""
  try:
    is_float = given is not None and jnp.issubdtype(given, jnp.floating)
    return bool(is_float) and jnp.finfo(given).bits < jnp.finfo(dtype).bits
  except TypeError:
    return False


def difference(tree: Any, other: Any) -> Float[Array, ""]:
  """Returns the largest difference, relative to each leaf's largest value."""

  def of(a, b):
    scale = jnp.max(jnp.abs(a), initial=jnp.finfo(a.dtype).tiny)
    return jnp.max(jnp.abs(a - b), initial=0) / scale

  return jnp.stack(jax.tree.leaves(jax.tree.map(of, tree, other))).max()


def coarsest(fn: Callable[..., Any], *args: Any) -> Any:
  """Returns the dtype of fewest digits that a function computes in."""
  program = str(jax.make_jaxpr(fn)(*args))
  for name, dtype in (
    (":bf16[", jnp.bfloat16),
    (":f16[", jnp.float16),
    (":f32[", jnp.float32),
  ):
    if name in program:
      return dtype
  return jnp.float64
