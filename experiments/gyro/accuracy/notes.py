"""What stands below table 4: gaps, power, settings, and what is not run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.gyro import paper
from experiments.gyro.accuracy import measured
from experiments.gyro.accuracy import settings
from experiments.gyro.accuracy import validity
from experiments.gyro.grid import rows as grid_rows
from experiments.judge import power
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import tables
from experiments.run import presets

_HIDDEN = ("num_devices", "test_curve", "checkpoint_every", "eval_every")
_POWER = 0.9


def notes(everything: Sequence[measured.Found], scale: str) -> list[str]:
  """Returns the further tables and sentences of the page."""
  ten = power.smallest_difference(0.25, 10, _POWER)
  found = [
    "Last epoch, whole test set, at table 3's fixed Sigma and tau: nothing is"
    " selected. The best evaluation on the test set is shown because the"
    " authors' code reports it; it is no estimate of accuracy. Differences are"
    " paired by seed, with their 95 % t interval.",
    "## Generalization gap (table 5)\n\nTraining minus test accuracy, both as"
    " an evaluation sees them: nothing dropped, no augmentation. The error in"
    " training mode is that of the steps since the last evaluation but one.",
    gap_table(everything),
    validity_section([row for f in everything for row in f.measured]),
    "## Power\n\nA difference of .2 points at a paired deviation of .25 needs"
    f" {power.seeds_needed(0.2, 0.25)} seeds for a chance of {_POWER:.0%} to be"
    f" told; ten seeds tell {ten:.2f}. At .09, the paper's own deviation of"
    " ResNet-18 on SVHN, its gain of .02 needs"
    f" {power.seeds_needed(0.02, 0.09)}.",
    power_table(everything),
    "## Settings",
    settings_table(everything),
  ]
  if any(
    not grid_rows.all_trained(row) for f in everything for row in f.measured
  ):
    found.append("Rows in which not all Sigma trained enter no claim.")
  missing = [line for f in everything if (line := _missing(f, scale))]
  if missing:
    found.append("## Not run\n\n" + "\n".join(missing))
  return found


def validity_section(rows: Sequence[rows_lib.Row]) -> str:
  """Returns which rows can tell kinds of dropout apart, by a rule."""
  words = f"## Does dropout help here?\n\n{validity.RULE}"
  return f"{words}\n\n{validity.table(rows)}" if rows else words


def gap_table(everything: Sequence[measured.Found]) -> str:
  """Returns table 5 as text: generalization gaps in points."""
  header = ["row", "method", "training accuracy", "gap", "minus conventional's"]
  header += ["error in training mode", "gap by it", "paper's gap"]
  lines = []
  for found in everything:
    for method in found.rows:
      lines.append(
        [
          found.row.label,
          method,
          *(
            columns.points(found.values(method, name))
            for name in ("train_accuracy", "generalization_gap")
          ),
          measured.minus_conventional(found, method, "generalization_gap"),
          *(
            columns.points(found.values(method, name))
            for name in ("train_mode_error", "train_mode_gap")
          ),
          _paper_gap(found.row.label, method),
        ]
      )
  return tables.text(header, lines)


def power_table(everything: Sequence[measured.Found]) -> str:
  """Returns as text what gyro's paired deviations let these seeds tell."""
  header = ["row", "seeds", "sd of gyro minus conventional"]
  header += [f"told with {_POWER:.0%}", "paper's gain", "chance to tell it"]
  header += ["seeds that it needs"]
  lines = []
  for found in everything:
    differences = (
      found.differences("gyro", "accuracy")
      if "gyro" in found.rows
      else np.zeros(0)
    )
    if differences.size < 2 or not differences.std() > 0:
      continue
    sd, count = float(differences.std(ddof=1)), differences.size
    line = [found.row.label, str(count), f"{sd:.2f}"]
    line.append(f"{power.smallest_difference(sd, count, _POWER):.2f}")
    gain = paper_gain(found.row.label)
    if gain is None:
      lines.append([*line, "-", "-", "-"])
      continue
    lines.append(
      [
        *line,
        f"{gain:+.2f}",
        f"{power.power(gain, sd, count):.0%}",
        f"{power.seeds_needed(gain, sd, _POWER):,}",
      ]
    )
  return tables.text(header, lines)


def settings_table(everything: Sequence[measured.Found]) -> str:
  """Returns as text where each row's settings come from, and what changed."""
  header = ["row", "Sigma, tau", "split", "settings that nobody states"]
  header += ["changed here"]
  lines = []
  for found in everything:
    if not found.measured:
      continue
    row, preset = found.row, presets.get(found.row.preset)
    total = row.own.get("total", preset.total)
    tau = row.own.get("concurrent", preset.concurrent)
    said = dict(preset.flags)
    said |= {
      n: row.own[n] for n in {*row.assumed} & row.own.keys() - said.keys()
    }
    changed = [
      f"{name}={_short(value)}"
      for name, value in row.own.items()
      if name not in _HIDDEN and said.get(name) != value
    ]
    lines.append(
      [
        row.label,
        f"{total}, {tau}",
        str(found.measured[0]["dataset_note"]),
        "assumed: " + ", ".join(row.assumed)
        if row.assumed
        else "none: the authors' code says all",
        ", ".join(changed) or "nothing",
      ]
    )
  return tables.text(header, lines)


def command(row: settings.TableRow, scale: str) -> str:
  """Returns the command that runs a row."""
  if row.command:
    return row.command
  scale = "paper" if row.not_run else scale
  return (
    f"python -m experiments.accuracy_table --scale={scale} --rows={row.label}"
  )


def paper_gain(label: str) -> float | None:
  """Returns gyro minus conventional in the paper's table 4, where it is > 0."""
  if label not in paper.TABLE_4:
    return None
  _, (conventional, _), (gyro, _), *_ = paper.TABLE_4[label]
  return gyro - conventional if gyro > conventional else None


def _missing(found: measured.Found, scale: str) -> str:
  """Returns a line on a row that is not run, or not to its end."""
  row = found.row
  wanted = sum(map(len, row.all_cells().values()))
  count = len(found.cells)
  if count and count == wanted:
    return ""
  why = row.not_run or (
    f"{count} of {wanted} cells are finished"
    if count
    else f"dataset {row.names['dataset']} not at hand, or not asked for"
  )
  return f"- {row.label}: {why}. `{command(row, scale)}`"


def _paper_gap(label: str, method: str) -> str:
  values = paper.TABLE_5.get(label, ())
  if method not in paper.METHODS:
    return "-"
  place = paper.METHODS.index(method)
  return f"{values[place]:.1f}" if place < len(values) else "-"


def _short(value: Any) -> str:
  if isinstance(value, tuple):
    return ",".join(map(str, value))
  return str(value)
