"""Tile sizes of the kernels: pure arithmetic on static facts.

A tile is [rows, depth] @ [depth, cols]. For dw "rows" are inputs, "cols"
outputs, and the depth runs over the rows of the batch.
"""

import dataclasses

from kdropout_jax.ops import problems

_KIB = 1024
MIN_DOT = 16  # Smallest side of a tensor-core product.


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


def choose(product: str, problem: problems.Problem, capability: int) -> Tile:
  """Returns the tile of a product on a device.

  Args:
    product: "forward", "dx" or "dw".
    problem: the static facts.
    capability: compute capability, 90 for 9.0.
  """
  itemsize = 2 if problem.dtype in ("bfloat16", "float16") else 4
  group_rows = -(-problem.rows // problem.groups) * problem.positions
  if product == "dw":
    rows = _dw_side(problem.inputs, problem.groups)
    cols = _dw_side(problem.outputs, problem.groups)
    length = group_rows
  else:
    sides = (problem.inputs, problem.outputs)
    inner, outer = sides if product == "forward" else sides[::-1]
    rows = _fit(group_rows, 128)
    cols = _fit(outer.width, 128)
    length = inner.width
  depth = _fit(length, 128 // itemsize)
  warps = 8 if rows * cols >= 128 * 128 else 4
  tile = Tile(rows, cols, depth, warps, num_stages=2)
  return dataclasses.replace(
    tile, num_stages=_stages(tile, itemsize, capability)
  )


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


def _stages(tile: Tile, itemsize: int, capability: int) -> int:
  # An index that is loaded inside the loop costs pipeline depth: five stages
  # hold what three hold in a dense loop.
  stages = 5
  while stages > 2 and (
    dataclasses.replace(tile, num_stages=stages).shared_bytes(itemsize)
    > shared_limit(capability)
  ):
    stages -= 1
  return stages


def shared_limit(capability: int) -> int:
  """Returns the shared memory that one program may use, in bytes.

  CUDA C++ Programming Guide, table of technical specifications: 227 KiB from
  9.0 to 11.x, 163 KiB on 8.0 and 8.7, 99 KiB on the consumer parts.
  """
  if 90 <= capability < 120:
    return 227 * _KIB
  return 163 * _KIB if capability in (80, 87) else 99 * _KIB
