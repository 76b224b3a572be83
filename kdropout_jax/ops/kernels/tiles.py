"""Tile sizes of the kernels: pure arithmetic on static facts.

A tile is [rows, depth] @ [depth, cols]. For dw "rows" are inputs, "cols"
outputs, and the depth runs over the rows of the batch.
"""

import dataclasses
from typing import Literal

from kdropout_jax.ops import problems

__all__ = ()

_KIB = 1024
MIN_DOT = 16  # Smallest side of a tensor-core product.
_PROCESSORS = 128  # Programs that a large device runs at once, about.

Form = Literal["carried", "vector", "plain", "dw", "dw_groups"]


@dataclasses.dataclass(frozen=True)
class Tile:
  """One tile and how it is compiled.

  Attributes:
    rows: rows of the result's tile.
    cols: columns of the result's tile.
    depth: length of one step of the sum.
    num_warps: warps a program.
    num_stages: depth of the load pipeline.
    swizzle: row tiles that share the columns' loads in L2.
  """

  rows: int
  cols: int
  depth: int
  num_warps: int
  num_stages: int
  swizzle: int = 8

  def shared_bytes(self, itemsize: int) -> int:
    """Returns what the pipeline's operand buffers take."""
    tile = (self.rows + self.cols) * self.depth * itemsize
    return tile * self.num_stages


# The largest tile of each form of a loop, in 16 bits, and what is known of it:
# milliseconds at 4096^3, bfloat16, half kept, one H200 with triton 3.6.0 (the
# dense product takes .200); docs/results/kernels.md has the rows. Whatever
# `choose` makes of them for other sizes, dtypes and devices was not timed.
TILES: dict[Form, tuple[Tile, str]] = {
  # The inner side's blocks fill steps; their numbers are carried by the loop.
  "carried": (
    Tile(128, 256, 64, num_warps=8, num_stages=4),
    "forward in T=1 .136, in a plain kernel; these kernels not timed",
  ),
  # Smaller blocks on the inner side: a step loads the number of each unit.
  "vector": (
    Tile(128, 128, 64, num_warps=8, num_stages=5),
    "forward .205 (in) .144 (both) at T=1, .127 (both) at T=8; dx (both) .105"
    " at T=1, .106 at T=8",
  ),
  # No mask on the inner side, hence no index in the loop.
  "plain": (
    Tile(128, 128, 64, num_warps=8, num_stages=5),
    "dx in .135 at T=1, .137 at T=8; 128x256 with 4 stages .157",
  ),
  "dw": (
    Tile(128, 128, 64, num_warps=8, num_stages=5),
    "dw .140 (in) .100 (both)",
  ),
  # dw of several groups: tiles are pieces of the weights, not of a table.
  "dw_groups": (
    Tile(128, 128, 32, num_warps=4, num_stages=6),
    "dw both T=8, blocks of 128: .123",
  ),
}


def choose(product: str, problem: problems.Problem, capability: int) -> Tile:
  """Returns the tile of a product on a device.

  Args:
    product: "forward", "dx" or "dw".
    problem: the static facts.
    capability: compute capability, 90 for 9.0.
  """
  itemsize = 2 if problem.dtype in ("bfloat16", "float16") else 4
  group_rows = -(-problem.rows // problem.groups) * problem.positions
  largest, _ = TILES[form(product, problem)]
  if product == "dw":
    rows = _dw_side(problem.inputs, problem.groups)
    cols = _dw_side(problem.outputs, problem.groups)
    length = group_rows
  else:
    inner, outer = _sides(product, problem)
    rows = _fit(group_rows, largest.rows)
    cols = _columns(problem, outer, largest, itemsize, capability)
    length = inner.width
  depth = _fit(length, largest.depth * 2 // itemsize)
  warps = largest.num_warps if rows * cols >= 128 * 128 else 4
  tile = dataclasses.replace(
    largest, rows=rows, cols=cols, depth=depth, num_warps=warps
  )
  return _with_stages(tile, itemsize, capability)


def form(product: str, problem: problems.Problem) -> Form:
  """Returns which loop a product runs, by what it must index."""
  if product == "dw":
    return "dw" if problem.groups == 1 else "dw_groups"
  inner, _ = _sides(product, problem)
  if not inner.masked:
    return "plain"
  depth = TILES["carried"][0].depth
  return "carried" if inner.block_size >= depth else "vector"


def _sides(product: str, problem: problems.Problem):
  """Returns the side that is summed over and the side of the columns."""
  sides = (problem.inputs, problem.outputs)
  return sides if product == "forward" else sides[::-1]


def _columns(problem, outer, largest: Tile, itemsize: int, capability: int):
  """Returns the columns of a tile: wide where there is room, and work for all.

  Wide tiles of float32 spill registers on 10.0; 8.x has no memory for the
  stages.
  """
  cols = _fit(outer.width, largest.cols)
  if cols <= 128:
    return cols
  roomy = itemsize == 2 and 90 <= capability < 120
  kept = outer.width * (outer.kept_share or 1.0)
  row_tiles = -(-problem.rows * problem.positions // largest.rows)
  return cols if roomy and row_tiles * kept >= _PROCESSORS * cols else 128


def _dw_side(side: problems.Side, groups: int) -> int:
  """A tile of dw skips a group only where all of its units are dropped."""
  if side.masked and groups > 1:
    return _fit(side.width, min(max(side.block_size, 64), 128))
  return _fit(side.width, 128)


def _fit(length: int, largest: int) -> int:
  """Returns the power of two, from 16 to `largest`, that covers `length`."""
  size = MIN_DOT
  while size < min(length, largest):
    size *= 2
  return size


def _with_stages(tile: Tile, itemsize: int, capability: int) -> Tile:
  """Returns `tile` with no more stages than the device has memory for."""
  stages = tile.num_stages
  while stages > 2 and (
    dataclasses.replace(tile, num_stages=stages).shared_bytes(itemsize)
    > shared_limit(capability)
  ):
    stages -= 1
  return dataclasses.replace(tile, num_stages=stages)


def shared_limit(capability: int) -> int:
  """Returns the shared memory that one program may use, in bytes.

  CUDA C++ Programming Guide, table of technical specifications: 227 KiB from
  9.0 to 11.x, 163 KiB on 8.0 and 8.7, 99 KiB on the consumer parts.
  """
  if 90 <= capability < 120:
    return 227 * _KIB
  return 163 * _KIB if capability in (80, 87) else 99 * _KIB
