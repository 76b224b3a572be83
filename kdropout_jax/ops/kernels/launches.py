"""What a kernel call needs beside its arrays: grid, constants, tile.

Pure arithmetic on static facts; the names in `meta` are the kernels'.
"""

import dataclasses
from typing import Any

import jax

from kdropout_jax.ops import problems
from kdropout_jax.ops.kernels import tiles

__all__ = ()


@dataclasses.dataclass(frozen=True)
class Launch:
  """One call of a kernel.

  Attributes:
    kernel: "rows" (forward and dx) or "dw".
    name: the name that profilers show.
    out: shape and dtype of the result.
    grid: number of programs.
    meta: the kernel's compile-time constants.
    tile: the tile, with the warps and stages to compile with.
  """

  kernel: str
  name: str
  out: jax.ShapeDtypeStruct
  grid: int
  meta: dict[str, Any]
  tile: tiles.Tile


def forward(
  capability: int, problem: problems.Problem, *, bias: bool, relu: bool
) -> Launch:
  """Returns the launch of the forward product."""
  tile = tiles.choose("forward", problem, capability)
  meta = {"W_INNER": problem.outputs.width, "W_OUTER": 1}
  meta |= {"BIAS": bias, "RELU": relu}
  return _rows_launch("kd_forward", problem, problem.out, tile, meta)


def dx(capability: int, problem: problems.Problem) -> Launch:
  """Returns the launch of dx: the sides and the strides of w exchanged."""
  tile = tiles.choose("dx", problem, capability)
  meta = {"W_INNER": 1, "W_OUTER": problem.outputs.width}
  meta |= {"BIAS": False, "RELU": False}
  return _rows_launch("kd_dx", problem.transposed, problem.dtype, tile, meta)


def dw(capability: int, problem: problems.Problem) -> Launch:
  """Returns the launch of dw."""
  tile = tiles.choose("dw", problem, capability)
  single = problem.groups == 1
  row_tiles = _ceil_div(_span(problem.inputs, single), tile.rows)
  col_tiles = _ceil_div(_span(problem.outputs, single), tile.cols)
  each, rest = divmod(problem.rows, problem.groups)
  meta = {
    "INPUTS": problem.inputs.width,
    "OUTPUTS": problem.outputs.width,
    "EVEN": (
      not rest
      and each * problem.positions % tile.depth == 0
      and _fills(problem.inputs, tile.rows, single)
      and _fills(problem.outputs, tile.cols, single)
    ),
    **_shared_meta(problem, tile, row_tiles, col_tiles),
  }
  shape = (problem.inputs.width, problem.outputs.width)
  out = jax.ShapeDtypeStruct(shape, problem.dtype)
  return Launch("dw", "kd_dw", out, row_tiles * col_tiles, meta, tile)


def _rows_launch(name, problem, out_dtype, tile, meta) -> Launch:
  inner, outer = problem.inputs, problem.outputs
  group_rows = -(-problem.rows // problem.groups) * problem.positions
  row_tiles = _ceil_div(group_rows, tile.rows)
  col_tiles = _ceil_div(_span(outer, True), tile.cols)
  meta = {
    "CARRIED": inner.masked and inner.block_size >= tile.depth,
    "INNER": inner.width,
    "OUTER": outer.width,
    # The count of a table may end inside a step where blocks are small.
    "EVEN": (
      (not inner.masked or inner.block_size >= tile.depth)
      and _fills(inner, tile.depth, True)
      and _fills(outer, tile.cols, True)
    ),
    **_shared_meta(problem, tile, row_tiles, col_tiles),
    **meta,
  }
  shape = (problem.rows, problem.positions, outer.width)
  out = jax.ShapeDtypeStruct(shape, out_dtype)
  grid = problem.groups * row_tiles * col_tiles
  return Launch("rows", name, out, grid, meta, tile)


def _shared_meta(problem, tile, row_tiles, col_tiles) -> dict[str, Any]:
  sides = {"IN": problem.inputs, "OUT": problem.outputs}
  meta = {}
  for name, side in sides.items():
    meta[f"{name}_MASKED"] = side.masked
    meta[f"{name}_BLOCK"] = side.block_size
    meta[f"{name}_SLOTS"] = side.num_blocks
  return meta | {
    "ROWS": problem.rows,
    "POSITIONS": problem.positions,
    "GROUPS": problem.groups,
    "TILE_ROWS": tile.rows,
    "TILE_COLS": tile.cols,
    "DEPTH": tile.depth,
    "ROW_TILES": row_tiles,
    "COL_TILES": col_tiles,
    "SWIZZLE": tile.swizzle,
    "PRECISION": precision(problem),
    "UPCAST": False,
  }


def _fills(side: problems.Side, size: int, table: bool) -> bool:
  """Says whether tiles of `size` units never reach past the side's end."""
  span = _span(side, table)
  return span == side.width and span % size == 0


def _span(side: problems.Side, table: bool) -> int:
  """Units that tiles must cover: a table counts its last block in full."""
  if side.masked and table:
    return side.num_blocks * side.block_size
  return side.width


def precision(problem: problems.Problem) -> str | None:
  """Returns how Triton multiplies, None for a precision that it lacks.

  In 16 bits all is exact, the sums are float32; float32 may round to what the
  call or else JAX's configuration asks for.
  """
  asked = problem.precision
  if asked is None:
    asked = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
  asked = getattr(asked, "name", asked)
  named = {None: "tf32", "default": "tf32", "fastest": "tf32"}
  named |= {"tensorfloat32": "tf32", "bfloat16": "tf32"}
  named |= {"high": "tf32x3", "bfloat16_3x": "tf32x3"}
  named |= {"highest": "ieee", "float32": "ieee"}
  key = asked.lower() if isinstance(asked, str) else asked
  found = named.get(key) if isinstance(key, str | None) else None
  return "ieee" if found and problem.dtype != "float32" else found


def _ceil_div(a: int, b: int) -> int:
  return -(-a // b)
