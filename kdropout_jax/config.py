"""Configuration of schedules: frozen, checked here once, and nowhere else.

A schedule says which subnets train at a step. `k` and `pool_size` are pytree
data, so that one program sweeps over them with `vmap`; the rest is static.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from kdropout_jax import _checks
from kdropout_jax import _pytrees
from kdropout_jax import _windows
from kdropout_jax import blocks
from kdropout_jax import custom
from kdropout_jax import patterns
from kdropout_jax._types import NumRows

__all__ = (
  "Gyro",
  "MaskConfig",
  "Pooled",
  "Sequential",
  "Standard",
)

_MAX_IDS = 2**32


@dataclasses.dataclass(frozen=True)
class Standard:
  """Train a fresh subnet for each example at each step (standard dropout).

  >>> Standard().num_subnets(num_steps=29_100, batch_size=512)
  14899200
  """

  def num_concurrent(self, batch_size: NumRows) -> NumRows:
    """Returns T, the number of subnets in one step.

    Args:
      batch_size: rows of a full batch.
    """
    _checks.check_rows("batch_size", batch_size)
    return batch_size

  def num_subnets(self, num_steps: int, batch_size: int) -> int:
    """Returns the number of subnets that a run trains.

    Args:
      num_steps: steps of the run.
      batch_size: rows of a full batch.

    Raises:
      ValueError: the run would need more than 2**32 ids.
    """
    _check_run(num_steps, batch_size)
    return _check_num_ids(num_steps * batch_size)


@dataclasses.dataclass(frozen=True)
class Sequential:
  """Train m fresh subnets for k steps, then the next m (sequential k-dropout).

  Bailey and Pauly, "K-Dropout", section 2.1.

  Args:
    k: steps a window; may be traced.
    m: subnets that train side by side.

  >>> Sequential(k=97, m=1).num_subnets(num_steps=29_100, batch_size=512)
  300
  """

  k: Any = 97
  m: int = 1

  def __post_init__(self):
    _checks.check_leaf("k", self.k)
    _checks.check_int32("m", self.m)

  def num_concurrent(self, batch_size: NumRows) -> NumRows:
    """Returns T, the number of subnets in one step.

    Args:
      batch_size: rows of a full batch.
    """
    _checks.check_rows("batch_size", batch_size)
    return self.m

  def num_subnets(self, num_steps: int, batch_size: int) -> int:
    """Returns the number of subnets that a run trains (table 1 of the paper).

    Args:
      num_steps: steps of the run.
      batch_size: rows of a full batch.

    Raises:
      ValueError: the run would need more than 2**32 ids.
    """
    _check_run(num_steps, batch_size)
    windows = -(-num_steps // _checks.concrete_int("k", self.k))
    _check_num_ids(windows * self.m)
    return windows * min(self.m, batch_size)


@dataclasses.dataclass(frozen=True)
class Pooled:
  """Draw m subnets of a pool at each step (pooled k-dropout).

  Bailey and Pauly, "K-Dropout", section 2.2. The pool is never stored: its
  subnets are rebuilt from their ids.

  Args:
    pool_size: subnets in the pool; may be traced.
    m: subnets drawn at each step.
    replacement: draw with replacement, as the paper does.
    per_layer: let each layer draw its own, which the paper rules out and the
      authors' code does by default.

  >>> Pooled(pool_size=50, m=8).num_subnets(num_steps=1000, batch_size=512)
  50
  """

  pool_size: Any = 50
  m: int = 8
  replacement: bool = True
  per_layer: bool = False

  def __post_init__(self):
    _checks.check_flag("per_layer", self.per_layer)
    _checks.check_leaf("pool_size", self.pool_size)
    _checks.check_int32("m", self.m)
    _checks.check_flag("replacement", self.replacement)
    if not self.replacement and _checks.is_concrete(self.pool_size):
      if np.any(np.asarray(self.pool_size) < self.m):
        raise ValueError(
          "m must be <= pool_size without replacement, got"
          f" m={self.m}, pool_size={self.pool_size}"
        )

  def num_concurrent(self, batch_size: NumRows) -> NumRows:
    """Returns T, the number of subnets in one step.

    Args:
      batch_size: rows of a full batch.
    """
    _checks.check_rows("batch_size", batch_size)
    return self.m

  def num_subnets(self, num_steps: int, batch_size: int) -> int:
    """Returns the most subnets of the pool that a run can train.

    How many it does train depends on the draw:
    `kdropout_jax.masks.diagnostics.realised_subnets` counts them.

    Args:
      num_steps: steps of the run.
      batch_size: rows of a full batch.
    """
    _check_run(num_steps, batch_size)
    pool_size = _checks.concrete_int("pool_size", self.pool_size)
    return min(pool_size, num_steps * min(self.m, batch_size))


Scheduling = Literal["consecutive", "random"]


@dataclasses.dataclass(frozen=True)
class Gyro:
  """Train `total` pre-selected subnets over the run, `concurrent` at a time.

  Lee et al., "Gyro Dropout", sections 3 and 4: W = ceil(total / concurrent)
  windows of consecutive steps, each with subnets of its own.

  Args:
    total: subnets over the whole run (Sigma in the paper).
    concurrent: subnets of one window (tau in the paper).
    num_steps: steps of the run, which the windows share out.
    scheduling: "consecutive", or "random": a fresh draw of the `total` at each
      step, without replacement within the step.
    rows_per_subnet: rows that a subnet takes of a batch (block-wise dropout:
      128). A step then trains ``clip(batch_size // rows_per_subnet, 1,
      concurrent)`` subnets of its window, in rotation (figure 3b).
    replacement: draw with replacement: the window's subnets once a window, as
      the authors' code does, or each step's with random scheduling.
    per_layer: let each layer draw its own, as the authors' code does.

  >>> Gyro(total=16, concurrent=4, num_steps=40).num_windows
  4
  """

  total: int = 1024
  concurrent: int = 8
  num_steps: int = dataclasses.field(kw_only=True)
  scheduling: Scheduling = "consecutive"
  rows_per_subnet: int | None = None
  replacement: bool = False
  per_layer: bool = False

  def __post_init__(self):
    _checks.check_flag("per_layer", self.per_layer)
    _checks.check_flag("replacement", self.replacement)
    _checks.check_int32("total", self.total)
    _checks.check_positive("concurrent", self.concurrent)
    if self.concurrent > self.total:
      raise ValueError(
        "concurrent must be <= total, got"
        f" concurrent={self.concurrent}, total={self.total}"
      )
    _checks.check_int32("num_steps", self.num_steps)
    _checks.check_option("scheduling", self.scheduling, Scheduling)
    if self.rows_per_subnet is not None:
      _checks.check_positive("rows_per_subnet", self.rows_per_subnet)

  @property
  def num_windows(self) -> int:
    """Number W of windows that share out the subnets."""
    return -(-self.total // self.concurrent)

  @property
  def window_steps(self) -> tuple[int, int]:
    """Steps q of a short window, and number r of windows with q + 1 steps."""
    return divmod(self.num_steps, self.num_windows)

  @property
  def last_window_subnets(self) -> int:
    """Distinct subnets of the last window: the rest of `total`."""
    return self.total - (self.num_windows - 1) * self.concurrent

  def num_concurrent(self, batch_size: int) -> int:
    """Returns T, the number of subnets in one step.

    Args:
      batch_size: rows of a full batch.
    """
    _checks.check_positive("batch_size", batch_size)
    if self.rows_per_subnet is None:
      return self.concurrent
    return min(max(batch_size // self.rows_per_subnet, 1), self.concurrent)

  def num_subnets(self, num_steps: int, batch_size: int) -> int:
    """Returns the number of subnets that a run really trains.

    It is `total` only where every window has enough steps, and the run goes
    through all of them. With random draws it is the most that can train.

    Args:
      num_steps: steps that are run; this schedule's own is the full run.
      batch_size: rows of a batch.
    """
    _check_run(num_steps, batch_size)
    rows = min(self.num_concurrent(batch_size), batch_size)
    if self.scheduling == "random":
      return min(self.total, num_steps * rows)
    if self.replacement:
      return min(self.total, self._count_windows(num_steps, batch_size))
    return self._count_windows(num_steps, batch_size)

  def _count_windows(self, num_steps: int, batch_size: int) -> int:
    lengths = list(
      _windows.window_lengths(self.num_steps, self.num_windows, num_steps)
    )
    subnets = [self.concurrent] * len(lengths)
    if len(lengths) == self.num_windows and not self.replacement:
      subnets[-1] = self.last_window_subnets
    num_slots = self.num_concurrent(batch_size)
    slots = np.unique(blocks.row_slots(batch_size, num_slots))
    if self.rows_per_subnet is None:  # no rotation: each step is the same
      lengths = [1] * len(lengths)
    return _windows.count_trained(lengths, subnets, num_slots, slots)


BuiltIn = Standard | Sequential | Pooled | Gyro
"""The schedules whose arithmetic stands in `masks/schedules.py`."""

Schedule = BuiltIn | custom.ScheduleProtocol
"""What the library takes as a schedule."""

_pytrees.register(Standard)
_pytrees.register(Sequential, data_fields=("k",))
_pytrees.register(Pooled, data_fields=("pool_size",))
_pytrees.register(Gyro)


@dataclasses.dataclass(frozen=True)
class MaskConfig:
  """All that `layer_masks` needs: schedule, pattern, widths and batch size.

  Args:
    schedule: which subnets train at a step.
    pattern: what a subnet looks like in a layer.
    widths: {layer name: units}; kept as a sorted tuple, so that the
      configuration is hashable.
    batch_size: rows of a full batch.

  >>> MaskConfig(Standard(), patterns.Bernoulli(), {"h": 8}, 4).widths
  (('h', 8),)
  """

  schedule: Schedule
  pattern: patterns.Pattern
  widths: Any
  batch_size: int

  def __post_init__(self):
    check_schedule(self.schedule)
    patterns.check_pattern(self.pattern)
    _checks.check_int32("batch_size", self.batch_size)
    widths = self.widths
    pairs = widths.items() if isinstance(widths, Mapping) else widths
    is_pairs = isinstance(widths, (Mapping, tuple, list))
    if not is_pairs or any(
      not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in pairs
    ):
      raise ValueError(
        f"widths must be {{layer name: units}}, got {_checks.shown(widths)}"
      )
    pairs = tuple(sorted((str(name), width) for name, width in pairs))
    if not pairs:
      raise ValueError("widths must name at least one layer, got none")
    for name, width in pairs:
      _checks.check_int32(f"widths[{name!r}]", width)
    object.__setattr__(self, "widths", pairs)


_pytrees.register(MaskConfig, data_fields=("schedule",))


def check_schedule(schedule) -> None:
  """Raises a ValueError unless `schedule` is a schedule.

  One of this module's, or a pytree that meets `custom.ScheduleProtocol`. A
  subclass that overrides a part of its base is refused, unless it says by a
  `subnet_ids` of its own what the ids are.
  """
  if type(schedule) in get_args(BuiltIn):
    return
  if custom.has_rule(schedule):
    custom.check_rule(schedule)
    return
  for base in get_args(BuiltIn):
    if isinstance(schedule, base):
      custom.check_overrides(schedule, base)
      custom.check_pytree(schedule)
      return
  raise ValueError(
    f"schedule must be Standard, Sequential, Pooled or Gyro, got {schedule!r};"
    " or a pytree of your own with the methods of kd.ScheduleProtocol, or a"
    " kd.CustomSchedule. The ids of a schedule with a state, such as kd.Guided,"
    " are given as subnets="
  )


def is_built_in(schedule) -> bool:
  """Returns whether a schedule's ids are this library's arithmetic."""
  return isinstance(schedule, BuiltIn) and not custom.has_rule(schedule)


def _check_run(num_steps: int, batch_size: int) -> None:
  _checks.check_positive("num_steps", num_steps)
  _checks.check_positive("batch_size", batch_size)


def _check_num_ids(num_ids: int) -> int:
  if num_ids > _MAX_IDS:
    raise ValueError(
      f"a run may use at most 2**32 subnet ids before they repeat, got"
      f" {num_ids}: shorten it, or let subnets train longer"
    )
  return num_ids
