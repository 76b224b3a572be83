"""Patterns: what one subnet's mask looks like inside a layer.

A pattern is the sampling function r of the k-dropout paper (section 2) with
its settings; it is static, so it may be closed over, hashed and compared.
`rate` is always the probability of DROPPING, as in Flax and PyTorch.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Bool

from kdropout_jax import _checks
from kdropout_jax import _designs
from kdropout_jax import blocks
from kdropout_jax._types import Key

__all__ = (
  "Bernoulli",
  "Blocks",
  "CustomPattern",
  "ExactCount",
  "Gaussian",
)


@dataclasses.dataclass(frozen=True)
class Bernoulli:
  """Drop every unit by itself with probability `rate` (Srivastava et al. 2014).

  Args:
    rate: probability that a unit is dropped, in [0, 1].

  >>> Bernoulli(0.5).num_kept(2048) is None
  True
  """

  rate: float = 0.5

  block_size = 1

  def __post_init__(self):
    _set_rate(self)

  def num_kept(self, width: int) -> int | None:
    """Returns None: the number of kept units varies from mask to mask.

    Args:
      width: units of the layer.
    """
    del width


@dataclasses.dataclass(frozen=True)
class ExactCount:
  """Keep the same number of units, chosen uniformly, in every mask.

  ``max(1, floor((1 - rate) * width + .5))`` units are kept when rate < 1.

  With `partition` or `balanced` ids come in groups that share one random order
  of the units; one mask alone has the law of the others (each unit is kept
  with probability 1 - rate), but masks of a group avoid each other, as strata
  do. Where parts cannot be equal, they differ by one unit, which of them is
  drawn, too; masks have no `num_kept` then, and are scaled by 1 - rate.

  Args:
    rate: share of the units that is dropped, in [0, 1]; 1 - 1/P for an integer
      P >= 2 with the next two.
    partition: ids i with the same ``i // P`` cut the units into P parts; i % P
      says which part a mask keeps (independent subnet training, Yuan et al.,
      arXiv:1910.02120).
    balanced: T, a multiple of P: ids with the same ``i // T`` keep fixed unions
      of parts, so that each unit is kept by exactly (1 - rate) T of the T. They
      lie in classes of P ids, which partition the units.

  Groups are whole where a step trains consecutive ids from a multiple of P (T)
  on: `Sequential` with m, consecutive `Gyro` with `concurrent` and `Standard`
  with a batch size that P (T) divides. `Pooled` and random `Gyro` draw ids one
  by one: every mask has its law, no step need train every unit.

  >>> ExactCount(0.5).num_kept(5)
  3
  >>> ExactCount(0.75, partition=True).num_kept(16)
  4
  """

  rate: float = 0.5
  partition: bool = False
  balanced: int | None = None

  block_size = 1

  def __post_init__(self):
    _set_rate(self)
    _designs.make(self.rate, self.partition, self.balanced)

  @property
  def design(self) -> _designs.Design | None:
    """Which parts the subnets of a group keep, None where ids are free."""
    return _designs.make(self.rate, self.partition, self.balanced)

  def num_kept(self, width: int) -> int | None:
    """Returns the number of units that every mask of `width` keeps.

    None where the parts of a group differ by one.

    Args:
      width: units of the layer.
    """
    if self.design is not None:
      return self.design.num_kept(width)
    return _exact_count(self.rate, width)


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Drop blocks of adjacent units together (block-wise gyro dropout).

  Lee et al., "Gyro Dropout", section 4. The paper does not say whether the
  number of dropped blocks is fixed; by default it is.

  Args:
    rate: share of the blocks that is dropped, in [0, 1].
    block_size: units a block.
    exact: keep the same number of blocks in every mask; otherwise each block
      is dropped by itself with probability `rate`.
    partition: as for `ExactCount`, of blocks.
    balanced: as for `ExactCount`, of blocks.

  >>> Blocks(0.5, block_size=32).num_kept(1024)
  16
  """

  rate: float = 0.5
  block_size: int = 32
  exact: bool = True
  partition: bool = False
  balanced: int | None = None

  def __post_init__(self):
    _set_rate(self)
    _checks.check_positive("block_size", self.block_size)
    _checks.check_flag("exact", self.exact)
    if self.design is not None and not self.exact:
      raise ValueError(
        "exact must be True with partition or balanced, whose counts are, got"
        f" {self.exact}"
      )

  @property
  def design(self) -> _designs.Design | None:
    """Which parts the subnets of a group keep, None where ids are free."""
    return _designs.make(self.rate, self.partition, self.balanced)

  def num_kept(self, width: int) -> int | None:
    """Returns the number of blocks that every mask keeps, None if it varies.

    Args:
      width: units of the layer.
    """
    if not self.exact:
      return None
    if self.design is not None:
      return self.design.num_kept(blocks.num_blocks(width, self.block_size))
    return _exact_count(self.rate, blocks.num_blocks(width, self.block_size))


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """Multiply every unit by noise of mean 1 (Srivastava et al. 2014, 10).

  N(1, rate / (1 - rate)): of the variance that `Bernoulli` has after its
  rescaling. It drops nothing, so there are no masks: `kd.subnet_noise` draws
  what a subnet multiplies by, under any schedule.

  Args:
    rate: of the dropout whose variance it has, in [0, 1).

  >>> Gaussian(0.5).variance
  1.0
  """

  rate: float = 0.5

  block_size = 1

  def __post_init__(self):
    _set_rate(self)
    if self.rate == 1.0:
      raise ValueError(
        "rate must be < 1 for Gaussian noise, whose variance is rate / (1 -"
        f" rate), got {self.rate}"
      )

  @property
  def variance(self) -> float:
    """Variance of the noise."""
    return self.rate / (1.0 - self.rate)

  def num_kept(self, width: int) -> int | None:
    """Returns None: no unit is dropped.

    Args:
      width: units of the layer.
    """
    del width


@dataclasses.dataclass(frozen=True)
class CustomPattern:
  """Sample masks with a function of the user's own.

  Args:
    fn: ``fn(key, width) -> bool [width]``, jit-friendly; hashable, so give a
      module-level function rather than a fresh lambda.
    rate: probability with which `fn` drops a unit, in [0, 1]; used for scaling.
    num_kept: units that every mask of `fn` keeps: an integer, or a function of
      the width; None where the count varies. With it scaling is by what is
      kept, and small networks and the compact product have their static sizes.
      `fn` is held to it where masks of a width are first sampled, compiled or
      not: by its values for eight keys, and by its shape always.

  >>> import jax.numpy as jnp
  >>> first = lambda key, width: jnp.arange(width) < width // 2
  >>> CustomPattern(first, 0.5, num_kept=lambda width: width // 2).num_kept(6)
  3
  """

  fn: Callable[[Key, int], Bool[Array, "W"]]
  rate: float
  num_kept: Any = None  # Called with a width, as the other patterns' method.

  block_size = 1

  def __post_init__(self):
    _set_rate(self)
    _checks.check_function("fn", self.fn)
    if not isinstance(self.num_kept, _Count):
      object.__setattr__(self, "num_kept", _Count(self.num_kept))


@dataclasses.dataclass(frozen=True)
class _Count:
  """How many units a user's function keeps, as a function of the width."""

  value: int | Callable[[int], int] | None

  def __post_init__(self):
    if callable(self.value):
      _checks.check_function("num_kept", self.value)
    elif self.value is not None:
      _checks.check_integer("num_kept", self.value, 0)

  def __call__(self, width: int) -> int | None:
    """Returns the count in masks of `width`, or None where it varies."""
    count = self.value(width) if callable(self.value) else self.value
    if count is None:
      return None
    _checks.check_integer("num_kept", count, 0)
    if count > width:
      raise ValueError(f"num_kept must be <= width, got {count} of {width}")
    return int(count)


Pattern = Bernoulli | ExactCount | Blocks | Gaussian | CustomPattern


def check_rate(rate) -> float:
  """Returns `rate` as a float, or raises a ValueError that names the rule."""
  _checks.check_static_number("rate", rate)
  rate = float(rate)
  if not 0.0 <= rate <= 1.0:  # also refuses NaN
    raise ValueError(f"rate must be in [0, 1], got {rate}")
  return rate


def check_pattern(pattern) -> None:
  """Raises a ValueError unless `pattern` is one of this module's."""
  if not isinstance(pattern, Pattern):
    raise ValueError(
      "pattern must be Bernoulli, ExactCount, Blocks, Gaussian or"
      f" CustomPattern, got {pattern!r}"
    )


def _set_rate(pattern) -> None:
  object.__setattr__(pattern, "rate", check_rate(pattern.rate))


def _exact_count(rate: float, count: int) -> int:
  if rate == 1.0:
    return 0
  return max(1, math.floor((1.0 - rate) * count + 0.5))
