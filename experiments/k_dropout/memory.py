"""What masks cost in pipeline parallel training, standard against k-dropout.

  python -m experiments.memory --scale=cpu

Prints and writes two tables. By hand: bytes of masks alive at each stage of a
pipeline, one forward one backward, where stage s of S holds S - s microbatches
in flight. Measured, for one stage: the bytes that differentiation saves, and
the temporaries that dropout adds to the compiled step. Rows "masks" let the
backward pass expand the m masks of a microbatch again, by `jax.checkpoint`
around dropout; else they are saved row by row, and reuse saves nothing between
programs compiled one by one. A few minutes of two CPU cores at
--scale=cpu; expected: at m = 1 a hundredth and less of standard dropout's
bytes, at m = rows the same masks, shared by all microbatches in flight.
"""

from collections.abc import Mapping
from typing import Any

import tqdm
from absl import flags as absl_flags

from experiments.cells import experiment
from experiments.cells import flags as experiment_flags
from experiments.k_dropout import mask_memory
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import tables
from experiments.run import config as config_lib

# width, rows of a microbatch; m; depths; microbatches in flight.
_SCALES = {
  "paper": (2000, 512, (1, 8, 512), (1, 3), (1, 4, 8)),
  "cpu": (256, 128, (1, 8, 128), (1, 2, 4), (1, 4, 8)),
  "smoke": (64, 16, (1, 16), (1,), (1, 3)),
}

experiment_flags.define_results()
experiment_flags.define_out()

FLAGS = absl_flags.FLAGS


def main(argv: list[str]) -> None:
  del argv
  config_lib.check_choice("scale", FLAGS.scale, _SCALES)
  width, rows, ms, depths, in_flights = _SCALES[FLAGS.scale]
  stages = [
    mask_memory.Stage(width, depth, rows, in_flight, m, saves_masks)
    for depth in depths
    for in_flight in in_flights
    for m in (None, *ms)
    for saves_masks in (False, True)
  ]
  measured = [
    mask_memory.measure(stage)
    for stage in tqdm.tqdm(
      stages, desc="stages", unit="stage", disable=not FLAGS.progress
    )
  ]
  num_stages = max(in_flights)
  by_stage = [
    {
      "masks": _name(m) + ("" if m is None else f", k = {k}"),
      "bytes": [
        mask_memory.alive(
          s, num_stages, rows=rows, width=width, depth=max(depths), m=m, k=k
        )
        for s in range(num_stages)
      ],
    }
    for m in (None, *ms)
    for k in ((1,) if m is None else (1, num_stages))
  ]
  experiment.leave(
    "memory",
    page,
    {"by_stage": by_stage, "measured": measured},
    figures.drawing([panel(measured)]),
  )


def page(numbers: Mapping[str, Any]) -> str:
  """Returns the page over the numbers."""
  by_stage = numbers["by_stage"]
  num_stages = len(by_stage[0]["bytes"])
  heads = [f"stage {s} ({num_stages - s} in flight)" for s in range(num_stages)]
  parts = [
    f"`python -m experiments.memory --scale={numbers['scale']}` on"
    f" {numbers['device']}, jax {numbers['versions']['jax']}",
    "Bytes of masks alive at each stage of a pipeline, by hand",
    tables.text(
      ("masks", *heads),
      [(r["masks"], *(f"{v:,}" for v in r["bytes"])) for r in by_stage],
    ),
    "One stage, measured: bytes over the same stage without dropout (k at"
    " least the microbatches in flight)",
    tables.text(
      *columns.table(
        numbers["measured"],
        ("depth", "in_flight", "m", "saves_masks"),
        _COLUMNS,
      )
    ),
  ]
  return "\n\n".join(parts) + "\n"


def panel(measured: list[rows_lib.Row]) -> figures.Panel:
  """Returns bytes added to the compiled step against microbatches in flight."""
  deepest = max(row["depth"] for row in measured)
  rows = [
    row | {"at_least_1": max(row["added"], 1)}
    for row in measured
    if row["depth"] == deepest
  ]
  return figures.Panel(
    title=f"{deepest} layers on one stage of a pipeline",
    x_label="microbatches in flight",
    y_label="bytes added to the compiled step",
    log_y=True,
    lines={
      f"{_words(m)}, saves {_saves(same)}": rows_lib.curve(
        same, "in_flight", "at_least_1"
      )
      for (m, _), same in rows_lib.group(rows, "m", "saves_masks").items()
    },
  )


def _name(m: int | None) -> str:
  return "standard" if m is None else f"m = {m}"


def _words(m: int | None) -> str:
  return "standard dropout" if m is None else f"{m} subnets at a time"


def _saves(same: list[rows_lib.Row]) -> str:
  return "masks" if same[0]["saves_masks"] else "rows"


_COLUMNS: dict[str, columns.Column] = {
  "masks": lambda same: _name(same[0]["m"]),
  "saves": _saves,
  "depth": columns.setting("depth"),
  "in flight": columns.setting("in_flight"),
  "masks alive, by hand, in two windows at most": columns.setting(
    "by_hand", "{:,}"
  ),
  "saved by differentiation": columns.setting("saved", "{:,}"),
  "added to the compiled step": columns.setting("added", "{:,}"),
}


if __name__ == "__main__":
  experiment.launch(main)
