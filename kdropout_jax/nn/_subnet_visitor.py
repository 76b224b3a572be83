"""Who is called in place of dropouts: set by `kd.subnets`, asked by modules."""

import contextvars
import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Bool

from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax._types import UnsupportedError
from kdropout_jax.nn import _dropout_rules


@dataclasses.dataclass(frozen=True)
class Visited:
  """A dropout as it was met in a forward pass.

  Attributes:
    width: units of the last axis of its input.
    rule: how it drops, for inputs like these.
    deterministic: whether it was told to drop nothing.
    draw: returns the masks that it would apply, None where it would draw
      fresh units.
  """

  width: int
  rule: _dropout_rules.DropoutRule
  deterministic: bool
  draw: Callable[[], blocks.Masks | None]

  def apply(
    self, x: Array, masks: blocks.Masks, keep: Bool[Array, "..."]
  ) -> Array:
    """Applies `keep`, bool [W] or [N], and the scale of training."""
    return functional.select_and_scale(
      x, keep, masks, self.rule.rate, self.rule.rescale
    )


Visit = Callable[[str, Visited, Any], Any]
"""(layer, dropout, inputs) -> outputs, in place of a Dropout's call."""

VISITOR: contextvars.ContextVar[Visit | None] = contextvars.ContextVar(
  "visitor", default=None
)


def visitor_of(module: Any) -> Visit | None:
  """Returns who answers an nnx module's call, if it has a name for him."""
  return VISITOR.get() if module.visited_as else None


def refuse(what: str) -> None:
  """Raises an UnsupportedError where a small network runs, or its masks.

  Args:
    what: answers dropouts itself, so that a visitor would not see them.
  """
  if VISITOR.get() is not None:
    raise UnsupportedError(
      f"{what} answers a model's dropouts itself, so that kd.subnets cannot:"
      " windows need kd.linen.Dropout with subnets=ids. To evaluate a subnet,"
      " rebuild its masks by kd.linen.layer_keys and kd.subnet_masks, and run"
      " the model by its own apply"
    )
