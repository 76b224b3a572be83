"""The masked product as Triton kernels for CUDA, called through jax-triton.

Two kernels: forward and dx share one (dx exchanges the sides and the strides
of `w`), dw is the other. Masks arrive as tables of blocks with the kept ones
first, so that nothing on the host depends on their values. Only this file
imports triton and jax_triton, and only the dispatcher imports this file.
"""

import inspect

import jax.numpy as jnp
import triton
import triton.language as tl
from jaxtyping import Array, Float

from kdropout_jax import blocks
from kdropout_jax.ops import dense
from kdropout_jax.ops import problems
from kdropout_jax.ops.kernels import launches

__all__ = ()

# fmt: off
# One parameter a line would hide the kernels behind their signatures.


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
def _run_of_units(block, start, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
  """Returns the LENGTH units of a block that position `start` falls into.

  The compiler is told that they are adjacent and aligned: it cannot see it
  through a loaded number, and triton 3.6 then loads two bytes at a time.
  """
  first = tl.multiple_of(block * BLOCK + start % BLOCK, LENGTH)
  units = first + tl.arange(0, LENGTH)
  return tl.max_contiguous(tl.multiple_of(units, LENGTH), LENGTH)


@triton.jit
def _units(
    table_ptr, start, LENGTH: tl.constexpr, BLOCK: tl.constexpr,
    TABLE: tl.constexpr, SLOTS: tl.constexpr,
):
  """Returns the units [LENGTH] at positions start... of a table of blocks.

  A start is a multiple of LENGTH, and one of the two sizes divides the other.
  """
  position = start + tl.arange(0, LENGTH)
  if not TABLE:
    return position
  if BLOCK >= LENGTH:
    block = tl.load(table_ptr + start // BLOCK)
    return _run_of_units(block, start, LENGTH, BLOCK)
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
    x_ptr, w_ptr, bias_ptr, in_table_ptr, in_count_ptr, out_table_ptr,
    out_count_ptr, y_ptr, ROWS: tl.constexpr, POSITIONS: tl.constexpr,
    GROUPS: tl.constexpr, INNER: tl.constexpr, OUTER: tl.constexpr,
    W_INNER: tl.constexpr, W_OUTER: tl.constexpr, IN_MASKED: tl.constexpr,
    IN_BLOCK: tl.constexpr, IN_SLOTS: tl.constexpr, OUT_MASKED: tl.constexpr,
    OUT_BLOCK: tl.constexpr, OUT_SLOTS: tl.constexpr, BIAS: tl.constexpr,
    RELU: tl.constexpr, TILE_ROWS: tl.constexpr, TILE_COLS: tl.constexpr,
    DEPTH: tl.constexpr, ROW_TILES: tl.constexpr, COL_TILES: tl.constexpr,
    SWIZZLE: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr, CARRIED: tl.constexpr,
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
    out_table_ptr + group * OUT_SLOTS, first_col, TILE_COLS, OUT_BLOCK,
    OUT_MASKED, OUT_SLOTS,
  )
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
  block = tl.zeros((), tl.int32)
  if CARRIED:
    block = tl.load(in_table_ptr + group * IN_SLOTS)
  # Invariant: acc holds the sum over the first `step` tiles of kept inputs, and
  # `block` (if carried) is the block of the next one.
  for step in range(0, num_steps):
    first = step * DEPTH
    if CARRIED:
      inner = _run_of_units(block, first, DEPTH, IN_BLOCK)
      # One iteration ahead, so that no load of x or w waits for it.
      ahead = tl.minimum((first + DEPTH) // IN_BLOCK, IN_SLOTS - 1)
      block = tl.load(in_table_ptr + group * IN_SLOTS + ahead)
    else:
      inner = _units(
        in_table_ptr + group * IN_SLOTS, first, DEPTH, IN_BLOCK, IN_MASKED,
        IN_SLOTS,
      )
    x_at = x_ptr + safe_rows * INNER + inner[None, :]  # [TILE_ROWS, DEPTH]
    w_at = w_ptr + inner[:, None] * W_INNER + cols[None, :] * W_OUTER
    if EVEN:
      x = tl.load(x_at)
      w = tl.load(w_at)
    else:
      known = first + tl.arange(0, DEPTH) < num_inner
      known = known & (inner < INNER)
      x = tl.load(x_at, mask=known[None, :], other=0.0)
      w_known = known[:, None] & (cols < OUTER)[None, :]
      w = tl.load(w_at, mask=w_known, other=0.0)
    acc = _dot(x, w, acc, PRECISION, UPCAST)

  if BIAS:
    acc += tl.load(bias_ptr + cols, mask=cols < OUTER)[None, :].to(tl.float32)
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
    keep_ptr, units, LENGTH: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, SLOTS: tl.constexpr,
):
  """Returns int32 [LENGTH]: the flags of units' blocks, 1 without a mask."""
  if not MASKED:
    return tl.full((LENGTH,), 1, tl.int32)
  slot = units // BLOCK
  return tl.load(keep_ptr + slot, mask=slot < SLOTS, other=0)


@triton.jit
def _dw_kernel(
    x_ptr, dy_ptr, in_keep_ptr, in_table_ptr, in_count_ptr, out_keep_ptr,
    out_table_ptr, out_count_ptr, dw_ptr, ROWS: tl.constexpr,
    POSITIONS: tl.constexpr, GROUPS: tl.constexpr, INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr, IN_MASKED: tl.constexpr, IN_BLOCK: tl.constexpr,
    IN_SLOTS: tl.constexpr, OUT_MASKED: tl.constexpr, OUT_BLOCK: tl.constexpr,
    OUT_SLOTS: tl.constexpr, TILE_ROWS: tl.constexpr, TILE_COLS: tl.constexpr,
    DEPTH: tl.constexpr, ROW_TILES: tl.constexpr, COL_TILES: tl.constexpr,
    SWIZZLE: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
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
    in_table_ptr, row_tile * TILE_ROWS, TILE_ROWS, IN_BLOCK,
    IN_MASKED and GROUPS == 1, IN_SLOTS,
  )
  outs = _units(
    out_table_ptr, col_tile * TILE_COLS, TILE_COLS, OUT_BLOCK,
    OUT_MASKED and GROUPS == 1, OUT_SLOTS,
  )

  acc = tl.zeros((TILE_ROWS, TILE_COLS), tl.float32)
  for group in range(0, GROUPS):
    group_id = tl.full((), group, tl.int32)
    start, end = _group_rows(group_id, ROWS, GROUPS, POSITIONS)
    keep_ins = _keeps(
      in_keep_ptr + group * IN_SLOTS, ins, TILE_ROWS, IN_BLOCK, IN_MASKED,
      IN_SLOTS,
    )
    keep_outs = _keeps(
      out_keep_ptr + group * OUT_SLOTS, outs, TILE_COLS, OUT_BLOCK, OUT_MASKED,
      OUT_SLOTS,
    )
    live = (tl.max(keep_ins, 0) > 0) & (tl.max(keep_outs, 0) > 0)  # pyright: ignore[reportOperatorIssue]
    num_steps = tl.where(live, tl.cdiv(end - start, DEPTH), 0).to(tl.int32)
    # Invariant: acc holds whole groups before this one, and `step` tiles of it.
    for step in range(0, num_steps):
      rows = start + step * DEPTH + tl.arange(0, DEPTH)
      x_at = x_ptr + rows[None, :] * INPUTS + ins[:, None]  # [TILE_ROWS, DEPTH]
      dy_at = dy_ptr + rows[:, None] * OUTPUTS + outs[None, :]
      if EVEN:
        x = tl.load(x_at)
        dy = tl.load(dy_at)
      else:
        known = rows < end
        x_known = known[None, :] & (ins < INPUTS)[:, None]
        dy_known = known[:, None] & (outs < OUTPUTS)[None, :]
        x = tl.load(x_at, mask=x_known, other=0.0)
        dy = tl.load(dy_at, mask=dy_known, other=0.0)
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


# fmt: on
KERNELS = {"rows": _rows_kernel, "dw": _dw_kernel}


def forward(
  capability: int,
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  w: Float[Array, "I O"],
  b: Float[Array, "O"] | None,
  in_keep: dense.Keep,
  out_keep: dense.Keep,
  tables: blocks.Tables,
  *,
  activation: str | None = None,
) -> Float[Array, "B P O"]:
  """As `dense.forward`, with bias and activation in the epilogue."""
  launch = launches.forward(
    capability, problem, bias=b is not None, relu=activation == "relu"
  )
  del in_keep, out_keep  # The tables say it all.
  ins, outs = map(_or_empty, tables)
  return _call(capability, launch, x, w, x if b is None else b, *ins, *outs)


def dx(
  capability: int,
  problem: problems.Problem,
  dy: Float[Array, "B P O"],
  w: Float[Array, "I O"],
  in_keep: dense.Keep,
  out_keep: dense.Keep,
  tables: blocks.Tables,
) -> Float[Array, "B P I"]:
  """As `dense.dx`."""
  launch = launches.dx(capability, problem)
  del in_keep, out_keep
  ins, outs = map(_or_empty, tables)
  return _call(capability, launch, dy, w, dy, *outs, *ins)


def dw(
  capability: int,
  problem: problems.Problem,
  x: Float[Array, "B P I"],
  dy: Float[Array, "B P O"],
  in_keep: dense.Keep,
  out_keep: dense.Keep,
  tables: blocks.Tables,
) -> Float[Array, "I O"]:
  """As `dense.dw`."""
  launch = launches.dw(capability, problem)
  ins, outs = map(_or_empty, tables)
  sides = (_flags(in_keep), *ins, _flags(out_keep), *outs)
  return _call(capability, launch, x, dy, *sides)


def _or_empty(table):
  """Returns a table and its counts; something to point at without a mask."""
  if table is None:
    empty = jnp.zeros((1, 1), jnp.int32)
    return empty, empty[0]
  return table


def _flags(keep):
  return jnp.ones((1, 1), jnp.int32) if keep is None else keep.astype(jnp.int32)


def _call(capability: int, launch: launches.Launch, *arrays):
  """Calls jax-triton; the one place that knows how its versions differ."""
  import jax_triton  # Lazy: the interpreter's tests do without it.

  parameters = inspect.signature(jax_triton.triton_call).parameters
  fusion = {"enable_fp_fusion": True}  # The default, which warns if left out.
  if "out_type" in parameters:  # From 0.4.
    versioned = {"out_type": launch.out, "backend_options": fusion}
  else:
    versioned = {"out_shape": launch.out, **fusion}
  return jax_triton.triton_call(
    *arrays,
    kernel=KERNELS[launch.kernel],
    grid=launch.grid,
    name=launch.name,
    compute_capability=capability,
    num_warps=launch.tile.num_warps,
    num_stages=launch.tile.num_stages,
    **versioned,
    **launch.meta,
  )
