"""Schedules of a user's own: what they must be able to say, and short forms.

A schedule says which subnets train at a step. Any pytree with the two methods
of `ScheduleProtocol` is one, everywhere that the library takes a schedule.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Integer, UInt

from kdropout_jax import _checks
from kdropout_jax import _pytrees
from kdropout_jax._types import Ids
from kdropout_jax._types import Key

__all__ = (
  "CustomSchedule",
  "ScheduleProtocol",
)


@runtime_checkable
class ScheduleProtocol(Protocol):
  """What a schedule of one's own must have; `kd.testing` runs its laws.

  It is a pytree, too: numbers that a program may sweep over are its leaves,
  all else is static and hashable (`jax.tree_util.register_dataclass`, or
  `register_static` where nothing is to be swept). It may have a field
  `per_layer`: where that is True each layer draws its own, by its `layer`.
  Within it, `kd.subnet_ids` gives the ids of another schedule.

  >>> import kdropout_jax as kd
  >>> isinstance(kd.CustomSchedule(lambda step, key: step[None], 1),
  ...            kd.ScheduleProtocol)
  True
  """

  def subnet_ids(
    self, step: UInt[Array, ""], key: Key, batch_size: int, layer: Any
  ) -> Ids:
    """Returns the ids of the subnets that train at `step`.

    Args:
      step: uint32, from 0; traced in a compiled function.
      key: the run-long key, the same at every step: fold the step into it for
        a draw of this step.
      batch_size: rows of a full batch, static.
      layer: number of the layer where `per_layer` is True, else None.

    Returns:
      Integers [T], T = ``num_concurrent(batch_size)``: the same T at all
      steps. Equal ids are equal subnets, whenever they train.
    """
    ...

  def num_concurrent(self, batch_size: int) -> int:
    """Returns T, the number of subnets in one step, static.

    Args:
      batch_size: rows of a full batch.
    """
    ...


@dataclasses.dataclass(frozen=True)
class CustomSchedule:
  """Choose subnets with a function of the user's own.

  Where T depends on the batch, or numbers are to be swept over, write a class
  with the methods of `ScheduleProtocol` instead.

  Args:
    fn: ``fn(step, key) -> integers [concurrent]``, jit-friendly, of a uint32
      step and the run-long key, with the layer folded in if `per_layer`;
      hashable, so give a module-level function rather than a fresh lambda.
    concurrent: subnets T of one step.
    per_layer: let each layer draw its own.

  Raises:
    ValueError: a wrong setting.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> halves = kd.CustomSchedule(lambda step, key: step // 2 + jnp.arange(2), 2)
  >>> kd.subnet_ids(5, jax.random.key(0), halves, batch_size=8).tolist()
  [2, 3]
  """

  fn: Callable[[UInt[Array, ""], Key], Integer[Array, "T"]]
  concurrent: int
  per_layer: bool = False

  def __post_init__(self):
    _checks.check_function("fn", self.fn)
    _checks.check_positive("concurrent", self.concurrent)

  def subnet_ids(
    self, step: UInt[Array, ""], key: Key, batch_size: int, layer: Any
  ) -> Any:
    """Returns what `fn` returns, for the key of the network or the layer.

    Args:
      step: uint32, from 0.
      key: the run-long key.
      batch_size: rows of a full batch; `fn` does not ask.
      layer: number of the layer where `per_layer` is True, else None.
    """
    del batch_size
    return self.fn(
      step, key if layer is None else jax.random.fold_in(key, layer)
    )

  def num_concurrent(self, batch_size: int) -> int:
    """Returns T, the number of subnets in one step.

    Args:
      batch_size: rows of a full batch.
    """
    _checks.check_positive("batch_size", batch_size)
    return self.concurrent


@dataclasses.dataclass(frozen=True, eq=False)
class GivenSubnets:
  """The ids of one step, as a schedule: what ``subnets=`` is made into.

  Attributes:
    ids: integers [T], whatever the step.
  """

  ids: Ids

  def subnet_ids(self, step: Any, key: Key, batch_size: int, layer: Any) -> Ids:
    """Returns the ids.

    Args:
      step: any.
      key: any.
      batch_size: any.
      layer: any.
    """
    del step, key, batch_size, layer
    return self.ids

  def num_concurrent(self, batch_size: int) -> int:
    """Returns T, the number of subnets in one step.

    Args:
      batch_size: rows of a full batch.
    """
    del batch_size
    return self.ids.shape[0]


_pytrees.register(CustomSchedule)
_pytrees.register(GivenSubnets, data_fields=("ids",))


def has_rule(schedule: Any) -> bool:
  """Returns whether a schedule brings its own `subnet_ids`."""
  return not isinstance(schedule, type) and callable(
    getattr(schedule, "subnet_ids", None)
  )


def is_per_layer(schedule: Any) -> bool:
  """Returns whether each layer draws its own subnets."""
  return bool(getattr(schedule, "per_layer", False))


def check_rule(schedule: Any) -> None:
  """Raises a ValueError unless a schedule with a rule of its own is whole."""
  if not callable(getattr(schedule, "num_concurrent", None)):
    raise ValueError(
      "schedule must have num_concurrent(batch_size) beside subnet_ids, got"
      f" {schedule!r}"
    )
  check_pytree(schedule)


def check_pytree(schedule: Any) -> None:
  """Raises a ValueError for a schedule that JAX would take for a leaf."""
  if jax.tree_util.all_leaves([schedule]):
    raise ValueError(
      f"schedule must be a pytree, got {schedule!r}: register its class by"
      " jax.tree_util.register_dataclass, or register_static"
    )


def check_overrides(schedule: Any, base: type) -> None:
  """Raises a ValueError where a subclass changes what is not asked for.

  Args:
    schedule: of a subclass of `base`, without a `subnet_ids` of its own.
    base: a schedule of this library.
  """
  used = {n for n in vars(base) if not n.startswith("_")} - {"num_subnets"}
  used -= {field.name for field in dataclasses.fields(base)}
  for cls in type(schedule).__mro__:
    if cls is base:
      break
    changed = sorted(used & set(vars(cls)))
    if changed:
      raise ValueError(
        f"schedule must define subnet_ids where it overrides {changed[0]}, got"
        f" {type(schedule).__name__}: the ids of kd.{base.__name__} would"
        " ignore it"
      )


def own_ids(
  schedule: Any, step: UInt[Array, ""], key: Key, batch_size: int, layer: Any
) -> Ids:
  """Returns the ids of a schedule with a rule of its own, checked, uint32."""
  count = schedule.num_concurrent(batch_size)
  _checks.check_positive("num_concurrent", count)
  if not is_per_layer(schedule):
    layer = None
  elif layer is None:
    raise needs_layer()
  ids = jax.numpy.asarray(schedule.subnet_ids(step, key, batch_size, layer))
  is_integer = jax.numpy.issubdtype(ids.dtype, np.integer)
  if not is_integer or ids.shape != (count,):
    raise ValueError(
      f"subnet_ids of {type(schedule).__name__} must return integers [{count}],"
      f" as num_concurrent says, got {ids.dtype} {list(ids.shape)}"
    )
  return ids.astype(np.uint32)


def needs_layer() -> ValueError:
  """Returns the error of a per-layer draw that was given no layer."""
  return ValueError(
    "layer must be given where the schedule has per_layer=True: each"
    " layer draws its own subnets"
  )
