"""Arrays that are made inside, placed as the arrays of the user are.

Under a mesh with explicit axes a sharding is a part of an array's type, and
two operands must agree in it.
"""

import jax
from jaxtyping import Array


def like(made: Array, x: Array) -> Array:
  """Returns `made` sharded as `x` is, along the axes that both have.

  Args:
    made: of the rank of `x`; axes of size 1 stay whole.
    x: an array of the user's.
  """
  sharding = jax.typeof(x).sharding
  mesh = sharding.mesh
  if mesh.empty or not mesh.explicit_axes:
    return made
  padded = (None,) * (x.ndim - len(sharding.spec))
  spec = (*sharding.spec, *padded)
  wanted = jax.P(
    *(
      axis if size == full else None
      for axis, size, full in zip(
        spec[x.ndim - made.ndim :], made.shape, x.shape[x.ndim - made.ndim :]
      )
    )
  )
  return jax.sharding.reshard(made, jax.NamedSharding(mesh, wanted))


def whole(x: Array) -> Array:
  """Returns `x` without the shards of explicit axes, where it has some."""
  sharding = jax.typeof(x).sharding
  if sharding.mesh.empty or not sharding.mesh.explicit_axes:
    return x
  return jax.sharding.reshard(x, jax.NamedSharding(sharding.mesh, jax.P()))
