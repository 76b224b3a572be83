"""How many images each of m frozen masks sees, and what that costs.

The grid ``image_counts``: frozen batches, one window for the whole run, m masks
and N images. Whether N / m decides is judged by `image_claims`.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.cells import rows as cell_rows
from experiments.cells import sweeps
from experiments.judge import statistics
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import tables

_COLUMNS: dict[str, columns.Column] = {
  "images": columns.setting("images", "{:,}"),
  "steps": columns.setting("steps", "{:,}"),
  "method": columns.setting("method"),
  "m": columns.setting("m"),
  "images a mask": columns.setting("images_a_mask", "{:,.0f}"),
  "test accuracy": columns.spread("accuracy"),
  "training accuracy": columns.spread("train_accuracy"),
  "below standard": lambda same: _below(same),
}


def rows(cells: sweeps.Cells, folder: pathlib.Path) -> list[rows_lib.Row]:
  """Returns a row a finished cell, with its images and those a mask.

  Args:
    cells: of the grid.
    folder: of the sweep.
  """
  finished = [c for c in cells if sweeps.result(c, folder) is not None]
  found = cell_rows.rows(cells, folder)
  for row, cell in zip(found, finished, strict=True):
    row["images"] = cell.num_train
    if row["method"] == "sequential":
      row["images_a_mask"] = row["images"] / row["m"]
  return with_deficits(found)


def with_deficits(found: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns the rows with their points below standard of the same N and seed.

  Args:
    found: rows with "images".
  """
  standard = {
    (row["images"], row["seed"]): row["accuracy"]
    for row in found
    if row["method"] == "standard"
  }
  places = [(row["images"], row["seed"]) for row in found]
  return [
    {**row, "deficit": standard[place] - row["accuracy"]}
    if place in standard
    else dict(row)
    for row, place in zip(found, places)
  ]


def table(found: Sequence[rows_lib.Row]) -> tables.Table:
  """Returns a line a number of images, method and m."""
  return columns.table(found, ("images", "method", "m"), _COLUMNS)


def panel(found: Sequence[rows_lib.Row]) -> figures.Panel:
  """Returns the deficit by the images that a mask sees, a line an N."""
  chosen = [r for r in found if r["method"] == "sequential" and "deficit" in r]
  return figures.Panel(
    title="frozen batches, one window for the whole run",
    x_label="training images that each mask sees, N / m",
    y_label="points below standard dropout",
    log_x=True,
    lines={
      f"N = {images:,}": rows_lib.curve(same, "images_a_mask", "deficit")
      for (images,), same in rows_lib.group(chosen, "images").items()
    },
    levels={"standard dropout": 0.0},
  )


def slopes(found: Sequence[rows_lib.Row]) -> list[rows_lib.Row]:
  """Returns two slopes of the deficit, for each seed.

  Least squares over m > 1 and N images: by log2(m / N), and by log2(N).

  Args:
    found: rows with "deficit".
  """
  chosen = [
    row
    for row in found
    if row["method"] == "sequential" and row["m"] > 1 and "deficit" in row
  ]
  result = []
  for (seed,), same in rows_lib.group(chosen, "seed").items():
    m = np.array([row["m"] for row in same], float)
    images = np.array([row["images"] for row in same], float)
    if len(set(m)) < 2 or len(set(images)) < 2:
      continue
    terms = np.stack([np.ones_like(m), np.log2(m / images), np.log2(images)], 1)
    deficits = np.array([row["deficit"] for row in same])
    _, halving, doubling = np.linalg.lstsq(terms, deficits)[0]
    result.append(
      {
        "method": "sequential",
        "seed": seed,
        "deficit_per_halving_of_images_a_mask": float(halving),
        "deficit_per_doubling_of_images": float(doubling),
      }
    )
  return result


def notes(found: Sequence[rows_lib.Row]) -> list[str]:
  """Returns what is fitted, with intervals."""
  fitted = slopes(found)
  if len(fitted) < 2:
    return []
  halving, doubling = (
    statistics.t_interval(np.array([row[name] for row in fitted]))
    for name in (
      "deficit_per_halving_of_images_a_mask",
      "deficit_per_doubling_of_images",
    )
  )
  return [
    "Deficit to standard dropout, fitted over m > 1: halving the images a mask"
    f" at one N costs {columns.interval(halving)} points, doubling N at one"
    f" N / m {columns.interval(doubling)} (95 % t intervals over seeds).",
    "The training images N are the table's, not those of the first line above."
    " An image is seen equally often at every N, so that more images mean more"
    " steps. At m = 1 half of the units never train: its deficit has another"
    " cause, and is not in the fit.",
  ]


def _below(same: Sequence[rows_lib.Row]) -> str:
  if same[0]["method"] == "standard":
    return ""
  return columns.paired([r["deficit"] for r in same if "deficit" in r])
