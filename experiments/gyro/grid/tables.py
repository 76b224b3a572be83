"""Figure 1 and tables 1, 2 and 6 of the gyro dropout paper, as text."""

from collections.abc import Sequence

from experiments.gyro import paper
from experiments.gyro.grid import rows as grid_rows
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import tables


def figure_1(rows: Sequence[rows_lib.Row]) -> tables.Table:
  """Returns figure 1 as a table: Sigma with tau = min(256, Sigma)."""
  header = ["model", "method", "Sigma", "tau", "subnets trained"]
  header += ["test accuracy", "minus conventional"]
  lines = []
  for (dataset, model), same in rows_lib.group(
    rows, "dataset", "model"
  ).items():
    conventional = grid_rows.of_method(same, "conventional")
    for method in ("none", "conventional"):
      chosen = grid_rows.of_method(same, method)
      difference = (
        "" if method == "conventional" else _minus(chosen, conventional)
      )
      lines.append(
        [
          f"{model}/{dataset}",
          method,
          *("", ""),
          _trained(chosen),
          _mean(chosen),
          difference,
        ]
      )
    groups = rows_lib.group(grid_rows.figure_1(same), "total", "concurrent")
    for (total, tau), chosen in sorted(groups.items()):
      lines.append(
        [
          f"{model}/{dataset}",
          "gyro",
          f"{total:,}",
          str(tau),
          _trained(chosen),
          _mean(chosen),
          _minus(chosen, conventional),
        ]
      )
  return header, lines


def square(same: Sequence[rows_lib.Row]) -> str:
  """Returns table 1 of one model: Sigma x tau."""
  chosen = [row for row in same if grid_rows.is_consecutive(row)]
  return _matrix(chosen, "total", "concurrent", "Sigma", "tau")


def scheduling(same: Sequence[rows_lib.Row]) -> str:
  """Returns table 6 of one model, both schedulings at EQUAL (Sigma, tau)."""
  header = ["Sigma", "tau", "consecutive", "random", "trained by random"]
  header += ["consecutive minus random"]
  lines = []
  groups = rows_lib.group(
    grid_rows.of_method(same, "gyro"), "total", "concurrent"
  )
  for (total, tau), cell in sorted(groups.items()):
    halves = rows_lib.group(cell, "scheduling")
    if len(halves) < 2:
      continue
    first, second = halves["consecutive",], halves["random",]
    lines.append(
      [
        f"{total:,}",
        str(tau),
        _mean(first),
        _mean(second),
        _trained(second),
        _minus(first, second),
      ]
    )
  return tables.text(header, lines)


def blocks(same: Sequence[rows_lib.Row]) -> str:
  """Returns table 2 of one model: blocks x tau, Sigma in columns."""
  chosen = grid_rows.of_method(same, "blockwise")
  totals = sorted({row["total"] for row in chosen})
  header = ["block, rows x units", "units of 1024", "tau"]
  header += [f"Sigma = {total:,}" for total in totals]
  lines = []
  groups = rows_lib.group(
    chosen, "rows_per_subnet", "block_size", "block_of_1024", "concurrent"
  )
  for (rows, size, of_1024, tau), cell in sorted(groups.items(), reverse=True):
    lines.append(
      [
        f"{rows} x {size}",
        str(of_1024),
        str(tau),
        *(
          _cell([row for row in cell if row["total"] == total])
          for total in totals
        ),
      ]
    )
  return tables.text(header, lines)


def of_the_paper() -> list[str]:
  """Returns the paper's own tables, each below its name."""
  found = []
  for model, table in paper.TABLE_1.items():
    header = ["Sigma", *(f"tau = {t}" for t in paper.TABLE_1_TAUS)]
    lines = []
    for total, values in table.items():
      cells = [f"{value:.2f}" for value in values]
      cells += ["-"] * (len(paper.TABLE_1_TAUS) - len(cells))
      lines.append([f"{total:,}", *cells])
    found += [f"Table 1, {model}:", tables.text(header, lines)]
  header = ["model", "Sigma", "tau", "consecutive", "random", "difference"]
  lines = []
  for model, (total, tau, value) in paper.TABLE_6_CONSECUTIVE.items():
    place = paper.TABLE_6_TAUS.index(tau)
    random = paper.TABLE_6[model][total][place]
    lines.append(
      [
        model,
        f"{total:,}",
        str(tau),
        f"{value:.2f}",
        f"{random:.2f}",
        f"{value - random:+.2f}",
      ]
    )
  found += ["Table 6, its cells that are equal:", tables.text(header, lines)]
  header = ["block, rows x units", "tau"]
  header += [f"Sigma = {total:,}" for total in paper.TABLE_2_TOTALS]
  lines = [
    [f"128 x {size}", str(tau), *(f"{value:.2f}" for value in values)]
    for size, rows in paper.TABLE_2.items()
    for tau, values in rows.items()
  ]
  return [*found, "Table 2, MLP1/SVHN:", tables.text(header, lines)]


def _matrix(
  rows: Sequence[rows_lib.Row], by: str, over: str, *words: str
) -> str:
  columns = sorted({row[over] for row in rows})
  header = [words[0], *(f"{words[1]} = {value:,}" for value in columns)]
  lines = [
    [
      f"{key[0]:,}",
      *(_cell([r for r in same if r[over] == value]) for value in columns),
    ]
    for key, same in sorted(rows_lib.group(rows, by).items())
  ]
  return tables.text(header, lines)


def _cell(rows: Sequence[rows_lib.Row]) -> str:
  if not rows:
    return "-"
  if all(map(grid_rows.all_trained, rows)):
    return _mean(rows)
  return f"{_mean(rows)}; {_trained(rows)}"


def _trained(rows: Sequence[rows_lib.Row]) -> str:
  """Returns how many subnets trained: a number, or from and to over seeds."""
  if not rows:
    return ""
  counts = sorted({row["num_subnets"] for row in rows})
  text = " to ".join(
    f"{count:,}" for count in (counts[0], counts[-1])[: len(counts)]
  )
  if all(map(grid_rows.all_trained, rows)):
    return text
  return f"not all Sigma trained ({text} of {rows[0]['total']:,})"


def _minus(
  first: Sequence[rows_lib.Row], second: Sequence[rows_lib.Row]
) -> str:
  return columns.paired(rows_lib.differences(first, second))


def _mean(rows: Sequence[rows_lib.Row]) -> str:
  if not rows:
    return "not run"
  return columns.points([row["accuracy"] for row in rows])
