"""The masked product in plain jnp: the oracle, and the fallback everywhere.

The three products share one signature with the other implementations. `x` is
[B, P, I] (P the positions between rows and features, often 1), `w` is [I, O],
`in_keep` and `out_keep` are bool [T, G] or None.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdropout_jax import blocks
from kdropout_jax.ops import problems

__all__ = ()

Keep = Bool[Array, "T _"] | None
Activation = Literal["relu"]


def forward(
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  w: Float[Array, "I O"],
  b: Float[Array, "O"] | None,
  in_keep: Keep,
  out_keep: Keep,
  *,
  activation: str | None = None,
  sharding: Any = None,
) -> Float[Array, "B P O"]:
  """Returns ``act((x * in_mask) @ w + b)``, zero where `out_mask` drops."""
  x = keep_units(problem, problem.inputs, x, in_keep)
  y = dot(problem, x, w, ((2,), (0,)), out=problem.out, sharding=sharding)
  y = epilogue(y, b, activation)
  return keep_units(problem, problem.outputs, y, out_keep)


def dx(
  problem: problems.Problem,
  dy: Float[Array, "B P O"],
  w: Float[Array, "I O"],
  in_keep: Keep,
  out_keep: Keep,
  *,
  sharding: Any = None,
) -> Float[Array, "B P I"]:
  """Returns the gradient of the inputs, zero where `in_mask` drops."""
  dy = keep_units(problem, problem.outputs, dy, out_keep)
  dx = dot(problem, dy, w, ((2,), (1,)), sharding=sharding)
  return keep_units(problem, problem.inputs, dx, in_keep)


def dw(
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  dy: Float[Array, "B P O"],
  in_keep: Keep,
  out_keep: Keep,
  *,
  sharding: Any = None,
) -> Float[Array, "I O"]:
  """Returns the gradient of the weights, summed over all rows."""
  x = keep_units(problem, problem.inputs, x, in_keep)
  dy = keep_units(problem, problem.outputs, dy, out_keep)
  return dot(problem, x, dy, ((0, 1), (0, 1)), sharding=sharding)


def keep_units(
  problem: problems.Problem,
  side: problems.Side,
  x: Float[Array, "B P W"],
  keep: Keep,
) -> Float[Array, "B P W"]:
  """Returns `x` with zeros where the mask of each row's group drops.

  Selects instead of multiplying: a dropped unit is not read, so a NaN in it
  does not spread.
  """
  if keep is None:
    return x
  units = blocks.expand(keep, side.width, side.block_size)
  rows, groups = problem.rows, problem.groups
  if rows % groups:
    slots = blocks.row_slots(rows, groups)
    return jnp.where(units[slots][:, None, :], x, jnp.zeros((), x.dtype))
  split = x.reshape(groups, rows // groups, *x.shape[1:])
  kept = jnp.where(units[:, None, None, :], split, jnp.zeros((), x.dtype))
  return kept.reshape(x.shape)


def dot(
  problem: problems.Problem,
  a: Float[Array, "..."],
  b: Float[Array, "..."],
  contract: tuple[tuple[int, ...], tuple[int, ...]],
  batch: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
  *,
  out: str | None = None,
  sharding: Any = None,
) -> Float[Array, "..."]:
  """Returns a dot product in the operands' dtype, summed in float32 or wider.

  Args:
    problem: says how precisely.
    a: left operand.
    b: right operand, of the same dtype.
    contract: axes of `a` and of `b` to sum over.
    batch: axes of `a` and of `b` that run together.
    out: name of the result's dtype; the default is the operands'.
    sharding: of the result, where axes are explicit; None leaves it to JAX.
  """
  out = out or a.dtype.name
  wide = wide_dtype(a.dtype)

  def native(a, b):
    return jax.lax.dot_general(
      a,
      b,
      (contract, batch),
      precision=problem.precision,
      preferred_element_type=wide,
      out_sharding=sharding,
    )

  def upcast(a, b):
    return native(a.astype(wide), b.astype(wide))

  if a.dtype == wide:
    return native(a, b).astype(out)
  # XLA's CPU backend refuses some 16-bit products with a float32 result.
  y = jax.lax.platform_dependent(a, b, cpu=upcast, default=native)
  return y.astype(out)


def wide_dtype(dtype) -> jnp.dtype:
  """Returns the dtype that sums are kept in: float32, or float64 for itself."""
  return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def epilogue(
  y: Float[Array, "B P O"],
  b: Float[Array, "O"] | None,
  activation: str | None,
) -> Float[Array, "B P O"]:
  """Returns `y` with the bias added and the activation applied."""
  if b is not None:
    y = y + b.astype(y.dtype)[None, None, :]
  return activate(y, activation)


def check_activation(activation: str | None) -> None:
  """Raises a ValueError unless `activation` is "relu" or None."""
  is_text = isinstance(activation, str)
  if activation is not None and not (
    is_text and activation in get_args(Activation)
  ):
    raise ValueError(f"activation must be 'relu' or None, got {activation!r}")


def activate(
  y: Float[Array, "..."], activation: str | None
) -> Float[Array, "..."]:
  """Applies an activation that the op may fuse: "relu" or None."""
  check_activation(activation)
  return y if activation is None else jax.nn.relu(y)
