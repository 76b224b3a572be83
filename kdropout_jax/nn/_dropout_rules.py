"""What a dropout does once it has a key; shared by linen and nnx.

Their modules differ only in where a key comes from, so everything else, the
rule by which one place of a network drops units, stands here.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _shardings
from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import NumRows
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import sampling
from kdropout_jax.nn import _streams

PatternLike = patterns.Pattern | Callable[..., patterns.Pattern]
"""A pattern, or a function of a layer's rate, or of its rate and its path."""


@dataclasses.dataclass(frozen=True)
class DropoutRule:
  """How one dropout drops: its settings, checked.

  Attributes:
    pattern: what a mask looks like; its rate is the rule's rate.
    broadcast_dims: axes of the input that share one mask, as in Flax.
    rescale: as for `kd.dropout`.
    row_layout: as for `kd.dropout`.
    batch_size: rows of a full batch; None means the rows at hand.
  """

  pattern: patterns.Pattern
  broadcast_dims: tuple[int, ...] = ()
  rescale: functional.Rescale = "expected"
  row_layout: functional.RowLayout = "contiguous"
  batch_size: NumRows | None = None

  def __post_init__(self):
    patterns.check_pattern(self.pattern)
    _checks.check_option("rescale", self.rescale, functional.Rescale)
    _checks.check_option("row_layout", self.row_layout, functional.RowLayout)
    if self.batch_size is not None:
      _checks.check_rows("batch_size", self.batch_size)
    if self.is_noise and self.rescale != "expected":
      raise ValueError(
        "rescale must be 'expected' with kd.Gaussian, whose noise has mean 1,"
        f" got {self.rescale!r}"
      )

  @property
  def rate(self) -> float:
    """Probability with which a unit is dropped."""
    return self.pattern.rate

  @property
  def is_noise(self) -> bool:
    """Whether units are multiplied by noise, and none is dropped."""
    return isinstance(self.pattern, patterns.Gaussian)

  def broadcast(self, dims: tuple[int, ...]) -> "DropoutRule":
    """Returns this rule with other `broadcast_dims`."""
    return dataclasses.replace(self, broadcast_dims=dims)

  def run(
    self,
    x: Float[Array, "..."],
    deterministic: bool,
    step_key: Callable[[], Key],
    run_key: Callable[[], Key],
    *,
    subnets: Ids | blocks.Masks | None = None,
    masks: functional.MasksLike | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "..."]:
    """Runs a module's call; a key is asked for only where it is needed.

    Args:
      x: the module's inputs.
      deterministic: whether nothing is dropped.
      step_key: gives the key of this call, for conventional dropout.
      run_key: gives the layer's run-long key, for the masks of `subnets`.
      subnets: ids [T] of the subnets that train, or their masks, sampled
        before; None: conventional dropout.
      masks: masks in place of sampled ones.
      assignment: int32 [B] of slots in [0, T).
    """
    subnets, masks = _streams.source(subnets, masks, assignment)
    if subnets is not None or masks is not None:
      x = functional.check_inputs(x)
    if deterministic or self.rate in (0.0, 1.0):
      return self.without_masks(x, deterministic)
    if masks is not None:
      if self.is_noise:
        raise UnsupportedError(
          "kd.Gaussian multiplies by noise and has no masks: give subnets=ids"
        )
      return self.apply(x, masks, assignment)
    if subnets is None:
      return self.draw_and_apply(x, step_key())
    ids = _streams.check_subnets(subnets)
    if 0 in x.shape:
      return x
    if self.is_noise:
      noise = self._noise(x, run_key(), ids)
      return self._multiply(x, noise, assignment)
    return self.apply(x, self.sample(x, run_key(), ids), assignment)

  def without_masks(
    self, x: Float[Array, "..."], deterministic: bool
  ) -> Float[Array, "..."]:
    """Returns the output at rate 0 or 1, or where nothing is dropped.

    Gradients are finite at rate 1, too: zero.
    """
    if deterministic and self.rescale == "at_test":
      return x * (1.0 - self.rate)
    if deterministic or self.rate == 0.0:
      return x
    return jnp.zeros_like(x)

  def draw_and_apply(
    self, x: Float[Array, "..."], key: Key
  ) -> Float[Array, "..."]:
    """Conventional dropout: a fresh mask from a key of this call alone.

    Bernoulli masks are those of Flax's own module, bit for bit. The other
    patterns draw one mask a row, over the last axis.
    """
    if not jnp.issubdtype(jnp.result_type(x), jnp.inexact):
      raise ValueError(f"inputs must be floating point, got {x.dtype}")
    if 0 in x.shape:
      return x
    if isinstance(self.pattern, patterns.Bernoulli):
      keep_prob = 1.0 - self.rate
      keep = jax.random.bernoulli(key, keep_prob, self._mask_shape(x))
      return functional.scale_and_select(
        x, keep, self.rescale, keep_prob, lambda: keep
      )
    x = functional.check_inputs(x)
    rows = jnp.arange(x.shape[0], dtype=jnp.uint32)
    if self.is_noise:
      noise = self._noise(x, key, rows)
      return dataclasses.replace(self, batch_size=None)._multiply(x, noise)
    masks = self.sample(x, key, rows)
    return dataclasses.replace(self, batch_size=None).apply(x, masks)

  def sample(
    self, x: Float[Array, "B ... W"], layer_key: Key, ids: Ids
  ) -> blocks.Masks:
    """Samples the masks of the subnets `ids` for inputs like `x`.

    Bernoulli masks cover every non-batch element that `broadcast_dims` leaves
    apart; other patterns cover the last axis, one mask for all positions.
    """
    x = functional.check_inputs(x)
    shape, pattern = self._mask_shape(x), self.pattern
    if math.prod(shape[1:]) == 1:
      # Stochastic depth: a row has one flag, of which no share is exact.
      pattern = patterns.Bernoulli(self.rate)
    if isinstance(pattern, patterns.Bernoulli):
      self._check_rows_apart(x, ids)
      width = math.prod(shape[1:])
    else:
      if x.ndim - 1 in self._dims(x):
        raise ValueError(
          f"broadcast_dims must leave the last axis to {self.pattern}, got"
          f" {self.broadcast_dims}: give pattern= as a function of (rate, path)"
          " that returns kd.Bernoulli for this layer"
        )
      width = shape[-1]
    return sampling.subnet_masks(layer_key, ids, width, pattern)

  def apply(
    self,
    x: Float[Array, "B ... W"],
    masks: functional.MasksLike,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ... W"]:
    """Applies masks, from `sample` or given, to the rows of `x`."""
    x = functional.check_inputs(x)
    if not isinstance(masks, blocks.Masks):
      masks = blocks.as_masks(masks, masks.shape[-1])
    shape = self._keep_shape(x, masks.width)
    keep = functional.row_masks(
      masks.dense(), x.shape[0], self.row_layout, assignment, self.batch_size
    )
    return functional.select_and_scale(
      x, keep.reshape(shape), masks, self.rate, self.rescale
    )

  def _noise(
    self, x: Float[Array, "B ... W"], layer_key: Key, ids: Ids
  ) -> Float[Array, "T _"]:
    """Draws noise for every non-batch element that is not broadcast."""
    self._check_rows_apart(x, ids)
    width = math.prod(self._mask_shape(x)[1:])
    pattern: Any = self.pattern
    return sampling.subnet_noise(layer_key, ids, width, pattern)

  def _multiply(
    self,
    x: Float[Array, "B ... W"],
    noise: Float[Array, "T _"],
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ... W"]:
    """Multiplies each row by the noise of the subnet that it trains."""
    own = functional.row_masks(
      noise.astype(x.dtype),
      x.shape[0],
      self.row_layout,
      assignment,
      self.batch_size,
    )
    own = own.reshape(self._keep_shape(x, noise.shape[1]))
    return x * _shardings.like(own, x)

  def _check_rows_apart(self, x: Array, ids: Ids) -> None:
    """Refuses one mask for all rows where subnets share a batch."""
    if 0 in self._dims(x) and ids.shape[0] > 1:
      raise UnsupportedError(
        "broadcast_dims with the batch axis gives all rows one mask, but"
        f" {ids.shape[0]} subnets share this batch"
      )

  def _dims(self, x: Array) -> tuple[int, ...]:
    for dim in self.broadcast_dims:
      if not -x.ndim <= dim < x.ndim:
        raise ValueError(
          f"broadcast_dims must be axes of an input of rank {x.ndim}, got"
          f" {self.broadcast_dims}"
        )
    return tuple(dim % x.ndim for dim in self.broadcast_dims)

  def _mask_shape(self, x: Array) -> tuple[Any, ...]:
    """Sizes, or symbols, of x with the broadcast axes of size 1, as in Flax."""
    dims = self._dims(x)
    return tuple(1 if i in dims else n for i, n in enumerate(x.shape))

  def _keep_shape(self, x: Array, width: int) -> tuple[NumRows, ...]:
    """Shape in which masks of `width` meet x: every element, or last axis."""
    inner = self._mask_shape(x)[1:]
    if width == math.prod(inner):
      return (x.shape[0], *inner)
    if width == x.shape[-1]:
      return (x.shape[0], *(1,) * (x.ndim - 2), width)
    raise ValueError(
      f"masks have width {width}, expected {x.shape[-1]} (last axis) or"
      f" {math.prod(inner)} (every element) for inputs of shape {x.shape}"
    )


def make(
  rate: float,
  pattern: PatternLike | None = patterns.Bernoulli,
  broadcast_dims: Sequence[int] = (),
  *,
  path: str | None = None,
  **settings,
) -> DropoutRule:
  """Builds a rule from a module's fields.

  Args:
    rate: probability of dropping.
    pattern: see `pattern_for`.
    broadcast_dims: axes that share one mask.
    path: the module's path, where it is known.
    **settings: further fields of the rule.

  Raises:
    ValueError: a wrong setting.
  """
  _checks.check_axes("broadcast_dims", broadcast_dims)
  found = pattern_for(patterns.check_rate(rate), pattern, path)
  return DropoutRule(found, tuple(broadcast_dims), **settings)


def check_fields(module) -> None:
  """Raises a ValueError for fields that say when and by which key to drop."""
  _checks.check_switch("deterministic", module.deterministic)
  _checks.check_text("rng_collection", module.rng_collection)


def check_pattern(pattern: PatternLike | None) -> PatternLike:
  """Returns `pattern`, by default `kd.Bernoulli`, tried out at rate 0.5."""
  pattern = patterns.Bernoulli if pattern is None else pattern
  if not callable(pattern) or not _takes_path(pattern):
    make(0.5, pattern)
  return pattern


def pattern_for(
  rate: float, pattern: PatternLike | None, path: str | None
) -> Any:
  """Returns a layer's pattern, unchecked where a function gives it.

  Args:
    rate: of the layer.
    pattern: a pattern, which takes the layer's rate (a `kd.CustomPattern` has
      one of its own); a function of the rate; or one of (rate, path).
    path: of the layer, as in "encoder/Dropout_0", where it is known.

  Raises:
    ValueError: no such pattern, or no path to give it.
  """
  if rate == 0.0:
    return patterns.Bernoulli(0.0)
  if isinstance(pattern, patterns.CustomPattern):
    return pattern
  if isinstance(pattern, patterns.Pattern):
    return dataclasses.replace(pattern, rate=rate)
  if not callable(pattern):
    raise ValueError(
      "pattern must be a pattern, such as kd.ExactCount(), or a function from"
      " rate, or from (rate, path), to pattern, such as kd.Bernoulli or"
      f" functools.partial(kd.Blocks, block_size=64), got {pattern!r}"
    )
  if not _takes_path(pattern):
    return pattern(rate)
  if path is None:
    raise ValueError(
      "pattern must be a function of the rate alone where a module is built by"
      f" itself, so that it has no path yet, got {pattern!r}"
    )
  return pattern(rate, path)


def _takes_path(pattern: Callable) -> bool:
  """Returns whether a function of patterns wants the path, too."""
  try:
    parameters = inspect.signature(pattern).parameters.values()
  except (TypeError, ValueError):  # Some callables of C have none.
    return False
  kinds = (inspect.Parameter.POSITIONAL_ONLY,) + (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
  )
  needed = [p for p in parameters if p.kind in kinds and p.default is p.empty]
  return len(needed) > 1


def spatial_dims(x: Array) -> tuple[int, ...]:
  """Returns the axes between rows and channels, which share one mask."""
  if x.ndim < 3:
    raise ValueError(
      "inputs of spatial dropout must be [B, ..., C] of rank 3 or more, got"
      f" shape {x.shape}"
    )
  return tuple(range(1, x.ndim - 1))
