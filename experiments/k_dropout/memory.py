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

import json
import pathlib
from typing import Any

import tqdm
from absl import flags as absl_flags

from experiments.k_dropout import mask_memory
from experiments.report import passport
from experiments.run import flags

# width, rows of a microbatch; m; depths; microbatches in flight.
_SCALES = {
  "paper": (2000, 512, (1, 8, 512), (1, 3), (1, 4, 8)),
  "cpu": (256, 128, (1, 8, 128), (1, 2, 4), (1, 4, 8)),
  "smoke": (64, 16, (1, 16), (1,), (1, 3)),
}

_SCALE = absl_flags.DEFINE_enum("scale", "cpu", list(_SCALES), "The setting.")
_OUT = absl_flags.DEFINE_string("out", "runs/memory", "Output folder.")


def main(argv: list[str]) -> None:
  del argv
  width, rows, ms, depths, in_flights = _SCALES[_SCALE.value]
  stages = [
    mask_memory.Stage(width, depth, rows, in_flight, m, saves_masks)
    for depth in depths
    for in_flight in in_flights
    for m in (None, *ms)
    for saves_masks in (False, True)
  ]
  measured = [
    mask_memory.measure(stage)
    for stage in tqdm.tqdm(stages, desc="stages", unit="stage")
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
  _write(measured, by_stage)


def _write(measured: list[dict[str, Any]], by_stage) -> None:
  origin = passport.of_this_machine()
  text = (
    f"`python -m experiments.memory --scale={_SCALE.value}` on"
    f" {origin['device']}, jax {origin['versions']['jax']}\n\n"
    f"{_by_stage_table(by_stage)}\n\n{_measured_table(measured)}"
  )
  print(text)
  out = pathlib.Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  (out / "memory.md").write_text(f"{text}\n")
  result = {
    "scale": _SCALE.value,
    "by_stage": by_stage,
    "measured": measured,
    **origin,
  }
  (out / "memory.json").write_text(json.dumps(result, indent=1) + "\n")
  _draw(out / "memory.png", measured)
  print(f"\nwritten to {out}/memory.md, .json and .png")


def _by_stage_table(by_stage) -> str:
  num_stages = len(by_stage[0]["bytes"])
  heads = [f"stage {s} ({num_stages - s} in flight)" for s in range(num_stages)]
  lines = [
    "Bytes of masks alive at each stage of a pipeline, by hand",
    "",
    f"| masks | {' | '.join(heads)} |",
    "|---" * (num_stages + 1) + "|",
  ]
  for row in by_stage:
    cells = " | ".join(f"{value:,}" for value in row["bytes"])
    lines.append(f"| {row['masks']} | {cells} |")
  return "\n".join(lines)


def _measured_table(measured) -> str:
  lines = [
    "One stage, measured: bytes over the same stage without dropout (k at"
    " least the microbatches in flight)",
    "",
    "| masks | saves | depth | in flight | masks alive, by hand, in two windows"
    " at most | saved by differentiation | added to the compiled step |",
    "|---|---|---|---|---|---|---|",
  ]
  lines += [
    f"| {_name(r['m'])} | {_saves(r)} | {r['depth']} | {r['in_flight']} |"
    f" {r['by_hand']:,} | {r['saved']:,} | {r['added']:,} |"
    for r in measured
  ]
  return "\n".join(lines)


def _draw(path: pathlib.Path, measured) -> None:
  """Draws bytes added to the compiled step against microbatches in flight."""
  from matplotlib import figure

  drawing = figure.Figure(figsize=(6.5, 4.5), layout="constrained")
  axes = drawing.subplots()
  deepest = max(row["depth"] for row in measured)
  rows = [r for r in measured if r["depth"] == deepest]
  for name in dict.fromkeys((_name(r["m"]), _saves(r)) for r in rows):
    own = [r for r in rows if (_name(r["m"]), _saves(r)) == name]
    style = "o--" if own[0]["saves_masks"] else "s-"
    x, y = zip(*[(r["in_flight"], max(r["added"], 1)) for r in own])
    axes.semilogy(x, y, style, label=f"{name[0]}, saves {name[1]}")
  axes.set(
    xlabel="microbatches in flight",
    ylabel="bytes added to the compiled step",
    title=f"depth {deepest}",
  )
  axes.legend(
    frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5)
  )
  drawing.savefig(path, dpi=150)


def _name(m: int | None) -> str:
  return "standard" if m is None else f"m = {m}"


def _saves(row: dict[str, Any]) -> str:
  return "masks" if row["saves_masks"] else "rows"


if __name__ == "__main__":
  flags.launch(main)
