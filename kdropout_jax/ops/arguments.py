"""The arguments of a masked product: checked, and described as a `Problem`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.ops import problems

__all__ = ()


def operands(x, w, b) -> tuple[Array, Array, Array | None]:
  """Returns the operands as arrays of their common dtype, checked."""
  x, w = _checks.as_array("x", x), _checks.as_array("w", w)
  b = None if b is None else _checks.as_array("b", b)
  check_operands(x, w, b)
  dtype = jnp.result_type(x, w)
  return x.astype(dtype), w.astype(dtype), b if b is None else b.astype(dtype)


def check_operands(x, w, b) -> None:
  """Raises a ValueError unless shapes and dtypes fit each other."""
  for name, array in (("x", x), ("w", w), ("b", b)):
    if array is not None and not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f"{name} must be floating point, got {array.dtype}")
  if len(x.shape) < 2:
    raise ValueError(f"x must be [rows, ..., inputs], got shape {x.shape}")
  if x.shape[-1] == 0:
    raise ValueError(f"x must have at least one input, got shape {x.shape}")
  if len(w.shape) != 2 or w.shape[0] != x.shape[-1]:
    raise ValueError(
      f"w must be [{x.shape[-1]}, outputs] for x of shape {x.shape}, got"
      f" shape {w.shape}"
    )
  if b is not None and b.shape != w.shape[1:]:
    raise ValueError(f"b must have shape [{w.shape[1]}], got {b.shape}")


def masks(
  x, w, in_mask: blocks.MasksLike | None, out_mask: blocks.MasksLike | None
) -> tuple[blocks.Masks | None, blocks.Masks | None]:
  """Returns the masks of both sides of `w`, checked."""
  ins = _check_mask("in_mask", in_mask, w.shape[0])
  outs = _check_mask("out_mask", out_mask, w.shape[1])
  counts = [side.num_subnets for side in (ins, outs) if side is not None]
  if 0 in counts and x.shape[0] > 0:
    raise ValueError("in_mask and out_mask must hold at least one mask, got 0")
  if len(set(counts)) > 1:
    raise ValueError(
      "in_mask and out_mask must hold equally many masks, got"
      f" {counts[0]} and {counts[1]}"
    )
  return ins, outs


def describe(
  x,
  w,
  ins: blocks.Masks | None,
  outs: blocks.Masks | None,
  *,
  precision: Any = None,
  out_dtype: DTypeLike | None = None,
) -> problems.Problem:
  """Returns the static facts of a product of checked arguments."""
  counts = [side.num_subnets for side in (ins, outs) if side is not None]
  if max(counts, default=1) > 1 and _checks.is_symbolic(x.shape[0]):
    raise UnsupportedError(
      f"a product of {x.shape[0]} rows, a symbol of jax.export, shared by"
      f" {max(counts)} subnets: which rows are whose is not known. Export it"
      " for a number of rows, or mask by kd.dropout and multiply by jnp.matmul"
    )
  return problems.Problem(
    rows=x.shape[0],
    positions=math.prod(x.shape[1:-1]),
    groups=max(min(counts[0] if counts else 1, x.shape[0]), 1),
    inputs=_side(ins, w.shape[0]),
    outputs=_side(outs, w.shape[1]),
    dtype=jnp.dtype(x.dtype).name,
    precision=precision,
    is_explicit=_is_explicit(x),
    out_dtype=None if out_dtype is None else jnp.dtype(out_dtype).name,
  )


def keep(side: blocks.Masks | None, groups: int) -> Bool[Array, "T G"] | None:
  """Returns the flags [T, G] of the groups that have rows, or None."""
  if side is None:
    return None
  if side.num_subnets == groups:
    return side.keep
  # More masks than rows: each row is a group of its own.
  slots = jnp.asarray(blocks.row_slots(groups, side.num_subnets))
  return side.take(slots).keep


def equally_varying(*arrays: Any) -> list[Any]:
  """Returns arrays that vary over the same axes of `shard_map`, None as it is.

  The gradient of one that did not vary is then summed over those axes.
  """
  varying = [
    frozenset() if a is None else jax.typeof(a).manual_axis_type.varying
    for a in arrays
  ]
  union = frozenset().union(*varying)
  return [
    a if a is None or not union - own else _vary(a, tuple(union - own))
    for a, own in zip(arrays, varying)
  ]


def _vary(a, axes: tuple[str, ...]):
  return jax.lax.pcast(a, axes, to="varying")


_PRECISIONS = (
  *(str, tuple, jax.lax.Precision),
  *(jax.lax.DotAlgorithm, jax.lax.DotAlgorithmPreset),
)


def check_precision(precision, out_dtype) -> None:
  """Raises a ValueError for what `jnp.matmul` would not take either."""
  if out_dtype is not None:
    _checks.check_dtype("preferred_element_type", out_dtype, "floating")
  if precision is not None:
    _checks.check_type("precision", precision, _PRECISIONS, "one of JAX's")
  if isinstance(precision, str):
    try:
      jax.lax.Precision(precision)
    except ValueError:
      raise ValueError(
        f"precision must be one that jax.lax.Precision names, got {precision!r}"
      ) from None


def _is_explicit(x) -> bool:
  return bool(getattr(_mesh_of(x), "explicit_axes", ()))


def _mesh_of(x):
  if isinstance(x, jax.ShapeDtypeStruct):
    return None
  return getattr(jax.typeof(x).sharding, "mesh", None)


def _check_mask(name, mask, width) -> blocks.Masks | None:
  if mask is None:
    return None
  try:
    return blocks.as_masks(mask, width)
  except ValueError as error:
    raise ValueError(f"{name}: {error}") from None


def _side(side: blocks.Masks | None, width: int) -> problems.Side:
  if side is None:
    return problems.Side(width)
  return problems.Side(
    width, side.block_size, side.num_kept, masked=True, design=side.design
  )
