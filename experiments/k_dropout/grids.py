"""The cells of each sweep, as lists of configurations with one seed each."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from experiments.k_dropout import sizes
from experiments.run import config as config_lib

Grid = list[config_lib.RunConfig]


def sequential(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns k x m for each order of the batches, and the two lines.

  Rows are permuted within frozen batches where that can tell something: for
  windows of a sixtieth of the run and more.
  """
  cells = lines(scale, depth, scale.orders)
  for order, m, k in itertools.product(scale.orders, scale.ms, scale.ks):
    if order != "rows" or 60 * k >= scale.num_steps:
      cells.append(_cell(scale, depth, order, method="sequential", k=k, m=m))
  return with_seeds(cells, scale.seeds)


def pooled(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns pool size x m for two orders of the batches, and the two lines.

  To them come pools as large as the number of subnets that sequential windows
  train at m = 1, P = T m / k, so that both are compared at equal P.
  """
  orders = scale.orders[:2]
  cells = lines(scale, depth, orders)
  matched = {scale.num_steps // k for k in scale.windows}
  pools = [(p, m) for m in scale.pool_ms for p in scale.pool_sizes]
  pools += [(p, 1) for p in sorted(matched - set(scale.pool_sizes))]
  for order, (pool_size, m) in itertools.product(orders, pools):
    own = dict(method="pooled", pool_size=pool_size, m=m)
    cells.append(_cell(scale, depth, order, **own))
  return with_seeds(cells, scale.seeds)


def rate(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns drop rates for standard dropout, a short window and a pool."""
  cells = lines(scale, depth, ("every_epoch",))
  window = min(scale.windows, key=lambda k: abs(60 * k - scale.num_steps))
  for value in scale.rates:
    for own in (
      dict(method="standard"),
      dict(method="sequential", k=window, m=1),
      dict(method="pooled", pool_size=50, m=min(8, max(scale.pool_ms))),
    ):
      cells.append(_cell(scale, depth, "every_epoch", rate=value, **own))
  return with_seeds(cells, scale.seeds)


def transition(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns the windows at m = 1 in runs of twice the length.

  At fixed T the number of subnets and the epochs of a window move together;
  at 2T the same window means twice the subnets.
  """
  double = dict(epochs=2 * scale.common["epochs"])
  cells = [
    _cell(scale, depth, "every_epoch", method="standard", **double),
    *(
      _cell(
        scale, depth, "every_epoch", method="sequential", k=k, m=1, **double
      )
      for k in scale.ks
    ),
  ]
  return with_seeds(cells, scale.seeds)


def transition_fine(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns windows around the transition, m = 1, at T / 2, T and 2 T.

  Reshuffled and with rows permuted: the sequential grid has none of the latter
  below T / 60, and there the first is behind already.
  """
  cells = []
  for order, half_runs in itertools.product(("every_epoch", "rows"), (1, 2, 4)):
    steps = half_runs * scale.num_steps // 2
    own = dict(
      epochs=half_runs * scale.common["epochs"] // 2,
      eval_every=steps,
      checkpoint_every=steps,
    )
    cells.append(_cell(scale, depth, order, method="standard", **own))
    cells += [
      _cell(scale, depth, order, method="sequential", k=k, m=1, **own)
      for k in scale.fine_ks
    ]
  return with_seeds(cells, scale.seeds)


def chosen_rate(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns drop rates on twice the seeds, of which the first choose.

  Held-out accuracy of the first seeds chooses each method's rate, among the
  five highest; the others are scored at it.
  """
  window = min(scale.windows, key=lambda k: abs(60 * k - scale.num_steps))
  cells = []
  for value in scale.rates[-5:]:
    for own in (
      dict(method="standard"),
      dict(method="sequential", k=window, m=1),
      dict(method="pooled", pool_size=50, m=min(8, max(scale.pool_ms))),
    ):
      held_out = dict(valid_fraction=0.1)
      cells.append(
        _cell(scale, depth, "every_epoch", rate=value, **own, **held_out)
      )
  return with_seeds(cells, 2 * scale.seeds)


def deep(scale: sizes.Scale, depth: int = 3) -> Grid:
  """Returns chosen cells with three hidden layers, as the authors' code has."""
  orders = scale.orders[:2]
  at_paper_scale = scale.name == "paper"
  cells = lines(scale, depth, orders if at_paper_scale else orders[:1])
  ms = (scale.ms[0], scale.ms[-1])
  for order, k, m in itertools.product(orders, scale.deep_ks, ms):
    cells.append(_cell(scale, depth, order, method="sequential", k=k, m=m))
  pools = () if at_paper_scale else scale.pool_sizes[1::2]
  for order, pool_size in itertools.product(orders, pools):
    own = dict(method="pooled", pool_size=pool_size, m=8)
    cells.append(_cell(scale, depth, order, **own))
  return with_seeds(cells, scale.deep_seeds)


def restarts(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns figure 2's settings."""
  window = min(scale.windows, key=lambda k: abs(60 * k - scale.num_steps))
  many = scale.ms[-1]
  settings: list[dict[str, Any]] = [
    dict(method="none"),
    dict(method="standard"),
    dict(method="sequential", k=1, m=1),
    dict(method="sequential", k=window, m=many),
    dict(method="sequential", k=window, m=1),
    dict(method="pooled", pool_size=50, m=many),
    dict(method="pooled", pool_size=50, m=1),
  ]
  cells = [_cell(scale, depth, "every_epoch", **own) for own in settings]
  return with_seeds(cells, scale.seeds)


def disjoint(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns two subnets that partition the units, and two independent ones.

  Both keep exact counts at rate .5 and have equal k, from 1 to a thirtieth of
  the run.
  """
  cells = lines(scale, depth, ("every_epoch",))
  for k in scale.ks:
    for partition in (True, False):
      if 30 * k <= scale.num_steps:
        own = dict(method="sequential", k=k, m=2, pattern="exact")
        own["partition"] = partition
        cells.append(_cell(scale, depth, "every_epoch", **own))
  return with_seeds(cells, scale.seeds)


def image_counts(scale: sizes.Scale, depth: int = 2) -> Grid:
  """Returns one window for the whole run, frozen, on few and many images.

  All have the epochs of the scale: an image is seen as often.
  """
  cells = []
  for count in scale.image_counts:
    steps = scale.common["epochs"] * (count // scale.common["batch_size"])
    own = dict(num_train=count, eval_every=steps, checkpoint_every=steps)
    methods = [dict(method="none"), dict(method="standard")]
    methods += [dict(method="sequential", k=steps, m=m) for m in scale.ms]
    cells += [_cell(scale, depth, "once", **own, **more) for more in methods]
  return with_seeds(cells, scale.seeds)


def lines(scale: sizes.Scale, depth: int, orders: Iterable[str]) -> Grid:
  """Returns the runs that the figures draw as lines: none and standard."""
  return [
    _cell(scale, depth, order, method=method)
    for order in orders
    for method in ("none", "standard")
  ]


def with_seeds(cells: Grid, seeds: int) -> Grid:
  """Returns each cell once a seed, without repetitions, in order."""
  found = {}
  for cell in cells:
    for seed in range(seeds):
      one = dataclasses.replace(cell, seed=seed, seeds=1)
      found[one] = one
  return list(found)


GRIDS: dict[str, Callable[..., Grid]] = {
  "sequential": sequential,
  "pooled": pooled,
  "rate": rate,
  "transition": transition,
  "transition_fine": transition_fine,
  "chosen_rate": chosen_rate,
  "deep": deep,
  "restarts": restarts,
  "disjoint": disjoint,
  "image_counts": image_counts,
}


def get(name: str, scale: sizes.Scale, depth: int | None = None) -> Grid:
  """Returns the cells of the grid called `name`.

  Args:
    name: of the grid.
    scale: its size.
    depth: hidden layers; default the grid's own.

  Raises:
    ValueError: there is no such grid.
  """
  config_lib.check_choice("grid", name, GRIDS)
  options = {} if depth is None else {"depth": depth}
  return GRIDS[name](scale, **options)


def _cell(
  scale: sizes.Scale, depth: int, order: str, **fields: Any
) -> config_lib.RunConfig:
  return scale.config(shuffle=order, num_hidden=depth, **fields)
