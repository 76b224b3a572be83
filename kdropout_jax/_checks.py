"""Checks of arguments: a ValueError names the argument, its value, the rule."""

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

_MAX_INT32 = 2**31 - 1
_KINDS = {
  "bool": "bool",
  "integer": "integers",
  "floating": "floating point",
  "number": "a real number",
}


def is_tracer(value) -> bool:
  """Returns whether `value` has no concrete value yet."""
  return isinstance(value, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]


def is_concrete(value) -> bool:
  """Returns whether `value` is a number or an array with values to look at."""
  return isinstance(value, (int, np.integer, np.ndarray)) or (
    isinstance(value, jax.Array) and not is_tracer(value)
  )


def shown(value) -> str:
  """Returns a short text of `value` for an error's message."""
  if hasattr(value, "shape") and hasattr(value, "dtype"):
    return f"{value.dtype} {list(value.shape)}"
  text = repr(value)
  return text if len(text) <= 200 else f"{type(value).__name__} {text[:200]}..."


def check_type(name: str, value, types, rule: str) -> None:
  """Raises a ValueError unless `value` is an instance of `types`."""
  if not isinstance(value, types):
    raise ValueError(f"{name} must be {rule}, got {shown(value)}")


def check_callable(name: str, value) -> None:
  """Raises a ValueError unless `value` can be called."""
  if not callable(value):
    raise ValueError(f"{name} must be callable, got {shown(value)}")


def check_flag(name: str, value) -> None:
  """Raises a ValueError unless `value` is True or False."""
  check_type(name, value, (bool, np.bool_), "True or False")


def check_text(name: str, value) -> None:
  """Raises a ValueError unless `value` is a text."""
  check_type(name, value, str, "a text")


def check_switch(name: str, value) -> None:
  """Raises a ValueError unless `value` is True, False, None or traced."""
  if value is not None and not is_tracer(value):
    check_flag(name, value)


def check_axes(name: str, value) -> None:
  """Raises a ValueError unless `value` is a list or tuple of integers."""
  is_list = isinstance(value, (list, tuple))
  if not is_list or not all(
    isinstance(axis, (int, np.integer)) for axis in value
  ):
    raise ValueError(f"{name} must be integers, got {shown(value)}")


def check_dtype(name: str, value, kind: str) -> None:
  """Raises a ValueError unless `value` names a dtype of a kind."""
  found = None
  if isinstance(value, (str, type, np.dtype)) or not _is_array(value):
    try:
      found = None if value is None else jnp.dtype(value)
    except TypeError:
      pass
  if found is None or not _has_kind(found, kind):
    what = shown(value) if found is None else found
    raise ValueError(f"{name} must be {_KINDS[kind]}, got {what}")


def check_count_of(name: str, value) -> None:
  """Raises a ValueError unless `value` is an integer >= 0, perhaps traced."""
  if isinstance(value, bool):
    raise ValueError(f"{name} must be an integer, got {value}")
  if isinstance(value, (int, np.integer)):
    if value < 0:
      raise ValueError(f"{name} must be >= 0, got {value}")
    return
  is_integer = _is_array(value) and _has_kind(value.dtype, "integer")
  if not is_integer or np.ndim(value):
    raise ValueError(f"{name} must be an integer, got {shown(value)}")


def check_array(
  name: str, value, axes: str | None = None, kind: str | None = None
) -> None:
  """Raises a ValueError unless `value` is an array, perhaps a traced one.

  Args:
    name: of the argument.
    value: its value.
    axes: one letter an axis, such as "B C"; the default is any rank.
    kind: "bool", "integer", "floating" or "number" (real, not bool); the
      default is any.
  """
  if not _is_array(value):
    raise ValueError(f"{name} must be an array, got {shown(value)}")
  if axes is not None and np.ndim(value) != len(axes.split()):
    raise ValueError(
      f"{name} must have shape [{', '.join(axes.split())}], got"
      f" {list(np.shape(value))}"
    )
  if kind is not None and not _has_kind(value.dtype, kind):
    raise ValueError(f"{name} must be {_KINDS[kind]}, got {value.dtype}")


def as_array(name: str, value) -> jax.Array:
  """Returns what JAX takes for an array as one, or raises a ValueError."""
  try:
    return jnp.asarray(value)
  except (TypeError, ValueError, OverflowError) as error:
    raise ValueError(f"{name} must be an array, got {shown(value)}") from error


def check_tree(name: str, tree, kind: str | None = None) -> None:
  """Raises a ValueError unless all leaves are arrays or numbers.

  None is a leaf that is not there, as everywhere in JAX; a tree without
  leaves is one, too.
  """
  for leaf in jax.tree.leaves(tree):
    is_shape = isinstance(leaf, jax.ShapeDtypeStruct)
    is_number = isinstance(leaf, (float, complex)) or (
      isinstance(leaf, int) and -_MAX_INT32 <= leaf <= _MAX_INT32
    )
    if not (_is_array(leaf) or is_number or is_shape) or (
      kind is not None and not _has_kind(jnp.result_type(leaf), kind)
    ):
      raise ValueError(
        f"{name} must be a tree of {_KINDS[kind] + ' ' if kind else ''}arrays,"
        f" got the leaf {shown(leaf)}"
      )


def check_arrays(name: str, tree) -> None:
  """Raises a ValueError unless all leaves are arrays of real numbers."""
  check_tree(name, tree, "number")
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, (bool, int, float, complex)):
      raise ValueError(
        f"{name} must be a tree of arrays, got the leaf {shown(leaf)}"
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


def is_symbolic(size) -> bool:
  """Returns whether a size is a symbol of `jax.export`, known at no trace."""
  return jax.export.is_symbolic_dim(size)


def check_rows(name: str, value) -> None:
  """Raises a ValueError unless a count of rows is in [1, 2**31), or a symbol.

  Symbols of `jax.export` stand for sizes >= 1.
  """
  if not is_symbolic(value):
    check_int32(name, value)


def check_leaf(name: str, value) -> None:
  """Checks a data leaf: every element of a concrete one, never a tracer.

  Nor what JAX puts in a leaf's place while it looks at a tree, ``object()``.
  """
  is_empty = isinstance(value, jax.ShapeDtypeStruct) or type(value) is object
  if is_tracer(value) or is_empty:
    return
  if isinstance(value, bool) or not (
    is_concrete(value) and _is_array_like(value)
  ):
    raise ValueError(f"{name} must be an integer, got {shown(value)}")
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
  if _is_array_like(value):
    values = np.asarray(value)
    is_real = _has_kind(values.dtype, "number") and values.size
    if is_real and np.all(ok(values)):
      return
  raise ValueError(f"{name} must be {rule}, got {shown(value)}")


def check_static_number(name: str, value) -> None:
  """Raises a ValueError unless `value` is one real number, never a tracer."""
  is_number = (
    not is_tracer(value)
    and _is_array_like(value)
    and np.ndim(value) == 0
    and _has_kind(np.asarray(value).dtype, "number")
  )
  if not is_number:
    raise ValueError(f"{name} must be a number, static, got {shown(value)}")


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
  if not isinstance(value, str) or value not in get_args(options):
    raise ValueError(
      f"{name} must be one of {get_args(options)}, got {value!r}"
    )


def _is_array(value) -> bool:
  """Whether JAX takes `value` for an array: texts and objects it does not."""
  if isinstance(value, (np.ndarray, np.generic)):
    return value.dtype.kind not in "OSUMm"
  return isinstance(value, jax.Array)


def _has_kind(dtype, kind: str) -> bool:
  if kind == "bool":
    return dtype == np.bool_
  if kind == "number":
    return _has_kind(dtype, "integer") or _has_kind(dtype, "floating")
  parent = jnp.integer if kind == "integer" else jnp.floating
  return jnp.issubdtype(dtype, parent)


def _is_array_like(value) -> bool:
  # Keys are arrays whose values numpy cannot read.
  numbers = (bool, int, float, complex, np.generic, np.ndarray)
  return isinstance(value, numbers) or (
    isinstance(value, jax.Array)
    and not jnp.issubdtype(value.dtype, jax.dtypes.extended)
  )
