"""Which values are zero wherever a layer drops a unit.

A sum over units is that of the kept ones alone only where dropped ones are
zero: behind a ReLU they stay so, behind a sigmoid they do not.
"""

from typing import Any

import numpy as np

from kdropout_jax.subnets.structure import programs

__all__ = ()

EVERYWHERE = None  # zero at all units, of any layer


def zeros(
  program: programs.Program, labels: dict[tuple[int, int], str]
) -> dict[int, frozenset[str] | None]:
  """Returns {place: layers at whose dropped units the value is zero}.

  Args:
    program: a flat program.
    labels: {(place, axis): layer} of axes that hold a layer's units.
  """
  found: dict[int, frozenset[str] | None] = {}
  own = {}
  for (place, _), layer in labels.items():
    own.setdefault(place, set()).add(layer)

  def of(operand) -> frozenset[str] | None:
    if isinstance(operand, programs.Constant):
      return EVERYWHERE if np.all(operand.value == 0) else frozenset()
    return found.get(operand, frozenset())

  for op in program.operations:
    inputs = [of(operand) for operand in op.operands]
    result = _result(op, inputs)
    for place in op.results:
      if result is EVERYWHERE:
        found[place] = EVERYWHERE
      else:  # an axis that is gone says nothing any more
        found[place] = frozenset(result & own.get(place, set()))
  return found


def _result(op: programs.Operation, inputs: list[Any]):
  if op.name == programs.SITE.name:
    (x,) = inputs
    return x if x is EVERYWHERE else x | {op.params["layer"]}
  if op.name in _KEEP or (op.name == "integer_pow" and op.params["y"] > 0):
    return inputs[0]
  if op.name in _ANY:
    return _any(inputs)
  if op.name in _ALL:
    return _all(inputs)
  if op.name == "select_n":
    return _all(inputs[1:])
  return frozenset()


def _any(inputs):
  if any(x is EVERYWHERE for x in inputs):
    return EVERYWHERE
  return frozenset().union(*inputs)


def _all(inputs):
  known = [x for x in inputs if x is not EVERYWHERE]
  return frozenset.intersection(*known) if known else EVERYWHERE


_KEEP = frozenset(
  """
  abs asin asinh atan atanh broadcast_in_dim cbrt ceil convert_element_type copy
  copy_p div erf erf_inv expm1 floor log1p neg reduce_max reduce_min
  reduce_precision reduce_sum reduce_window_max reduce_window_min
  reduce_window_sum reshape round sign sin sinh slice sqrt square squeeze
  stop_gradient tan tanh transpose
  """.split()
)
_ANY = frozenset(("mul", "dot_general", "conv_general_dilated"))
_ALL = frozenset(("add", "add_any", "sub", "max", "min", "concatenate", "pad"))
