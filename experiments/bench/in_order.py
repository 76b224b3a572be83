"""Products of units in the order of their parts, against the dense product.

The cells from which `kdropout_jax.ops.measured` says where `auto` takes them:
a whole group of subnets, one side masked or both, forward and backward.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

import kdropout_jax as kd
from experiments.bench import timing
from experiments.report import tables
from kdropout_jax import _designs
from kdropout_jax import blocks
from kdropout_jax.masks import grouped
from kdropout_jax.ops import arguments
from kdropout_jax.ops import dispatch

_GROUPS = ((2, 2), (2, 4), (2, 8), (2, 16), (4, 4), (4, 8))
"""(P, T): T subnets, of which each keeps one P-th of the units."""


@dataclasses.dataclass(frozen=True)
class Cell:
  """One product.

  Attributes:
    rows: of the batch.
    width: inputs, and outputs.
    parts: P.
    groups: T.
    sides: "out" or "both".
  """

  rows: int
  width: int
  parts: int
  groups: int
  sides: str

  @property
  def masks(self) -> blocks.Masks:
    """Of a side that is masked."""
    return grouped.in_order(
      _designs.Design(self.parts, self.groups), self.width
    )

  def chosen(self) -> str:
    """Returns what `auto` runs on a CPU."""
    x, w = (
      jax.ShapeDtypeStruct(shape, jnp.float32)
      for shape in ((self.rows, self.width), (self.width, self.width))
    )
    ins = self.masks if self.sides == "both" else None
    problem = arguments.describe(x, w, ins, self.masks)
    return dispatch.choose("forward", problem, "cpu", None)[0]


def cells(smoke: bool = False) -> Iterator[Cell]:
  """Yields the cells; with `smoke` one of the smallest."""
  if smoke:
    yield Cell(32, 64, 2, 2, "both")
    return
  for rows in (128, 512):
    for width in (128, 256, 512, 1024, 2048):
      for parts, groups in _GROUPS:
        if rows < 16 * groups:
          continue
        for sides in ("out", "both"):
          yield Cell(rows, width, parts, groups, sides)


def measure(cell: Cell, rounds: int, flops_per_call: float) -> dict[str, Any]:
  """Times dense and small products in turn; returns a row."""
  flops = 6 * cell.rows * cell.width**2
  num_steps = max(1, min(50, int(flops_per_call / flops)))
  timings = timing.interleave(
    {name: _program(cell, name, num_steps) for name in ("dense", "compact")},
    rounds,
  )
  return {
    "part": "in_order",
    **dataclasses.asdict(cell),
    "ms": timings["compact"].median / num_steps * 1e3,
    "over_dense": timings["compact"].speedup_over(timings["dense"]),
    "chosen": cell.chosen(),
  }


def table(rows: list[dict[str, Any]]) -> str:
  """Returns the rows as a table, and where `auto` is slowest."""
  header = ("rows", "width", "P", "T", "masked", "ms", "x over dense", "auto")
  cells = [
    (
      *(str(row[name]) for name in ("rows", "width", "parts", "groups")),
      row["sides"],
      f"{row['ms']:.3f}",
      "{:.2f} [{:.2f}, {:.2f}]".format(*row["over_dense"]),
      row["chosen"],
    )
    for row in rows
  ]
  text = tables.text(header, cells)
  taken = [row["over_dense"][0] for row in rows if row["chosen"] == "compact"]
  if taken:
    text += (
      f"\n\nWhere auto takes the small products ({len(taken)} of"
      f" {len(rows)} cells) the worst median is {min(taken):.2f} of dense."
    )
  return text


def _program(cell: Cell, implementation, num_steps: int) -> timing.Program:
  masks, keys = cell.masks, jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (cell.rows, cell.width))
  w = jax.random.normal(keys[1], (cell.width, cell.width)) / cell.width**0.5

  def total(x, w):
    y = kd.masked_matmul(
      x,
      w,
      in_mask=masks if cell.sides == "both" else None,
      out_mask=masks,
      implementation=implementation,
    )
    return jnp.sum(jnp.tanh(y))

  def step(_, operands):
    grads = jax.grad(total, (0, 1))(*operands)
    moved = tuple(a + 1e-6 * grad for a, grad in zip(operands, grads))
    return moved, ()

  return timing.repeated(step, (x, w), num_steps)
