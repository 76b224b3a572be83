"""What dropout masks leave of a tiled product: loads and FLOPs, counted.

The gyro dropout paper's table 7 profiles a CUTLASS kernel that skips dropped
inputs (section 4.3). The same three numbers follow from the masks alone, by
its own reasons (sections 4.1 and 4.2): a warp skips an input that all of its
rows drop; shared memory is read for an input that any row of the thread
block's tile keeps; and global memory is read a cache line at a time.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool

from kdropout_jax import blocks


@dataclasses.dataclass(frozen=True)
class Tiling:
  """The tiles of a GEMM; CUTLASS 1.3's by default (figure 4).

  Attributes:
    rows: of a thread block's tile.
    columns: of a thread block's tile.
    warp_rows: rows of a warp's tile.
    warp_columns: columns of a warp's tile.
    line: numbers of a cache line; 128 bytes of float32.
  """

  rows: int = 128
  columns: int = 128
  warp_rows: int = 32
  warp_columns: int = 16
  line: int = 32

  def __post_init__(self):
    if self.rows % self.warp_rows or self.columns % self.warp_columns:
      raise ValueError(
        f"rows and columns must be multiples of the warp's, got {self}"
      )


@dataclasses.dataclass(frozen=True)
class Work:
  """Work of one product.

  Attributes:
    flops: floating-point operations.
    global_loads: numbers read from DRAM.
    shared_loads: numbers read from shared memory.
  """

  flops: int
  global_loads: int
  shared_loads: int

  def percent_of(self, whole: "Work") -> dict[str, float]:
    """Returns each count as per cent of that of `whole`."""
    total = dataclasses.asdict(whole)
    return {n: 100 * v / total[n] for n, v in dataclasses.asdict(self).items()}


def count(
  keep: Bool[Any, "T I"],
  rows: int,
  outputs: int,
  tiling: Tiling | None = None,
) -> Work:
  """Counts the work of ``(x * mask) @ w``, dropped inputs skipped.

  Rows that do not fill a tile cost what a whole one costs.

  Args:
    keep: masks over the inputs, one for each of T contiguous groups of rows.
    rows: rows B of x.
    outputs: columns O of w.
    tiling: of the kernel.

  >>> import numpy as np
  >>> count(np.eye(2, 64, dtype=bool), 256, 128).flops == 2 * 256 * 128
  True
  """
  tiling = tiling or Tiling()
  keep = np.asarray(keep)
  by_row = keep[blocks.row_slots(rows, len(keep))]
  warps = _any_of(by_row, tiling.warp_rows, axis=0)
  tiles = _any_of(by_row, tiling.rows, axis=0)
  lines = _any_of(tiles, tiling.line, axis=1)
  columns = -(-outputs // tiling.columns)
  kept = int(tiles.sum())  # inputs that tiles of rows need, all tiles together
  x_loads = int(lines.sum()) * tiling.line * tiling.rows
  w_loads = kept * tiling.columns
  warps_a_tile = (
    tiling.rows * tiling.columns // (tiling.warp_rows * tiling.warp_columns)
  )
  a_warp = tiling.warp_rows + tiling.warp_columns
  return Work(
    flops=2 * tiling.warp_rows * int(warps.sum()) * columns * tiling.columns,
    global_loads=columns * (x_loads + w_loads),
    shared_loads=columns * kept * warps_a_tile * a_warp,
  )


def _any_of(flags, size: int, axis: int):
  """Returns whether any of `size` neighbours is set; the last may be fewer."""
  pad = [(0, 0)] * flags.ndim
  pad[axis] = (0, -flags.shape[axis] % size)
  flags = np.moveaxis(np.pad(flags, pad), axis, 0)
  grouped = flags.reshape(-1, size, *flags.shape[1:]).any(axis=1)
  return np.moveaxis(grouped, 0, axis)
