"""What dense layers with masks do with their operands; linen and nnx."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import _shardings
from kdropout_jax import blocks
from kdropout_jax import connections
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import sampling
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _streams
from kdropout_jax.ops import dense
from kdropout_jax.ops import matmul

Inference = Literal["mean", "moments"]


@dataclasses.dataclass(frozen=True)
class RowRule:
  """Which row trains which subnet, where the op's own rule may not hold.

  Attributes:
    row_layout: as for `kd.dropout`.
    assignment: int32 [B] of slots, or None.
    batch_size: rows of a full batch; None means the rows at hand.
  """

  row_layout: functional.RowLayout
  assignment: Int[Array, "B"] | None
  batch_size: int | None

  def check(self, in_mask, out_mask) -> None:
    """Raises a ValueError for options that are wrong with any masks."""
    _checks.check_option("row_layout", self.row_layout, functional.RowLayout)
    if self.batch_size is not None:
      _checks.check_rows("batch_size", self.batch_size)
    if self.assignment is not None and in_mask is None and out_mask is None:
      raise ValueError(
        "assignment needs in_mask or out_mask: it says which of them a row"
        " trains"
      )

  def why_not_contiguous(self, x, *masks) -> str | None:
    """Returns why the op's rule, rows in T equal groups, does not hold."""
    if self.assignment is not None:
      return "an assignment"
    one = all(_num_subnets(mask) == 1 for mask in masks if mask is not None)
    if self.row_layout == "tiled" and not one:
      return "row_layout='tiled'"
    if self.batch_size not in (None, x.shape[0]) and not one:
      return f"{x.shape[0]} rows of a batch of {self.batch_size}"
    return None

  def mask(
    self, x: Float[Array, "B ... W"], masks: functional.MasksLike | None
  ) -> Float[Array, "B ... W"]:
    """Zeroes what each row's mask drops, without rescaling."""
    if masks is None:
      return x
    x = functional.check_inputs(x)
    keep = functional.row_masks(
      blocks.as_masks(masks, x.shape[-1]).dense(),
      x.shape[0],
      self.row_layout,
      self.assignment,
      self.batch_size,
    )
    keep = keep.reshape(keep.shape[0], *(1,) * (x.ndim - 2), keep.shape[1])
    return jnp.where(_shardings.like(keep, x), x, jnp.zeros_like(x))


def check_features(features, use_bias, name: str = "features") -> None:
  """Raises a ValueError for a number of features, or a flag, that is none."""
  _checks.check_int32(name, features)
  _checks.check_flag("use_bias", use_bias)


def masked_dense(
  module,
  x: Float[Array, "B ... I"],
  flax_call: Callable[[Array], Array],
  operands: Callable[[], tuple],
  *,
  is_plain: bool,
  in_mask: functional.MasksLike | None,
  out_mask: functional.MasksLike | None,
  assignment: Int[Array, "B"] | None,
) -> Float[Array, "B ... O"]:
  """Runs a `MaskedDense` of linen or nnx: Flax's own call, or the op.

  Args:
    module: holds activation, implementation, row_layout and batch_size.
    x: the module's inputs.
    flax_call: Flax's own layer without masks or activation.
    operands: gives promoted inputs, kernel and bias.
    is_plain: whether Flax's layer has no product of its own.
    in_mask: as for `kd.masked_matmul`.
    out_mask: as for `kd.masked_matmul`.
    assignment: int32 [B] of slots in [0, T).
  """
  rows = RowRule(module.row_layout, assignment, module.batch_size)
  rows.check(in_mask, out_mask)
  if in_mask is None and out_mask is None:
    return dense.activate(flax_call(x), module.activation)
  why = rows.why_not_contiguous(x, in_mask, out_mask)
  if not is_plain:
    why = "a precision or a dot_general of its own"
  if why:
    check_auto(module.implementation, why)
    y = dense.activate(flax_call(rows.mask(x, in_mask)), module.activation)
    return rows.mask(y, out_mask)
  return matmul.masked_dense(
    *operands(),
    activation=module.activation,
    in_mask=in_mask,
    out_mask=out_mask,
    implementation=module.implementation,
  )


def check_auto(implementation: str, why: str) -> None:
  """Refuses a named implementation where masking has to be dense."""
  if implementation != "auto":
    raise UnsupportedError(
      f"implementation={implementation!r} needs contiguous rows and a plain"
      f" product, but this layer has {why}; use implementation='auto', which"
      " masks densely here"
    )


@dataclasses.dataclass(frozen=True)
class DropConnect:
  """The settings of a DropConnect layer, checked.

  Attributes:
    rule: rate, pattern and rows, as for dropout.
    inference: "mean" or "moments".
    activation: applied to the outputs, or None.
    num_samples: draws of "moments".
  """

  rule: _dropout_rules.DropoutRule
  inference: Inference
  activation: Callable[[Array], Array] | None
  num_samples: int

  def __post_init__(self):
    _checks.check_option("inference", self.inference, Inference)
    _checks.check_positive("num_samples", self.num_samples)
    if self.activation is not None:
      _checks.check_callable("activation", self.activation)
    if self.inference == "mean":
      return
    if self.activation is None:
      raise ValueError(
        "inference='moments' needs an activation: without one the mean"
        " network is exact"
      )
    if not isinstance(self.rule.pattern, patterns.Bernoulli):
      raise UnsupportedError(
        "inference='moments' assumes weights that are dropped one by one, as"
        f" kd.Bernoulli does, but the pattern is {self.rule.pattern}"
      )

  def run(
    self,
    x: Float[Array, "B ... I"],
    w: Float[Array, "I O"],
    b: Float[Array, "O"] | None,
    deterministic: bool,
    step_key: Callable[[], Key],
    run_key: Callable[[], Key],
    *,
    subnets: Ids | blocks.Masks | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ... O"]:
    """Runs a module's call; keys as for `_dropout_rules.DropoutRule.run`."""
    ids, masks = _streams.source(subnets, None, assignment)
    rule, x = self.rule, functional.check_inputs(x)
    act = self.activation or (lambda y: y)
    settings = {"rate": rule.rate, "rescale": rule.rescale}
    if deterministic and self.inference == "moments" and rule.rate > 0:
      mean, variance = connections.moments(x, w, b, **settings)
      return connections.expected_activation(
        step_key(), mean, variance, act, self.num_samples
      )
    if deterministic or rule.rate == 0:
      return act(connections.drop_connect(x, w, b, None, **settings))
    row_layout, batch_size = rule.row_layout, rule.batch_size
    if subnets is None:  # Standard DropConnect: a fresh mask a row.
      row_layout, batch_size = "contiguous", None
    if masks is None:
      rows = jnp.arange(x.shape[0], dtype=jnp.uint32)
      ids = rows if subnets is None else _streams.check_subnets(ids)
      key = _keys.as_threefry(step_key() if subnets is None else run_key())
      width = connections.num_weights(w, b)
      masks = sampling.subnet_masks(key, ids, width, rule.pattern)
    y = connections.drop_connect(
      x,
      w,
      b,
      masks,
      row_layout=row_layout,
      assignment=assignment,
      batch_size=batch_size,
      **settings,
    )
    return act(y)


def _num_subnets(masks: functional.MasksLike) -> int:
  keep = masks.keep if isinstance(masks, blocks.Masks) else masks
  return keep.shape[0]
