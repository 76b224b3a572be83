"""One masked product as data: every static fact of a call.

Dispatch, tiles and implementations decide from a `Problem` and from nothing
else.
"""

import dataclasses
import math
from typing import Any

from kdropout_jax import _designs
from kdropout_jax import blocks

__all__ = ()


@dataclasses.dataclass(frozen=True)
class Side:
  """One masked axis of the product: the inputs (I) or the outputs (O).

  Attributes:
    width: units on this axis.
    block_size: units a block.
    num_kept: blocks that every mask keeps, or None where the count varies.
    masked: False where no mask is given; every unit is kept then.
    design: how groups of masks avoid each other, None where they do not.
  """

  width: int
  block_size: int = 1
  num_kept: int | None = None
  masked: bool = False
  design: _designs.Design | None = None

  @property
  def num_blocks(self) -> int:
    """Blocks G on this axis, the ragged last one included."""
    return blocks.num_blocks(self.width, self.block_size)

  @property
  def kept_share(self) -> float | None:
    """Share of the units that is kept; None where the count varies."""
    if not self.masked:
      return 1.0
    if self.num_kept is None:
      return None
    return self.num_kept / self.num_blocks


@dataclasses.dataclass(frozen=True)
class Problem:
  """One masked product: ``[B, P, I] @ [I, O]`` with T groups of rows.

  Attributes:
    rows: rows B; row r belongs to group ``r * T // B``.
    positions: product P of the axes between the rows and the features.
    groups: groups T, at most `rows`.
    inputs: the masked input axis.
    outputs: the masked output axis.
    dtype: name of the operands' dtype.
    precision: as for `jnp.matmul`.
    out_dtype: name of the result's dtype, None for the operands'.
    is_explicit: whether the mesh has explicit axes.
  """

  rows: int
  positions: int
  groups: int
  inputs: Side
  outputs: Side
  dtype: str = "float32"
  precision: Any = None
  out_dtype: str | None = None
  is_explicit: bool = False

  @property
  def kept_share(self) -> float | None:
    """Share of the multiplications that is left; None where counts vary."""
    shares = (self.inputs.kept_share, self.outputs.kept_share)
    return None if None in shares else math.prod(shares)  # pyright: ignore[reportArgumentType, reportCallIssue]

  @property
  def copied_share(self) -> float | None:
    """Share of the weights that a group copies: its rows, then its columns."""
    ins, share = self.inputs.kept_share, self.kept_share
    if ins is None or share is None:
      return None
    return ins * self.inputs.masked + share * self.outputs.masked

  @property
  def out(self) -> str:
    """Name of the result's dtype."""
    return self.out_dtype or self.dtype

  @property
  def masked_sides(self) -> str:
    """The sides that have a mask: "none", "in", "out" or "both"."""
    masked = (self.inputs.masked, self.outputs.masked)
    return {(False, False): "none", (True, True): "both"}.get(
      masked, "in" if self.inputs.masked else "out"
    )

  @property
  def transposed(self) -> "Problem":
    """The problem of dx: the same rows, the two sides exchanged."""
    return dataclasses.replace(self, inputs=self.outputs, outputs=self.inputs)
