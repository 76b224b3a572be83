"""Checks of arguments: a ValueError names the argument, its value, the rule."""

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

_MAX_INT32 = 2**31 - 1


def is_tracer(value) -> bool:
  """Returns whether `value` has no concrete value yet."""
  return isinstance(value, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]


def is_concrete(value) -> bool:
  """Returns whether `value` is a number or an array with values to look at."""
  return isinstance(value, (int, np.integer, np.ndarray)) or (
    isinstance(value, jax.Array) and not is_tracer(value)
  )


def check_positive(name: str, value: int) -> None:
  """Raises a ValueError unless the static `value` is an integer >= 1."""
  check_integer(name, value, 1)


def check_integer(name: str, value: int, least: int) -> None:
  """Raises a ValueError unless the static `value` is an integer >= `least`."""
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise ValueError(f"{name} must be an integer, got {value!r}")
  if value < least:
    raise ValueError(f"{name} must be >= {least}, got {value}")


def check_int32(name: str, value: int) -> None:
  """Raises a ValueError unless 1 <= `value` < 2**31."""
  check_positive(name, value)
  if value > _MAX_INT32:
    raise ValueError(f"{name} must be < 2**31, got {value}")


def check_leaf(name: str, value) -> None:
  """Checks a data leaf: every element of a concrete one, never a tracer.

  Nor what JAX puts in a leaf's place while it looks at a tree, ``object()``.
  """
  is_empty = isinstance(value, jax.ShapeDtypeStruct) or type(value) is object
  if is_tracer(value) or is_empty:
    return
  if isinstance(value, bool) or not is_concrete(value):
    raise ValueError(f"{name} must be an integer, got {value!r}")
  values = np.asarray(value)
  if not jnp.issubdtype(values.dtype, jnp.integer):
    raise ValueError(f"{name} must be an integer, got {value!r}")
  if values.size == 0 or values.min() < 1:
    raise ValueError(f"{name} must be >= 1, got {value}")
  if values.max() > _MAX_INT32:
    raise ValueError(f"{name} must be < 2**31, got {value}")


def check_numbers(
  name: str, value, ok: Callable[[np.ndarray], Any], rule: str
) -> None:
  """Checks a number, or every element of a concrete leaf, never a tracer."""
  if is_tracer(value) or isinstance(value, jax.ShapeDtypeStruct):
    return
  values = np.asarray(value)
  is_number = jnp.issubdtype(values.dtype, jnp.number)
  if not is_number or values.size == 0 or not np.all(ok(values)):
    raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_scalar(name: str, value) -> None:
  """Raises a ValueError for an array of many values; tracers count, too."""
  if np.ndim(value):
    raise ValueError(
      f"{name} must be a single number here, got shape {np.shape(value)}: an"
      " array of many is a sweep, to be mapped over with jax.vmap"
    )


def concrete_int(name: str, value) -> int:
  """Returns a data leaf as a Python integer, to count with."""
  if not is_concrete(value) or np.ndim(value) != 0:
    raise ValueError(
      f"{name} must be a single concrete integer to count subnets, got"
      f" {value!r}"
    )
  return int(value)


def check_function(name: str, value) -> None:
  """Raises a ValueError unless `value` is a function that can be static."""
  if not callable(value):
    raise ValueError(f"{name} must be callable, got {value!r}")
  try:
    hash(value)
  except TypeError:
    raise ValueError(f"{name} must be hashable, got {value!r}") from None


def check_option(name: str, value, options) -> None:
  """Raises a ValueError unless `value` is one of a Literal's options."""
  if value not in get_args(options):
    raise ValueError(
      f"{name} must be one of {get_args(options)}, got {value!r}"
    )
