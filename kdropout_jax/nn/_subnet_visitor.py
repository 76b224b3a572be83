"""Who is called in place of dropouts: set by `kd.subnets`, asked by modules."""

import contextvars
from collections.abc import Callable
from typing import Any

from kdropout_jax._types import UnsupportedError

VISITOR: contextvars.ContextVar[Callable[..., Any] | None] = (
  contextvars.ContextVar("visitor", default=None)
)


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
