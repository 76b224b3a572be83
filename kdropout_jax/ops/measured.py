"""Where an implementation was measured to beat the dense product: data only.

`dispatch` takes an implementation for "auto" in these regions and nowhere
else. Each says what was timed, on what, and where the rows are; what nobody
timed stays dense.
"""

import dataclasses

from kdropout_jax.ops import problems

__all__ = ()


@dataclasses.dataclass(frozen=True)
class Kernels:
  """Problems where the kernels win on CUDA, forward, dx and dw together.

  Attributes:
    name: what the region is called.
    groups: least and most subnets T of a step.
    sides: masked sides: "in", "out" or "both".
    block_sizes: least and most units a block.
    milliseconds: {product: (the kernel's, the dense product's)}; a product
      that is not in it stays dense.
    reason: what the choice rests on, and what was not timed.
    capabilities: compute capabilities that were timed.
    dtypes: of the operands.
    max_kept: largest kept share of a masked side.
    min_width: least units of either side.
    min_rows: least rows and positions of a step.
    source: the section with the rows.
  """

  name: str
  groups: tuple[int, int]
  sides: tuple[str, ...]
  block_sizes: tuple[int, int]
  milliseconds: dict[str, tuple[float, float]]
  reason: str
  # All times so far: 4096^3, half kept, one H200, jax 0.11.2, triton 3.6.0.
  capabilities: tuple[int, ...] = (90,)
  dtypes: tuple[str, ...] = ("bfloat16",)
  max_kept: float = 0.5
  min_width: int = 4096
  min_rows: int = 4096
  source: str = "docs/results/kernels.md#times-on-a-gpu"

  def misses(self, problem: problems.Problem, capability: int) -> list[str]:
    """Returns the conditions that a problem does not meet, as phrases."""
    sides = [s for s in (problem.inputs, problem.outputs) if s.masked]
    shares = [side.kept_share for side in sides]
    sizes = [side.block_size for side in sides]
    rows = problem.rows * problem.positions
    width = min(problem.inputs.width, problem.outputs.width)
    least, most = self.block_sizes
    fewest, highest = self.groups
    conditions = {
      f"capability {capability / 10:g}": capability in self.capabilities,
      f"dtype {problem.dtype}": problem.dtype in self.dtypes,
      "no mask": bool(sides),
      f"masks {problem.masked_sides}": problem.masked_sides in self.sides,
      f"T = {problem.groups}": fewest <= problem.groups <= highest,
      f"blocks of {sizes}": all(least <= size <= most for size in sizes),
      "counts that vary": None not in shares,
      f"kept shares {shares}": all(
        share is not None and share <= self.max_kept for share in shares
      ),
      f"{rows} rows": rows >= self.min_rows,
      f"{width} units": width >= self.min_width,
    }
    return [name for name, met in conditions.items() if not met]


@dataclasses.dataclass(frozen=True)
class SmallProducts:
  """Products for which `compact` wins on a CPU.

  Each group copies its kept weights, which its rows repay by what they are
  spared; gathered rows are repaid by the width of the other side.

  Attributes:
    min_spared: multiplications that a copied weight must spare.
    min_spared_cached: the same where a cache may hold all copies.
    cached: elements that the cache holds.
    min_width: least units of either side.
    source: the page with the rows.
    reason: what the choice rests on.
  """

  min_spared: int
  min_spared_cached: int
  cached: int
  min_width: int
  source: str
  reason: str

  def misses(self, problem: problems.Problem) -> list[str]:
    """Returns the conditions that a problem does not meet, as phrases."""
    share, copied = problem.kept_share, problem.copied_share
    if share is None or copied is None:
      return ["counts that vary"]
    if share == 1:
      return ["nothing dropped"]
    inputs, outputs = problem.inputs.width, problem.outputs.width
    if min(inputs, outputs) < self.min_width:
      return [f"{min(inputs, outputs)} units"]
    rows = problem.rows * problem.positions / problem.groups
    cached = problem.groups * share * inputs * outputs <= self.cached
    need = self.min_spared_cached if cached else self.min_spared
    if rows * (1 - share) >= need * copied:
      return []
    return [f"{rows:g} rows a subnet, too few to repay what it copies"]


@dataclasses.dataclass(frozen=True)
class InOrder:
  """Products of units in the order of their parts that win on a CPU.

  With masks on both sides each group copies its weights, which its rows repay.
  Else rows are repeated for every part of a group, which the width repays.

  Attributes:
    min_rows: rows a group that repay copies of weights.
    max_parts: most parts that a group keeps, where rows are repeated.
    min_spared: multiplications that a repeated element must spare.
    min_spared_both: the same with masks on both sides, of which one is left to
      the other operand; a group then keeps at most P parts.
    min_width: least units of either side.
    source: the page with the rows.
    reason: what the choice rests on.
  """

  min_rows: int
  max_parts: int
  min_spared: int
  min_spared_both: int
  min_width: int
  source: str
  reason: str

  def copies_pay(self, problem: problems.Problem) -> bool:
    """Returns whether each group should copy the weights that it keeps."""
    rows = problem.rows * problem.positions
    return (
      problem.masked_sides == "both" and rows >= self.min_rows * problem.groups
    )

  def misses(self, problem: problems.Problem) -> list[str]:
    """Returns the conditions that a problem does not meet, as phrases."""
    sides = (problem.inputs, problem.outputs)
    width = min(side.width for side in sides)
    if width < self.min_width:
      return [f"{width} units"]
    if self.copies_pay(problem):
      return []
    designs = [s.design for s in sides if s.design is not None]
    is_both = problem.masked_sides == "both"
    for design in designs:
      most = min(self.max_parts, design.parts if is_both else self.max_parts)
      if design.num_parts > most * design.parts:
        return [f"{design.num_parts // design.parts} parts a group"]
    spared = min(_spared(side) for side in sides if side.masked)
    if spared < (self.min_spared_both if is_both else self.min_spared):
      return [f"{spared:g} multiplications spared, too few to repay rows"]
    return []


def _spared(side: problems.Side) -> float:
  """Returns what an element that is repeated for a group's parts spares."""
  assert side.design is not None
  parts, num_parts = side.design.parts, side.design.num_parts
  return side.width * (1 - 1 / parts) * parts / num_parts


CUDA = (
  Kernels(
    name="one subnet, blocks of 32",
    groups=(1, 1),
    sides=("in", "out", "both"),
    block_sizes=(32, 63),
    milliseconds={
      "forward": (0.144, 0.200),
      "dx": (0.105, 0.200),
      "dw": (0.100, 0.200),
    },
    reason=(
      "both masks timed product by product; a whole 4096-wide step with masks"
      " made beforehand took 1.04 ms with kernels, 1.48 with the dense product;"
      " an in mask with everything it adds .56 forward and backward, dense .68"
    ),
  ),
  Kernels(
    name="one subnet, blocks of 64 and more",
    groups=(1, 1),
    sides=("in", "out", "both"),
    block_sizes=(64, 4096),
    milliseconds={
      "forward": (0.136, 0.200),
      "dx": (0.135, 0.200),
      "dw": (0.140, 0.200),
    },
    reason=(
      "in mask: forward in a plain kernel with the loop that these have now,"
      " dx and dw with the same masks read by units; not timed since"
    ),
  ),
  Kernels(
    name="two to eight subnets, blocks of 32 to 127, both masks",
    groups=(2, 8),
    sides=("both",),
    block_sizes=(32, 127),
    milliseconds={"forward": (0.137, 0.200), "dx": (0.119, 0.200)},
    reason=(
      "T = 8, blocks of 32. A tile of dw holds several blocks, of which some"
      " subnet keeps one: nothing is skipped (.472 ms), so dw is dense"
    ),
  ),
  Kernels(
    name="two to eight subnets, blocks of 128 and more, both masks",
    groups=(2, 8),
    sides=("both",),
    block_sizes=(128, 4096),
    milliseconds={
      "forward": (0.127, 0.200),
      "dx": (0.106, 0.200),
      "dw": (0.123, 0.200),
    },
    reason=(
      "T = 8: dw with its tile of now, forward and dx with the same masks"
      " read by units; not timed since. With one mask, dw lost (.204)"
    ),
  ),
)

CPU = SmallProducts(
  min_spared=100,
  min_spared_cached=60,
  cached=1 << 22,
  min_width=64,
  source="docs/results/products.md",
  reason="two cores: never below .97 of dense in 122 cells where it is chosen",
)

CPU_IN_ORDER = InOrder(
  min_rows=50,
  max_parts=4,
  min_spared=100,
  min_spared_both=150,
  min_width=128,
  source="docs/results/in_order.md",
  reason="two cores: never below 1.03 of dense in 68 cells where it is chosen",
)
