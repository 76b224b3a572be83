"""Annotations are true: what a call took and gave back is held against them.

jaxtyping's import hook wraps every function of the library. A checker of
arguments alone would answer before the library's own errors do, and on trees
that jax rebuilds with placeholders. So only a call that came back is asked,
arguments and result at once: whatever the library let in, it has annotated.
"""

import functools
import importlib.machinery
import inspect
import sys
import typing

import beartype
import jaxtyping
import numpy as np
from beartype import roar
from flax.linen import linear
from jax import numpy as jnp

_CONF = beartype.BeartypeConf(is_pep484_tower=True)

# A field that ours inherit; beartype wants to ask what is one.
typing.runtime_checkable(linear.PromoteDtypeFn)


def accepted(function):
  """Checks what jaxtyping asks after a call, and nothing that it asks before.

  The question after a call has one argument more, ret0, for what the call gave
  back, and returns it. A constructor is not asked: jax builds trees of whatever
  it likes.
  """
  is_after = "ret0" in inspect.getfullargspec(function).kwonlyargs
  if not is_after or function.__name__ == "__init__":
    return function
  check = beartype.beartype(conf=_CONF)(function)

  @functools.wraps(function)
  def checked(*args, **kwargs):
    try:
      return check(*args, **kwargs)
    except roar.BeartypeCallHintViolation:
      # NumPy's arrays are taken wherever jax's are.
      args = [_as_jax(arg) for arg in args]
      kwargs = {name: _as_jax(arg) for name, arg in kwargs.items()}
      return check(*args, **kwargs)

  return checked


def _as_jax(value):
  return jnp.asarray(value) if isinstance(value, np.ndarray) else value


class _Kernels:
  """Finds the kernels' file as it is: Triton compiles the text of functions."""

  @staticmethod
  def find_spec(name, path=None, target=None):
    if name != "kdropout_jax.ops.kernels.triton_matmul":
      return None
    return importlib.machinery.PathFinder.find_spec(name, path, target)


def install():
  """Has every function of the library checked that is imported from now on."""
  jaxtyping.install_import_hook("kdropout_jax", "tests.shapes.accepted")
  sys.meta_path.insert(0, _Kernels)
