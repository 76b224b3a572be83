"""Timed programs of the masked product, and of what users run instead of it.

Each program is one compiled scan (`timing.repeated`). Masks and index tables
are made anew in every step of it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

import kdropout_jax as kd
from experiments.bench import shapes as named
from experiments.bench import timing
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import problems

MATMUL = "x @ w"
FLAX = "flax dropout"
DIRECTIONS = ("forward", "forward+backward")


@dataclasses.dataclass(frozen=True)
class Case:
  """One cell of the grid.

  Attributes:
    shape: sizes, and which sides are masked.
    rate: probability of dropping.
    groups: subnets T of a step.
    block_size: units a block; 1 means single units.
    direction: one of `DIRECTIONS`.
    dtype: of the operands.
  """

  shape: named.Shape
  rate: float
  groups: int
  block_size: int
  direction: str
  dtype: str = "float32"

  @property
  def pattern(self) -> kd.Blocks:
    """An exact count of blocks, so that every implementation serves it."""
    return kd.Blocks(self.rate, block_size=self.block_size)

  @property
  def widths(self) -> tuple[int | None, int | None]:
    """Units of the masked inputs and outputs, None without a mask."""
    shape = self.shape
    return (
      shape.inputs if shape.masks in ("in", "both") else None,
      shape.outputs if shape.masks in ("out", "both") else None,
    )

  @property
  def ideal(self) -> float:
    """Ratio of all multiplications to those that are left."""
    share = 1.0
    for width in self.widths:
      if width is not None:
        blocks = -(-width // self.block_size)
        share *= (self.pattern.num_kept(width) or 0) / blocks
    return 1 / share if share else float("inf")

  @property
  def flops(self) -> int:
    """Floating-point operations of the dense product in this direction."""
    shape = self.shape
    once = 2 * shape.rows * shape.inputs * shape.outputs
    return once if self.direction == "forward" else 3 * once


def star(
  shapes, rates, groups, block_sizes, dtype: str, full: bool = False
) -> Iterator[Case]:
  """Yields the grid's cells: all of them, or those with one thing varied.

  The middle of the star is rate .5, one group and blocks of 32.
  """
  middle = (0.5, 1, 32)
  for shape in shapes:
    for cell in [(r, t, b) for r in rates for t in groups for b in block_sizes]:
      moved = sum(a != b for a, b in zip(cell, middle))
      fits = cell[2] <= min(shape.inputs, shape.outputs) or shape.outputs < 32
      if fits and (full or moved <= 1) and cell[1] <= shape.rows:
        for direction in DIRECTIONS:
          yield Case(shape, cell[0], cell[1], cell[2], direction, dtype)


def candidates(case: Case, num_steps: int) -> dict[str, Callable[[], object]]:
  """Returns {name: compiled program}, `MATMUL` first.

  Implementations that cannot serve the case here are left out.
  """
  baseline = dataclasses.replace(case, rate=0.5, groups=1, block_size=1)
  flax = dataclasses.replace(baseline, rate=case.rate)
  found = {
    MATMUL: _program(MATMUL, baseline, num_steps),
    FLAX: _program(FLAX, flax, num_steps),
  }
  for name in (*dispatch.IMPLEMENTATIONS, "auto"):
    try:
      found[name] = _program(name, case, num_steps)
    except kd.UnsupportedError:
      continue
  return found


def measure(
  case: Case, rounds: int, flops_per_call: float
) -> list[dict[str, Any]]:
  """Times all candidates of a cell in turn; returns one row a candidate."""
  num_steps = max(1, min(50, int(flops_per_call / case.flops)))
  timings = timing.interleave(candidates(case, num_steps), rounds)
  cell = {f.name: getattr(case, f.name) for f in dataclasses.fields(case)}
  cell |= {"shape": case.shape.name, "masks": case.shape.masks}
  return [
    {
      "part": "op",
      **cell,
      "candidate": name,
      "chosen": choice(case) if name == "auto" else None,
      "ms": timed.median / num_steps * 1e3,
      "ideal": case.ideal,
      "over_matmul": timed.speedup_over(timings[MATMUL]),
      "over_flax": timed.speedup_over(timings[FLAX]),
      "over_dense": timed.speedup_over(timings["dense"]),
    }
    for name, timed in timings.items()
  ]


def choice(case: Case) -> str:
  """Returns what auto runs for the forward product here."""
  plan = dispatch.plan(_problem(case), "auto").of("forward")
  platform = jax.default_backend()
  return plan.get("cuda" if platform == "gpu" else platform, plan["default"])


def _problem(case: Case) -> problems.Problem:
  def side(size, width):
    if width is None:
      return problems.Side(size)
    kept = case.pattern.num_kept(width)
    return problems.Side(size, case.block_size, kept, masked=True)

  in_width, out_width = case.widths
  return problems.Problem(
    rows=case.shape.rows,
    positions=1,
    groups=case.groups,
    inputs=side(case.shape.inputs, in_width),
    outputs=side(case.shape.outputs, out_width),
    dtype=case.dtype,
  )


@functools.lru_cache(maxsize=32)
def _program(name: str, case: Case, num_steps: int) -> Callable[[], object]:
  """Compiles the scan of one candidate, with operands of its own."""
  shape = case.shape
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (shape.rows, shape.inputs), case.dtype)
  w = jax.random.normal(keys[1], (shape.inputs, shape.outputs), case.dtype)
  dy = jax.random.normal(keys[2], (shape.rows, shape.outputs), case.dtype)
  product = _product(name, case)

  def once(step, operands):
    x, w, dy = operands
    if case.direction == "forward":
      return operands, (product(x, w, step),)
    y, vjp = jax.vjp(lambda x, w: product(x, w, step), x, w)
    return operands, (y, *vjp(dy))

  return timing.repeated(once, (x, w, dy), num_steps)


def _product(name: str, case: Case):
  """Returns the candidate as a function of x, w and the step."""
  if name == MATMUL:
    return lambda x, w, step: x @ w
  if name == FLAX:
    return functools.partial(_flax_product, case)
  return functools.partial(_masked_product, case, name)


def _flax_product(case, x, w, step):
  key = jax.random.fold_in(jax.random.key(1), step)
  drop = nn.Dropout(case.rate, deterministic=False)
  if case.widths[0] is None:
    return drop.apply({}, x @ w, rngs={"dropout": key})
  return drop.apply({}, x, rngs={"dropout": key}) @ w


def _masked_product(case, implementation, x, w, step):
  ids = jnp.arange(case.groups, dtype=jnp.uint32)
  ids += step.astype(jnp.uint32) * case.groups
  in_mask, out_mask = (
    None if width is None else kd.subnet_masks(key, ids, width, case.pattern)
    for key, width in zip(jax.random.split(jax.random.key(2)), case.widths)
  )
  return kd.masked_matmul(
    x, w, in_mask=in_mask, out_mask=out_mask, implementation=implementation
  )
