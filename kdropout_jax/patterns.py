"""Patterns: what one subnet's mask looks like inside a layer.

A pattern is the sampling function r of the k-dropout paper (section 2) with
its settings; it is static, so it may be closed over, hashed and compared.
`rate` is always the probability of DROPPING, as in Flax and PyTorch.
"""

import dataclasses
import math
from collections.abc import Callable

from jaxtyping import Array, Bool

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax._types import Key


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
    """Returns None: the number of kept units varies from mask to mask."""
    del width


@dataclasses.dataclass(frozen=True)
class ExactCount:
  """Keep the same number of units, chosen uniformly, in every mask.

  ``max(1, floor((1 - rate) * width + .5))`` units are kept when rate < 1.

  Args:
    rate: share of the units that is dropped, in [0, 1].

  >>> ExactCount(0.5).num_kept(5)
  3
  """

  rate: float = 0.5

  block_size = 1

  def __post_init__(self):
    _set_rate(self)

  def num_kept(self, width: int) -> int | None:
    """Returns the number of units that every mask of `width` keeps."""
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

  >>> Blocks(0.5, block_size=32).num_kept(1024)
  16
  """

  rate: float = 0.5
  block_size: int = 32
  exact: bool = True

  def __post_init__(self):
    _set_rate(self)
    _checks.check_positive("block_size", self.block_size)

  def num_kept(self, width: int) -> int | None:
    """Returns the number of blocks that every mask keeps, None if it varies."""
    if not self.exact:
      return None
    return _exact_count(self.rate, blocks.num_blocks(width, self.block_size))


@dataclasses.dataclass(frozen=True)
class CustomPattern:
  """Sample masks with a function of the user's own.

  Args:
    fn: ``fn(key, width) -> bool [width]``, jit-friendly; hashable, so give a
      module-level function rather than a fresh lambda.
    rate: probability with which `fn` drops a unit, in [0, 1]; used for scaling.
  """

  fn: Callable[[Key, int], Bool[Array, "W"]]
  rate: float

  block_size = 1

  def __post_init__(self):
    _set_rate(self)
    if not callable(self.fn):
      raise ValueError(f"fn must be callable, got {self.fn!r}")
    try:
      hash(self.fn)
    except TypeError:
      raise ValueError(f"fn must be hashable, got {self.fn!r}") from None

  def num_kept(self, width: int) -> int | None:
    """Returns None: nothing is known about the user's function."""
    del width


Pattern = Bernoulli | ExactCount | Blocks | CustomPattern


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
      "pattern must be Bernoulli, ExactCount, Blocks or CustomPattern, got"
      f" {pattern!r}"
    )


def _set_rate(pattern) -> None:
  object.__setattr__(pattern, "rate", check_rate(pattern.rate))


def _exact_count(rate: float, count: int) -> int:
  if rate == 1.0:
    return 0
  return max(1, math.floor((1.0 - rate) * count + 0.5))
