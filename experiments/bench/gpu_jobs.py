"""What the GPU suite measures, the most telling cells first.

A job is a name and a function of nothing that returns rows. Whole training
steps of every schedule come before single products: a step is what users wait
for, and a product that wins by itself can lose there.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from experiments.bench import products
from experiments.bench import shapes
from experiments.bench import steps

Job = tuple[str, Callable[[], list[dict[str, Any]]]]

_NET = steps.NETWORKS["kdropout"]
WIDE = dataclasses.replace(
  _NET,
  name="wide",
  hidden=4096,
  inputs=4096,
  batch_size=4096,
  dtype="bfloat16",
)
"""4096-4096-4096-10, batch 4096, bfloat16."""

_HALF = dataclasses.replace(_NET, dtype="bfloat16")
_STEPS = 50
_FLOPS = 5e13  # Long enough that a call is milliseconds of device time.


def jobs(rounds: int) -> Iterator[Job]:
  """Yields the jobs of a GPU, in order."""
  several = [name for name in steps.CANDIDATES if "k=970" not in name]
  for net in (_NET, _HALF, WIDE):
    yield from _steps(net, several, _STEPS, rounds)
  yield from _products(
    [shapes.SQUARE_4096_IN, shapes.SQUARE_4096, shapes.SPARSEDROP],
    [(0.5, 1, 128), (0.5, 8, 128), (0.5, 1, 32)],
    *("bfloat16", _FLOPS, rounds),
  )
  yield from _products(
    [shapes.SQUARE_4096_IN, shapes.SPARSEDROP, shapes.TABLE_7],
    [(rate, 1, 128) for rate in (0.0, 0.25, 0.75, 0.9)],
    *("bfloat16", _FLOPS, rounds),
  )
  yield from _products(
    [shapes.SQUARE_4096, shapes.KDROPOUT_HIDDEN, shapes.MLP_FIRST],
    [(0.5, 1, 128), (0.5, 8, 32), (0.5, 1, 1)],
    *("float32", _FLOPS, rounds),
  )
  for name in ("mlp1", "mlp2", "mlp3"):
    yield from _steps(steps.NETWORKS[name], several, _STEPS, rounds)


def smoke_jobs(rounds: int) -> Iterator[Job]:
  """Yields the same kinds of job at sizes for any machine."""
  net = steps.Network("smoke", 64, 2, True, inputs=32, batch_size=128)
  names = ["sequential T=1", "extracted T=1 k=97 frozen"]
  yield from _steps(net, names, 2, rounds)
  shape = shapes.Shape("smoke", 32, 64, 64)
  yield from _products([shape], [(0.5, 1, 32)], "float32", 1e9, rounds)


def _steps(
  net: steps.Network, names: list[str], num_steps: int, rounds: int
) -> Iterator[Job]:
  """Yields one job a candidate, each beside the baseline.

  One that fails, or that no time is left for, costs no other its row.
  """
  for name in names:
    if name != steps.BASELINE:
      yield (
        f"step of {net.name} {net.dtype}: {name}",
        lambda name=name: steps.measure(net, [name], num_steps, rounds),
      )


def _products(
  named: list[shapes.Shape],
  cells: list[tuple[float, int, int]],
  dtype: str,
  flops: float,
  rounds: int,
) -> Iterator[Job]:
  for shape in named:
    for rate, groups, block in cells:
      for direction in products.DIRECTIONS:
        case = products.Case(shape, rate, groups, block, direction, dtype)
        yield (
          f"product {shape.name} {dtype}: rate {rate:g}, T={groups}, blocks of"
          f" {block}, {direction}",
          lambda case=case: products.measure(case, rounds, flops),
        )
