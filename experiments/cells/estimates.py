"""What a sweep will cost: cells, steps, and time, before it runs."""

import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments import data as data_lib
from experiments.cells import sweeps
from experiments.report import tables
from experiments.run import config as config_lib
from experiments.run import shown

_COMPILE_SECONDS = 6.0
_SHARE_OF_PEAK = 0.5


def describe(
  cells: sweeps.Cells,
  folder: pathlib.Path,
  max_members: int,
  which: str,
  label: Callable[[config_lib.RunConfig], str] | None = None,
) -> str:
  """Returns a table of a shard's packs, and the time they will take.

  Seconds a step come from finished cells of the same shapes where there are
  any, else from the time of a product of the first layer's size.

  Args:
    cells: configurations of one seed each.
    folder: of the sweep.
    max_members: cells of one program, at most.
    which: the shard, "i/n".
    label: names a cell; default by order of the batches and method.
  """
  mine = sweeps.shard(sweeps.packs(cells, max_members), which)
  known = _measured_by_shape(cells, folder)
  lines, total, left, steps = [], 0.0, 0, 0
  for pack in mine:
    todo = sweeps.unfinished(pack, folder)
    each = known.get(_shape(pack[0])) or _guess(pack[0])
    count = num_steps(pack[0])
    seconds = len(todo) * count * each + (_COMPILE_SECONDS if todo else 0.0)
    total, left, steps = (
      total + seconds,
      left + len(todo),
      steps + (len(todo) * count),
    )
    lines.append(
      (
        ", ".join(dict.fromkeys(map(label or _label, pack)))[:72],
        str(len(pack)),
        str(len(pack) - len(todo)),
        f"{count:,}",
        f"{seconds:,.0f}",
      )
    )
  header = ("cells", "number", "finished", "steps each", "seconds left")
  basis = "measured on finished cells" if known else "a guess: none finished"
  return (
    f"{tables.text(header, lines)}\n\n{sum(map(len, mine))} cells in"
    f" {len(mine)} programs; {left} cells and {steps:,} steps are left,"
    f" about {total / 60:.1f} minutes ({basis})"
    f"{_names(cells) if label is None else ''}"
  )


def _names(cells: sweeps.Cells) -> str:
  """Returns the names by which ``--cells`` takes cells, a line each."""
  return "\n\nnames:\n" + "\n".join(dict.fromkeys(map(name, cells)))


def name(cell: config_lib.RunConfig) -> str:
  """Returns a cell's name, its seed apart: "once sequential k=97 m=8"."""
  return _label(cell)


def num_steps(cell: config_lib.RunConfig, data_dir: str | None = None) -> int:
  """Returns a cell's steps; only sizes of the dataset are read."""
  if cell.num_steps is not None or cell.num_train is not None:
    return cell.steps(cell.num_train or 0)
  whole = data_lib.load(cell.dataset, data_dir).num_train
  return cell.steps(whole - round(cell.valid_fraction * whole))


def _label(cell: config_lib.RunConfig) -> str:
  return f"{cell.shuffle} {cell.method} {shown.describe(cell)}".strip()


def _shape(cell: config_lib.RunConfig):
  return (
    cell.model,
    cell.hidden,
    cell.num_hidden,
    cell.batch_size,
    cell.method,
  )


def _measured_by_shape(cells, folder) -> dict:
  seconds: dict = {}
  found = sweeps.measured(cells, folder)
  for cell in cells:
    if cell.digest() in found:
      seconds.setdefault(_shape(cell), []).append(found[cell.digest()])
  return {shape: float(np.mean(values)) for shape, values in seconds.items()}


_rates: dict[tuple[int, int], float] = {}


def _guess(cell: config_lib.RunConfig) -> float:
  """Returns seconds a step: six products of the widest layers' sizes."""
  width, batch = cell.hidden or 1024, cell.batch_size
  if (batch, width) not in _rates:
    product = jax.jit(jnp.matmul)
    x, w = jnp.ones((batch, width)), jnp.ones((width, width))
    product(x, w).block_until_ready()
    began = time.perf_counter()
    for _ in range(20):
      product(x, w).block_until_ready()
    _rates[batch, width] = (time.perf_counter() - began) / 20
  inputs = 3072 // (cell.mean_pool**2) if cell.dataset != "digits" else 64
  layers = inputs / width + (cell.num_hidden or 2) - 1
  return 3 * layers * _rates[batch, width] / _SHARE_OF_PEAK
