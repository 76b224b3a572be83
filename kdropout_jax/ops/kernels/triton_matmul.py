"""The masked product as Triton kernels for CUDA, called through jax-triton.

Two kernels: forward and dx share one (dx exchanges the sides and the strides
of `w`), dw is the other. Masks arrive as tables of blocks with the kept ones
first, so that nothing on the host depends on their values. Only this file
imports triton and jax_triton, and only the dispatcher imports this file.
"""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jaxtyping import Array, Float

from kdropout_jax import blocks
from kdropout_jax.ops import dense
from kdropout_jax.ops import problems
from kdropout_jax.ops.kernels import tiles


@triton.jit
def _swizzled(
  pid, ROW_TILES: tl.constexpr, COL_TILES: tl.constexpr, SWIZZLE: tl.constexpr
):
  """Orders tiles so that SWIZZLE row tiles reuse one column tile in L2."""
  band = pid // (SWIZZLE * COL_TILES)
  first = band * SWIZZLE
  height = min(ROW_TILES - first, SWIZZLE)
  within = pid % (SWIZZLE * COL_TILES)
  return first + within % height, within // height


@triton.jit
def _units(
  table_ptr,
  start,
  LENGTH: tl.constexpr,
  BLOCK: tl.constexpr,
  TABLE: tl.constexpr,
  SLOTS: tl.constexpr,
):
  """Returns the units [LENGTH] at positions start... of a table of blocks.

  A start is a multiple of LENGTH, and one of the two sizes divides the other.
  """
  position = start + tl.arange(0, LENGTH)
  if not TABLE:
    return position
  if BLOCK >= LENGTH:
    block = tl.load(table_ptr + start // BLOCK)
    return block * BLOCK + start % BLOCK + tl.arange(0, LENGTH)
  slot = position // BLOCK
  block = tl.load(table_ptr + slot, mask=slot < SLOTS, other=SLOTS)
  return block * BLOCK + position % BLOCK


@triton.jit
def _group_rows(
  group, ROWS: tl.constexpr, GROUPS: tl.constexpr, POSITIONS: tl.constexpr
):
  """Returns the first row of a group and the row after its last."""
  group = group.to(tl.int64)
  start = (group * ROWS + GROUPS - 1) // GROUPS * POSITIONS
  end = ((group + 1) * ROWS + GROUPS - 1) // GROUPS * POSITIONS
  return start, end


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
  if UPCAST:  # The interpreter multiplies bfloat16 as raw integers.
    a = a.to(tl.float32)
    b = b.to(tl.float32)
  return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _rows_kernel(
  x_ptr,
  w_ptr,
  bias_ptr,
  in_table_ptr,
  in_count_ptr,
  out_table_ptr,
  out_count_ptr,
  y_ptr,
  ROWS: tl.constexpr,
  POSITIONS: tl.constexpr,
  GROUPS: tl.constexpr,
  INNER: tl.constexpr,
  OUTER: tl.constexpr,
  W_INNER: tl.constexpr,
  W_OUTER: tl.constexpr,
  IN_MASKED: tl.constexpr,
  IN_BLOCK: tl.constexpr,
  IN_SLOTS: tl.constexpr,
  OUT_MASKED: tl.constexpr,
  OUT_BLOCK: tl.constexpr,
  OUT_SLOTS: tl.constexpr,
  BIAS: tl.constexpr,
  RELU: tl.constexpr,
  TILE_ROWS: tl.constexpr,
  TILE_COLS: tl.constexpr,
  DEPTH: tl.constexpr,
  ROW_TILES: tl.constexpr,
  COL_TILES: tl.constexpr,
  SWIZZLE: tl.constexpr,
  EVEN_DEPTH: tl.constexpr,
  PRECISION: tl.constexpr,
  UPCAST: tl.constexpr,
):
  """y[r, o] = act(sum over kept i of x[r, i] w[i, o] + bias[o])."""
  pid = tl.program_id(0)
  group = pid // (ROW_TILES * COL_TILES)
  row_tile, col_tile = _swizzled(
    pid % (ROW_TILES * COL_TILES), ROW_TILES, COL_TILES, SWIZZLE
  )
  start, end = _group_rows(group, ROWS, GROUPS, POSITIONS)
  rows = start + row_tile * TILE_ROWS + tl.arange(0, TILE_ROWS)
  # Rows past the group's end repeat its last one (or row 0); not stored.
  safe_rows = tl.maximum(tl.minimum(rows, end - 1), 0)[:, None]

  first_col = col_tile * TILE_COLS
  cols = _units(
    out_table_ptr + group * OUT_SLOTS,
    first_col,
    TILE_COLS,
    OUT_BLOCK,
    OUT_MASKED,
    OUT_SLOTS,
  )
  safe_cols = tl.minimum(cols, OUTER - 1)[None, :]
  num_inner = INNER
  if IN_MASKED:
    num_inner = tl.load(in_count_ptr + group) * IN_BLOCK
  num_outer = OUTER
  if OUT_MASKED:
    num_outer = tl.load(out_count_ptr + group) * OUT_BLOCK
  # Tables hold kept blocks first: a tile past them sums nothing, stores zeros.
  live = (first_col < num_outer) & (start + row_tile * TILE_ROWS < end)
  num_steps = tl.where(live, tl.cdiv(num_inner, DEPTH), 0)

  acc = tl.zeros((TILE_ROWS, TILE_COLS), tl.float32)
  # Invariant: acc holds the sum over the first `step` tiles of kept inputs.
  for step in range(0, num_steps):
    first = step * DEPTH
    inner = _units(
      in_table_ptr + group * IN_SLOTS,
      first,
      DEPTH,
      IN_BLOCK,
      IN_MASKED,
      IN_SLOTS,
    )
    x_at = x_ptr + safe_rows * INNER + inner[None, :]  # [TILE_ROWS, DEPTH]
    w_at = w_ptr + inner[:, None] * W_INNER + safe_cols * W_OUTER
    if EVEN_DEPTH:
      x = tl.load(x_at)
      w = tl.load(w_at)
    else:
      known = first + tl.arange(0, DEPTH) < num_inner
      known = known & (inner < INNER)
      x = tl.load(x_at, mask=known[None, :], other=0.0)
      w = tl.load(w_at, mask=known[:, None], other=0.0)
    acc = _dot(x, w, acc, PRECISION, UPCAST)

  if BIAS:
    acc += tl.load(bias_ptr + safe_cols).to(tl.float32)
  if RELU:
    acc = tl.where(acc < 0, 0.0, acc)  # Keeps a NaN, as jax.nn.relu does.
  kept = first_col + tl.arange(0, TILE_COLS) < num_outer
  acc = tl.where(kept[None, :], acc, 0.0)
  tl.store(
    y_ptr + rows[:, None] * OUTER + cols[None, :],
    acc.to(y_ptr.dtype.element_ty),
    mask=(rows < end)[:, None] & (cols < OUTER)[None, :],
  )


@triton.jit
def _keeps(
  keep_ptr,
  units,
  LENGTH: tl.constexpr,
  BLOCK: tl.constexpr,
  MASKED: tl.constexpr,
  SLOTS: tl.constexpr,
):
  """Returns int32 [LENGTH]: the flags of units' blocks, 1 without a mask."""
  if not MASKED:
    return tl.full((LENGTH,), 1, tl.int32)
  slot = units // BLOCK
  return tl.load(keep_ptr + slot, mask=slot < SLOTS, other=0)


@triton.jit
def _dw_kernel(
  x_ptr,
  dy_ptr,
  in_keep_ptr,
  in_table_ptr,
  in_count_ptr,
  out_keep_ptr,
  out_table_ptr,
  out_count_ptr,
  dw_ptr,
  ROWS: tl.constexpr,
  POSITIONS: tl.constexpr,
  GROUPS: tl.constexpr,
  INPUTS: tl.constexpr,
  OUTPUTS: tl.constexpr,
  IN_MASKED: tl.constexpr,
  IN_BLOCK: tl.constexpr,
  IN_SLOTS: tl.constexpr,
  OUT_MASKED: tl.constexpr,
  OUT_BLOCK: tl.constexpr,
  OUT_SLOTS: tl.constexpr,
  TILE_ROWS: tl.constexpr,
  TILE_COLS: tl.constexpr,
  DEPTH: tl.constexpr,
  ROW_TILES: tl.constexpr,
  COL_TILES: tl.constexpr,
  SWIZZLE: tl.constexpr,
  EVEN_DEPTH: tl.constexpr,
  PRECISION: tl.constexpr,
  UPCAST: tl.constexpr,
):
  """dw[i, o] = sum over the rows whose group keeps i and o of x[r, i] dy[r, o].

  With one group, tiles are cut from its tables, so that kept units fill them
  whatever the block size. With more, a tile is a piece of the weights, and
  groups that keep nothing of it on one side are passed over.
  """
  row_tile, col_tile = _swizzled(
    tl.program_id(0), ROW_TILES, COL_TILES, SWIZZLE
  )
  ins = _units(
    in_table_ptr,
    row_tile * TILE_ROWS,
    TILE_ROWS,
    IN_BLOCK,
    IN_MASKED and GROUPS == 1,
    IN_SLOTS,
  )
  outs = _units(
    out_table_ptr,
    col_tile * TILE_COLS,
    TILE_COLS,
    OUT_BLOCK,
    OUT_MASKED and GROUPS == 1,
    OUT_SLOTS,
  )
  safe_ins = tl.minimum(ins, INPUTS - 1)[:, None]
  safe_outs = tl.minimum(outs, OUTPUTS - 1)[None, :]

  acc = tl.zeros((TILE_ROWS, TILE_COLS), tl.float32)
  for group in range(0, GROUPS):
    group_id = tl.full((), group, tl.int32)
    start, end = _group_rows(group_id, ROWS, GROUPS, POSITIONS)
    keep_ins = _keeps(
      in_keep_ptr + group * IN_SLOTS,
      ins,
      TILE_ROWS,
      IN_BLOCK,
      IN_MASKED,
      IN_SLOTS,
    )
    keep_outs = _keeps(
      out_keep_ptr + group * OUT_SLOTS,
      outs,
      TILE_COLS,
      OUT_BLOCK,
      OUT_MASKED,
      OUT_SLOTS,
    )
    live = (tl.max(keep_ins, 0) > 0) & (tl.max(keep_outs, 0) > 0)
    num_steps = tl.where(live, tl.cdiv(end - start, DEPTH), 0).to(tl.int32)
    # Invariant: acc holds whole groups before this one, and `step` tiles of it.
    for step in range(0, num_steps):
      rows = start + step * DEPTH + tl.arange(0, DEPTH)
      x_at = x_ptr + rows[None, :] * INPUTS + safe_ins  # [TILE_ROWS, DEPTH]
      dy_at = dy_ptr + rows[:, None] * OUTPUTS + safe_outs
      if EVEN_DEPTH:
        x = tl.load(x_at)
        dy = tl.load(dy_at)
      else:
        known = rows < end
        x = tl.load(x_at, mask=known[None, :], other=0.0)
        dy = tl.load(dy_at, mask=known[:, None], other=0.0)
      if GROUPS > 1:
        # One group's dropped units must not reach another's sum.
        if IN_MASKED and IN_BLOCK < TILE_ROWS:
          x = tl.where((keep_ins > 0)[:, None], x, 0.0)
        if OUT_MASKED and OUT_BLOCK < TILE_COLS:
          dy = tl.where((keep_outs > 0)[None, :], dy, 0.0)
      acc = _dot(x, dy, acc, PRECISION, UPCAST)
    if GROUPS == 1:
      kept = (keep_ins > 0)[:, None] & (keep_outs > 0)[None, :]
      acc = tl.where(kept, acc, 0.0)

  tl.store(
    dw_ptr + ins.to(tl.int64)[:, None] * OUTPUTS + outs[None, :],
    acc.to(dw_ptr.dtype.element_ty),
    mask=(ins < INPUTS)[:, None] & (outs < OUTPUTS)[None, :],
  )


@dataclasses.dataclass(frozen=True)
class Launch:
  """A kernel with all that is static about one call of it."""

  kernel: Any
  name: str
  out: jax.ShapeDtypeStruct
  grid: int
  meta: dict[str, Any]
  tile: tiles.Tile


def forward(
  capability: int,
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  w: Float[Array, "I O"],
  b: Float[Array, "O"] | None,
  in_keep: dense.Keep,
  out_keep: dense.Keep,
  *,
  activation: str | None = None,
) -> Float[Array, "B P O"]:
  """As `dense.forward`, with bias and activation in the epilogue."""
  launch = forward_launch(
    capability, problem, bias=b is not None, relu=activation == "relu"
  )
  tables = (*_table(in_keep), *_table(out_keep))
  return _call(capability, launch, x, w, x if b is None else b, *tables)


def dx(
  capability: int,
  problem: problems.Problem,
  dy: Float[Array, "B P O"],
  w: Float[Array, "I O"],
  in_keep: dense.Keep,
  out_keep: dense.Keep,
) -> Float[Array, "B P I"]:
  """As `dense.dx`."""
  launch = dx_launch(capability, problem)
  tables = (*_table(out_keep), *_table(in_keep))
  return _call(capability, launch, dy, w, dy, *tables)


def dw(
  capability: int,
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  dy: Float[Array, "B P O"],
  in_keep: dense.Keep,
  out_keep: dense.Keep,
) -> Float[Array, "I O"]:
  """As `dense.dw`."""
  launch = dw_launch(capability, problem)
  sides = (
    _flags(in_keep),
    *_table(in_keep),
    _flags(out_keep),
    *_table(out_keep),
  )
  return _call(capability, launch, x, dy, *sides)


def forward_launch(
  capability: int, problem: problems.Problem, *, bias: bool, relu: bool
) -> Launch:
  """Returns the launch of the forward product."""
  tile = tiles.choose("forward", problem, capability)
  meta = {"W_INNER": problem.outputs.width, "W_OUTER": 1}
  meta |= {"BIAS": bias, "RELU": relu}
  return _rows_launch("kd_forward", problem, tile, meta)


def dx_launch(capability: int, problem: problems.Problem) -> Launch:
  """Returns the launch of dx: the sides and the strides of w exchanged."""
  tile = tiles.choose("dx", problem, capability)
  meta = {"W_INNER": 1, "W_OUTER": problem.outputs.width}
  meta |= {"BIAS": False, "RELU": False}
  return _rows_launch("kd_dx", problem.transposed, tile, meta)


def dw_launch(capability: int, problem: problems.Problem) -> Launch:
  """Returns the launch of dw."""
  tile = tiles.choose("dw", problem, capability)
  single = problem.groups == 1
  row_tiles = triton.cdiv(_span(problem.inputs, single), tile.rows)
  col_tiles = triton.cdiv(_span(problem.outputs, single), tile.cols)
  each, rest = divmod(problem.rows, problem.groups)
  meta = {
    "INPUTS": problem.inputs.width,
    "OUTPUTS": problem.outputs.width,
    "EVEN_DEPTH": not rest and each * problem.positions % tile.depth == 0,
    **_shared_meta(problem, tile, row_tiles, col_tiles),
  }
  shape = (problem.inputs.width, problem.outputs.width)
  out = jax.ShapeDtypeStruct(shape, problem.dtype)
  return Launch(_dw_kernel, "kd_dw", out, row_tiles * col_tiles, meta, tile)


def _rows_launch(name, problem, tile, meta) -> Launch:
  inner, outer = problem.inputs, problem.outputs
  group_rows = -(-problem.rows // problem.groups) * problem.positions
  row_tiles = triton.cdiv(group_rows, tile.rows)
  col_tiles = triton.cdiv(_span(outer, True), tile.cols)
  step = inner.block_size if inner.masked else tile.depth
  meta = {
    "INNER": inner.width,
    "OUTER": outer.width,
    "EVEN_DEPTH": step % tile.depth == 0 and inner.width % step == 0,
    **_shared_meta(problem, tile, row_tiles, col_tiles),
    **meta,
  }
  shape = (problem.rows, problem.positions, outer.width)
  out = jax.ShapeDtypeStruct(shape, problem.dtype)
  grid = problem.groups * row_tiles * col_tiles
  return Launch(_rows_kernel, name, out, grid, meta, tile)


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
    "PRECISION": _precision(problem.dtype),
    "UPCAST": False,
  }


def _span(side: problems.Side, table: bool) -> int:
  """Units that tiles must cover: a table counts its last block in full."""
  if side.masked and table:
    return side.num_blocks * side.block_size
  return side.width


def _precision(dtype: str) -> str:
  """Returns what a float32 product may round to, as JAX is configured."""
  asked = str(jax.config.jax_default_matmul_precision)  # pyright: ignore[reportAttributeAccessIssue]
  if dtype != "float32":
    return "ieee"  # Exact in 16 bits; the sums are float32.
  if asked in ("highest", "float32"):
    return "ieee"
  return "tf32x3" if asked in ("high", "bfloat16_3x") else "tf32"


def _table(keep):
  """Returns the blocks of each group, kept ones first, and the counts."""
  if keep is None:
    empty = jnp.zeros((1, 1), jnp.int32)
    return empty, empty[0]
  return blocks.index_table(keep)


def _flags(keep):
  return jnp.ones((1, 1), jnp.int32) if keep is None else keep.astype(jnp.int32)


def _call(capability: int, launch: Launch, *arrays):
  """Calls jax-triton, whose versions name the result's type differently."""
  import jax_triton  # Lazy: the interpreter's tests do without it.

  parameters = inspect.signature(jax_triton.triton_call).parameters
  out = "out_type" if "out_type" in parameters else "out_shape"
  return jax_triton.triton_call(
    *arrays,
    kernel=launch.kernel,
    grid=launch.grid,
    name=launch.name,
    compute_capability=capability,
    num_warps=launch.tile.num_warps,
    num_stages=launch.tile.num_stages,
    **{out: launch.out},
    **launch.meta,
  )
