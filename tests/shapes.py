"""The type checker that conftest.py hangs on every function of the library."""

import inspect

import beartype

# An int is a float to PEP 484, if to no isinstance.
_checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def accepted(function):
  """Checks annotations against what a call accepted and returned.

  jaxtyping asks twice: before a call, for its parameters, and after it, for
  parameters and result together. Only the second is answered. What a function
  refuses by an error of its own, as tests of bad arguments want, is never of
  the annotated type, and needs no check. Nor does a constructor: JAX puts
  anything into a tree's leaves while it maps over them.
  """
  names = inspect.signature(function).parameters
  is_second = any(n.startswith("ret") and n[3:].isdigit() for n in names)
  if function.__name__ == "__init__" or not is_second:
    return function
  return _checked(function)
