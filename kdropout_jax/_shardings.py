"""Arrays that are made inside, placed as the arrays of the user are.

Under a mesh with explicit axes a sharding is a part of an array's type, and
two operands must agree in it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def like(made: Array, x: Array) -> Array:
  """Returns `made` sharded as `x` is, along the axes that both have.

  Args:
    made: of the rank of `x`, or with its last axes; axes of size 1 stay whole.
    x: an array of the user's.
  """
  spec = _explicit_spec(x)
  if spec is None:
    return made
  first = x.ndim - made.ndim
  sizes = zip(spec[first:], made.shape, x.shape[first:])
  wanted = [axis if size == full else None for axis, size, full in sizes]
  return jax.sharding.reshard(made, jax.P(*wanted))


def rows_like(made: Array, x: Array) -> Array:
  """Returns `made` with its leading axis sharded as that of `x` is."""
  spec = _explicit_spec(x)
  if spec is None or made.shape[0] != x.shape[0]:
    return made
  own = (None,) * (made.ndim - 1)
  return jax.sharding.reshard(made, jax.P(spec[0], *own))


def _explicit_spec(x: Array) -> tuple | None:
  """Returns the sharding of each axis of `x`; None without explicit axes."""
  sharding = jax.typeof(x).sharding
  if sharding.mesh.empty or not sharding.mesh.explicit_axes:
    return None
  return (*sharding.spec, *(None,) * (x.ndim - len(sharding.spec)))


def whole(x: Array) -> Array:
  """Returns `x` without the shards of explicit axes, where it has some."""
  return x if _explicit_spec(x) is None else jax.sharding.reshard(x, jax.P())


def scan(fn: Callable, start: Any, xs: Any) -> tuple[Any, Any]:
  """Returns what `jax.lax.scan` does, wherever the carry comes to lie.

  A scan's carry must be placed as `fn` places it from the start, which arrays
  that are made here are not: so the first step is taken outside.
  """
  carry, out = fn(start, jax.tree.map(lambda x: x[0], xs))
  carry, others = jax.lax.scan(fn, carry, jax.tree.map(lambda x: x[1:], xs))
  join = lambda a, b: jnp.concatenate([a[None], b])  # noqa: E731
  return carry, jax.tree.map(join, out, others)
