"""A sweep of a user's own: the product of any fields of a run, times seeds.

A field that a setting's method has no use for is left out of that setting, so
that a list of methods can be crossed with the numbers of some of them.
"""

import itertools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import config as config_lib
from experiments.run import fields
from experiments.run import methods

Varied = Mapping[str, Sequence[Any]]
"""{field: its values}."""

_SEEDS = ("seed", "seeds")


def parse(
  words: Sequence[str], read: Callable[[str, str], Any]
) -> dict[str, tuple[Any, ...]]:
  """Returns what ``--vary=k=10,97`` and its like say.

  Args:
    words: ``field=value,value``, one a flag.
    read: (field, word) -> the value; it raises a ValueError.

  Raises:
    ValueError: no field, none of a run, twice the same, or a wrong value.
  """
  names = [name for name in config_lib.DEFAULTS if name not in _SEEDS]
  found: dict[str, tuple[Any, ...]] = {}
  for word in words:
    name, _, values = word.partition("=")
    if not values:
      raise ValueError(f"vary must be field=value,value, got {word!r}")
    if name in _SEEDS:
      raise ValueError(
        f"vary must not name {name}: --seed is the first, --seeds how many"
      )
    fields.check_choice("vary", name, names)
    if name in found:
      raise ValueError(f"vary must name a field once, got {name} twice")
    found[name] = tuple(dict.fromkeys(read(name, v) for v in values.split(",")))
  if not found:
    raise ValueError("vary must name at least one field, got none")
  return found


def implied_method(varied: Varied) -> str | None:
  """Returns the one method that has all the varied fields of methods.

  None where they are of no method alone.

  Raises:
    ValueError: several methods have them, or none has all.
  """
  own = [name for name in varied if methods.users(name)]
  if "method" in varied or not own:
    return None
  found = [
    method
    for method in methods.METHODS
    if all(method in methods.users(name) for name in own)
  ]
  if len(found) != 1:
    whose = f"of {' and '.join(found)}" if found else "of no one method"
    raise ValueError(
      f"method must be given or varied: {', '.join(own)} are {whose}"
    )
  return found[0]


def settings(
  varied: Varied, complete: Callable[..., Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """Returns the product of the varied fields, each combination once.

  A field that some combinations use is left at its default in the others.

  Args:
    varied: fields and values.
    complete: from fields of its own to all fields of a run.
  """
  product = [
    complete(**dict(zip(varied, values)))
    for values in itertools.product(*varied.values())
  ]
  used = [_used(whole) for whole in product]
  somewhere = set().union(*used)
  found = []
  for whole, here in zip(product, used):
    own = {name: whole[name] for name in varied}
    own |= {name: config_lib.DEFAULTS[name] for name in somewhere - here}
    if own not in found:
      found.append(own)
  return found


def _used(values: Mapping[str, Any]) -> set[str]:
  whole = types.SimpleNamespace(**values)
  return {n for n in config_lib.DEFAULTS if config_lib.is_used(whole, n)}


def cells(
  chosen: Sequence[Mapping[str, Any]],
  make: Callable[..., config_lib.RunConfig],
  seeds: range,
) -> list[config_lib.RunConfig]:
  """Returns the cells of the settings, one a seed.

  Args:
    chosen: the settings.
    make: makes a configuration from fields of its own.
    seeds: of each setting.
  """
  return [make(**one, seed=seed, seeds=1) for one in chosen for seed in seeds]


def report(
  name: str, varied: Varied, all_cells: sweeps.Cells, folder: Any
) -> study.Report:
  """Returns the report of the finished cells.

  Args:
    name: of its files.
    varied: fields and values.
    all_cells: the cells.
    folder: of the sweep.
  """
  rows = [
    row | {n: _shown(cell, n) for n in varied}
    for cell in all_cells
    for row in cell_rows.rows([cell], folder)
  ]
  return study.Report(
    name=name,
    title=f"Sweep: {', '.join(varied)}",
    setting=_setting(all_cells[0], varied),
    table=columns.table(rows, tuple(varied), _columns(varied)),
    rows=rows,
    numbers={"varied": {n: list(v) for n, v in varied.items()}},
    draw=figures.drawing([panel(varied, rows)]),
  )


def label(varied: Varied) -> Callable[[config_lib.RunConfig], str]:
  """Returns what names a cell by its varied fields."""
  return lambda cell: _label({n: _shown(cell, n) for n in varied}, list(varied))


def panel(varied: Varied, rows: Sequence[rows_lib.Row]) -> figures.Panel:
  """Returns the panel: accuracy by the longest numeric field, else points."""
  numeric = [n for n, v in varied.items() if len(v) > 1 and _are_numbers(v)]
  x = max(numeric, key=lambda n: len(varied[n]), default=None)
  others = [n for n in varied if n != x]
  groups = rows_lib.group(rows, *others)
  if x is None:
    dots = {_label(g[0], others): _points(g) for g in groups.values()}
    return figures.Panel(dots=dots)
  lines, levels = {}, {}
  for same in groups.values():
    name = _label(same[0], others) or "mean"
    if same[0][x] is None:
      levels[name] = float(np.mean(_points(same)))
    else:
      lines[name] = rows_lib.curve(same, x)
  low, high = min(varied[x]), max(varied[x])
  return figures.Panel(
    x_label=x, lines=lines, levels=levels, log_x=low > 0 and high >= 8 * low
  )


def _shown(cell: config_lib.RunConfig, name: str) -> Any:
  """Returns a field as plain data, None where the cell has no use for it."""
  if not config_lib.is_used(cell, name):
    return None
  value = getattr(cell, name)
  return "+".join(map(str, value)) if isinstance(value, tuple) else value


def _columns(varied: Varied) -> dict[str, columns.Column]:
  return {
    **{name: columns.setting(name) for name in ("method", *varied)},
    "steps": columns.setting("steps", "{:,}"),
    "subnets": columns.setting("num_subnets", "{:,}"),
    "train accuracy": columns.spread("train_accuracy"),
    "test accuracy": columns.spread("accuracy"),
  }


def _setting(cell: config_lib.RunConfig, varied: Varied) -> str:
  hidden = {*varied, "seed", "method", "dataset", "model"}
  words = [
    f"{name}={value}"
    for name, value in cell.identity().items()
    if name not in hidden
  ]
  what = ", ".join([f"{cell.model} on {cell.dataset}", *words])
  return (
    f"{what}; the test set is read once, at the end. Accuracies in points,"
    " mean +- standard deviation over seeds."
  )


def _label(row: rows_lib.Row, names: Sequence[str]) -> str:
  return " ".join(f"{n}={row[n]}" for n in names if row[n] is not None)


def _points(rows: Sequence[rows_lib.Row]) -> list[float]:
  return [row["accuracy"] for row in rows]


def _are_numbers(values: Sequence[Any]) -> bool:
  return all(
    isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)
    for v in values
  )
