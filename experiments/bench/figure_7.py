"""Figure 7 and table 7 of the gyro dropout paper beside ours; verdicts."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kdropout_jax as kd
from experiments.bench import block_work
from experiments.bench import iterations as iterations_lib
from experiments.bench import shapes as named
from experiments.gyro import claims
from experiments.gyro import paper
from experiments.judge import verdicts as verdicts_lib
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.report import tables
from experiments.report import verdict_table

_CLAIMS = tuple(
  claim for claim in claims.CLAIMS if claim.measure == "speedup_percent"
)

# (rows, units) of a block: section 4.2's shapes, and gyro's single units.
_SHAPES = ((128, 128), (128, 64), (128, 32), (128, 16), (32, 128), (32, 1))
_PROFILED = (128, 32)  # table 7's own
_DRAWS = 16
_NETWORKS = {
  **{f"mlp{i}": f"MLP{i}" for i in (1, 2, 3)},
  "lenet": "LeNet",
  "lenet_fc": "LeNet, dense layers",
  "alexnet": "AlexNet",
  "alexnet_fc": "AlexNet, dense layers",
}
"""{network: in words}."""


def judge(rows: Sequence[Mapping[str, Any]]) -> list[verdicts_lib.Verdict]:
  """Returns the verdicts on the paper's claims about speed."""
  found = iterations_lib.claim_rows([dict(row) for row in rows])
  return study.judge(_CLAIMS, found, scale="cpu")


def sections(result: Mapping[str, Any]) -> list[str]:
  """Returns the sections on what there is of figure 7 and table 7."""
  found = []
  if result.get("iterations"):
    found += iterations(result["iterations"], result["device"])
  if result.get("table_7"):
    found += table_7(result["table_7"], result["table_7_timed"])
  return found


def iterations(rows: Sequence[dict[str, Any]], device: str) -> list[str]:
  """Returns the section on single iterations, its verdicts included."""
  lines = []
  for (model, phase), same in rows_lib.group(rows, "model", "phase").items():
    by = {key[0]: own for key, own in rows_lib.group(same, "method").items()}
    lines.append(
      [
        *(model, phase, str(same[0]["batch_size"])),
        *(
          f"{np.median([r['ms'] for r in own]):.2f}"
          for own in (by[m] for m in iterations_lib.METHODS)
        ),
        *(_percent(by[m]) for m in iterations_lib.METHODS[1:]),
        _published(same[0]["part"], phase),
      ]
    )
  order = {name: i for i, name in enumerate(iterations_lib.PHASES)}
  models = list(dict.fromkeys(line[0] for line in lines))
  lines.sort(key=lambda line: (models.index(line[0]), order[line[1]]))
  header = (
    *("network", "phase", "batch"),
    *(f"{method}, ms" for method in iterations_lib.METHODS),
    *(f"{method}, % faster" for method in iterations_lib.METHODS[1:]),
    "paper's blockwise, %",
  )
  return [
    "## Single training iterations (figure 7)",
    tables.text(header, lines),
    "Throughput over that of conventional dropout: median over rounds of the"
    " ratio within a round, the lowest and highest in brackets. An iteration"
    ' is masks, forward, backward and RMSProp; "backward" is both ways less'
    ' forward. "_fc" are the dense layers alone, with the gradient of their'
    " inputs.",
    f"## Verdicts on speed, {device}",
    "A round is a seed. The paper's numbers are an NVIDIA Titan XP's, in"
    f" TensorFlow with CUTLASS; these verdicts are about {device}"
    + (
      ", a CPU, and say nothing about that GPU."
      if device.startswith("cpu")
      else "."
    ),
    verdict_table.text(judge(rows)),
  ]


def count_table_7(
  rates: Iterable[float] = tuple(paper.TABLE_7),
  shapes: Sequence[tuple[int, int]] = _SHAPES,
) -> list[dict[str, Any]]:
  """Counts loads and FLOPs of table 7's product for each shape of blocks.

  Args:
    rates: drop rates.
    shapes: (rows, units) of a block.

  Returns:
    One row a shape and rate, in per cent of the product without masks; means
    over 16 draws of masks with exact counts (of single units: Bernoulli).
  """
  product = named.TABLE_7
  whole = block_work.count(
    np.ones((1, product.inputs), bool), product.rows, product.outputs
  )
  found = []
  for block_rows, units in shapes:
    for rate in rates:
      masks = _masks(product.rows // block_rows, units, rate)
      percents = [
        block_work.count(keep, product.rows, product.outputs).percent_of(whole)
        for keep in masks
      ]
      found.append(
        {"rows": block_rows, "units": units, "rate": rate}
        | {n: float(np.mean([p[n] for p in percents])) for n in percents[0]}
      )
  return found


def _masks(groups: int, units: int, rate: float) -> np.ndarray:
  """Returns masks of table 7's inputs, bool [draws, T, I]."""
  pattern = kd.Bernoulli(rate) if units == 1 else kd.Blocks(rate, units)
  ids = jnp.arange(_DRAWS * groups)
  key, width = jax.random.key(0), named.TABLE_7.inputs
  masks = kd.subnet_masks(key, ids, width, pattern).dense()
  return np.asarray(masks).reshape(_DRAWS, groups, width)


def table_7(
  counts: Sequence[dict[str, Any]], timed: Sequence[dict[str, Any]]
) -> list[str]:
  """Returns the section on table 7.

  Args:
    counts: of `count_table_7`.
    timed: rows of `op_bench` for table 7's product, forward.
  """
  lines = []
  for row in counts:
    is_profiled = (row["rows"], row["units"]) == _PROFILED
    theirs = paper.TABLE_7.get(row["rate"]) if is_profiled else None
    speed, *shares = theirs or (None,) * 4
    own = [t for t in timed if is_profiled and t["rate"] == row["rate"]]
    lines.append(
      [
        f"{row['rows']} x {row['units']}",
        f"{row['rate']:g}",
        *(
          f"{row[name]:.2f}" + ("" if share is None else f" ({share:.2f})")
          for name, share in zip(
            ("flops", "global_loads", "shared_loads"), shares
          )
        ),
        "{:.2f} [{:.2f}, {:.2f}]".format(*own[0]["over_matmul"]) if own else "",
        "" if speed is None else f"{speed:.2f}",
      ]
    )
  product = named.TABLE_7
  header = (
    *("block", "rate", "FLOPs, %", "global loads, %", "shared loads, %"),
    *("x over x @ w here", "paper's speed-up"),
  )
  return [
    "## Loads and FLOPs (table 7)",
    tables.text(header, lines),
    f"[{product.rows}, {product.inputs}] @ [{product.inputs},"
    f" {product.outputs}], inputs pruned, forward. Per cent of the product"
    " without masks, counted from masks for CUTLASS's tiles of 128 x 128 and"
    " warps of 32 rows; the paper's profile in brackets. At rate .1 the paper"
    " drops 4 of 32 blocks (12.5 %), our exact count 3. Its speed-up is over"
    " its own kernel at rate 0; ours is over the dense product, masks and"
    " index tables made anew.",
  ]


def draw(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
  """Draws block-wise dropout's gain round by round, the paper's range grey."""
  panels = []
  for phase in iterations_lib.PHASES:
    chosen = [
      row
      for row in rows
      if row["phase"] == phase
      and row["method"] == "blockwise"
      and row["speedup_percent"] is not None
    ]
    groups = rows_lib.group(chosen, "model", "part")
    panels.append(
      figures.Panel(
        title=f"block-wise over conventional: {phase}",
        y_label="% more throughput (x: the paper's GPU)",
        dots={
          _network(key[0]): [row["speedup_percent"] for row in own]
          for key, own in groups.items()
        },
        grey_dots={_network(key[0]): _range(key[1], phase) for key in groups},
      )
    )
  figures.draw(path, panels, 3)


def _network(model: str) -> str:
  return _NETWORKS.get(model, model)


def _range(part: str, phase: str) -> tuple[float, ...]:
  """Returns the paper's numbers for a network's phase, if it has any."""
  if phase == "iteration":
    return paper.FIGURE_7[part]
  if part in ("mlp", "packet_mlp"):
    return paper.FIGURE_7[phase]
  return ()


def _published(part: str, phase: str) -> str:
  return " to ".join(f"{value:g}" for value in _range(part, phase)) or "-"


def _percent(rows: Sequence[dict[str, Any]]) -> str:
  values = [
    row["speedup_percent"] for row in rows if row["speedup_percent"] is not None
  ]
  if not values:
    return "-"
  low, high = min(values), max(values)
  return f"{np.median(values):+.1f} [{low:+.1f}, {high:+.1f}]"
