"""Annotations are true: what a call took and gave back is held against them.

jaxtyping's import hook marks every function of the library; what it marks them
with is ours, because its own wrapper binds each call to its signature and has
all annotations asked, twice, which cost a sixth of the suite's time. Ours
leaves a function alone that names no array, and asks the arrays of the others.

A check of arguments before the call would answer before the library's own
errors do. So only a call that came back is asked, arguments and result at once:
whatever the library let in, it has annotated.
"""

import functools
import importlib.machinery
import sys
import types
import typing

import beartype
import jaxtyping
import numpy as np
from beartype import door
from jax import numpy as jnp

_CONF = beartype.BeartypeConf(is_pep484_tower=True)
_context = jaxtyping.jaxtyped("context")
# What a nested function names is found out once, not at each definition.
_hints_of: dict[types.CodeType, dict[str, object]] = {}
# Nor is what was true of these types, dtypes and shapes asked again.
_met: dict[types.CodeType, set] = {}


def install():
  """Has every function of the library checked that is imported from now on."""
  jaxtyping.jaxtyped = checked  # What the hook writes above every function.
  jaxtyping.install_import_hook("kdropout_jax", None)
  sys.meta_path.insert(0, _Kernels)


def checked(function=None, *, typechecker=None):
  """Returns the function with a check of the arrays that it names, if any."""
  del typechecker
  if function is None:
    return checked
  # A constructor is not asked: jax builds trees of whatever it likes.
  if isinstance(function, type) or function.__name__ == "__init__":
    return function
  if (hints := _hints_of.get(function.__code__)) is None:
    hints = _hints_of[function.__code__] = _array_hints(function)
  if not hints:
    return function
  code = function.__code__
  names = code.co_varnames[: code.co_argcount]
  met = _met.setdefault(code, set())

  @functools.wraps(function)
  def asked(*args, **kwargs):
    result = function(*args, **kwargs)
    given = {**dict(zip(names, args, strict=False)), **kwargs, "return": result}
    kinds = tuple([_kind(given.get(name)) for name in hints])
    if kinds in met:
      return result
    with _context:
      for name, hint in hints.items():
        if name in given and not _meets(given[name], hint):
          raise jaxtyping.TypeCheckError(
            f"{function.__module__}.{function.__qualname__}: {name} is no {hint}"
            f" in a call with {_shapes(given)}"
          )
    met.add(kinds)
    return result

  return asked


def _kind(value):
  """Returns all that a check looks at, as something to look up."""
  if isinstance(value, list | tuple):
    return type(value), *map(_kind, value)
  if isinstance(value, dict):
    return type(value), *map(_kind, value.items())
  shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
  return type(value), shape, dtype


def _array_hints(function):
  """Returns {argument or "return": hint} of those that name an array's shape."""
  hints = function.__annotations__
  if "return" not in hints:  # tests/shapes_test.py allows none with arrays.
    return {}
  return {name: hint for name, hint in hints.items() if _names_array(hint)}


def _names_array(hint):
  if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
    return True
  return any(_names_array(part) for part in typing.get_args(hint))


def _meets(value, hint: typing.Any):
  if _is_instance(value, hint):
    return True
  if door.is_bearable(value, hint, conf=_CONF):
    return True
  # NumPy's arrays are taken wherever jax's are.
  is_numpy = isinstance(value, np.ndarray)
  return is_numpy and door.is_bearable(jnp.asarray(value), hint, conf=_CONF)


def _is_instance(value, hint):
  try:
    return isinstance(value, hint)
  except TypeError:  # A hint of what a container holds is no class.
    return False


def _shapes(given):
  """Returns what an error says of a call: arrays by dtype and shape."""
  said = {
    name: f"{value.dtype}{list(value.shape)}"
    for name, value in given.items()
    if hasattr(value, "shape") and hasattr(value, "dtype")
  }
  return {name: said.get(name, type(given[name]).__name__) for name in given}


class _Kernels:
  """Finds the kernels' file as it is: Triton compiles the text of functions."""

  @staticmethod
  def find_spec(name, path=None, target=None):
    if name != "kdropout_jax.ops.kernels.triton_matmul":
      return None
    return importlib.machinery.PathFinder.find_spec(name, path, target)
