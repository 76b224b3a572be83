"""Says when nobody moves a retrofitted nnx model on to the next step."""

import os
import warnings
import weakref

import flax
import jax

from kdropout_jax import _checks

_LIBRARY = os.path.dirname(os.path.dirname(__file__))
NOT_THE_USERS = (_LIBRARY, *flax.__path__, *jax.__path__)
_HOW = (
  "Call kd.nnx.set_step (or kd.nnx.set_subnets) before each step; a dropout"
  " that one forward pass calls twice drops the same units twice"
)

# Arrays whose step a dropout has trained, by the ids of both; and whether
# anybody has ever set a step in this process.
_trained: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_ever_set = False


def tell(step, layer_key) -> None:
  """Warns at a dropout's second call with one step, once.

  Every `set_step` makes a new array, so a step is known by its array, not by
  its number: who sets the same number again knows what he does. In a compiled
  function an array tells nothing; there it is told where no step was ever set.

  Args:
    step: the array that holds the step, or the ids, of a dropout.
    layer_key: the array that holds its key.
  """
  if _checks.is_tracer(step):
    _tell_compiled()
    return
  calls = id(step), id(layer_key)
  if _trained.get(calls) is not step:
    _trained[calls] = step
    return
  if _trained.get((*calls, "told")) is not step:
    _trained[(*calls, "told")] = step
    _warn(f"a dropout trains the same subnets a second time. {_HOW}")


def was_set() -> None:
  """Remembers that somebody sets steps."""
  global _ever_set
  _ever_set = True


def _tell_compiled() -> None:
  if not _ever_set:
    was_set()  # Once is enough.
    _warn(
      "a retrofitted model is compiled, but its step was never set, so that"
      f" every call trains the same subnets. {_HOW}"
    )


def _warn(message: str) -> None:
  warnings.warn(message, skip_file_prefixes=NOT_THE_USERS)
