"""Whether a function is being compiled around us, and what follows from it.

A step that is a plain number inside such a function would be compiled in, and
its masks would stay. A part of a model that was compiled before would be run
as it is, and its dropouts not be seen.
"""

import contextlib

import jax
import numpy as np

from kdropout_jax import _checks

# What a cache of `jax.jit` tells apart: other values, other programs.
_make = getattr(jax, "make_user_context", None)  # Not in every version.
_CONTEXT = None if _make is None else _make(None)
_EAGER = "kdropout_jax: eager"


def is_staged() -> bool:
  """Returns whether operations are recorded here, not run.

  True under `jit`, `scan`, `remat` and the like; not under an eager `vmap` or
  `grad`, which compile nothing in.
  """
  zero = np.float32(0)
  return _checks.is_tracer(jax.lax.add(zero, zero))


def check_step(step, how: str, name: str = "step") -> None:
  """Raises a ValueError where masks would be baked into a compiled function.

  Args:
    step: the number of the step, or the ids of its subnets.
    how: how to pass it in, a sentence.
    name: the argument's.
  """
  if _checks.is_concrete(step) and is_staged():
    raise ValueError(
      f"{name} must be traced where the model's inputs are, got {step}: under"
      f" jit the masks of this one step would be compiled in and stay. {how}"
    )


def retracing(step):
  """Returns a context in which functions that were compiled before are traced.

  So a dropout inside them is seen. What is traced in it for a traced step
  serves no other context, as it holds that very step.
  """
  if _CONTEXT is None:
    return contextlib.nullcontext()
  is_fixed = _checks.is_concrete(step) and not is_staged()
  return _CONTEXT(_EAGER if is_fixed else object())
