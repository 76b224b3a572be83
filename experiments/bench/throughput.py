"""How much faster dropped work makes the op and the training step.

  GLIBC_TUNABLES=glibc.malloc.hugetlb=1 uv run python -m experiments.throughput

(a) "op": the masked product against ``x @ w`` and against `flax.linen.Dropout`
with it, forward and forward + backward, mask and index-table time included; (b)
"step": whole training steps of the papers' MLPs against conventional dropout;
"in_order": products of units in the order of their parts, against dense ones.
Of the gyro dropout paper: (c) "iteration", figure 7: single iterations of its
MLPs, LeNet and AlexNet (whole, and their dense layers alone), forward and
backward apart, with verdicts on its claims; (d) "table7": loads and FLOPs that
blocks of each shape leave of table 7's product, counted, and its time. All
candidates of a cell take turns in one process; ratios are medians over rounds
of ratios within a round, with the lowest and the highest beside them. The
column "ideal" is the ratio of multiplications. Without GLIBC_TUNABLES page
faults may cost both sides some of a step: report both.

About 40 minutes of two CPU cores for the default star of (a)'s cells (rate .5,
T = 1, blocks of 32, one of them varied at a time); --full times the whole grid,
which takes hours; --smoke takes some minutes. Figure 7 and table 7 by
themselves, about 15 minutes:

  python -m experiments.throughput --part=iteration --part=table7 --rounds=10

Writes throughput.{md,json,png} and figure7.png to --out. Expected on two cores,
of the k-dropout network's steps: 2.4 for extraction, 2.2 for T = 1 in the
full-size step, 1.9 and 1.6 for T = 2 and 4, hardly more than 1 from T = 8; see
docs/results/throughput.md.
"""

import dataclasses
import pathlib
import time
from typing import Any

import jax
import tqdm
from absl import flags

from experiments.bench import figure_7
from experiments.bench import flags as bench_flags
from experiments.bench import in_order
from experiments.bench import iterations as iterations_lib
from experiments.bench import products
from experiments.bench import report as bench_report
from experiments.bench import shapes
from experiments.bench import steps
from experiments.gyro import paper
from experiments.report import tables
from experiments.run import flags as run_flags
from experiments.run import presets
from kdropout_jax.training import files

_SHAPE_NAMES = tuple(shape.name for shape in shapes.SHAPES)
_PART_NAMES = ("op", "step", "in_order", "iteration", "table7")
FLAGS = bench_flags.of_results("runs/throughput")
_PARTS = flags.DEFINE_multi_enum(
  "part",
  list(_PART_NAMES),
  _PART_NAMES,
  "Parts to run; repeat the flag.",
  flag_values=FLAGS,
)
_SHAPES = flags.DEFINE_list(
  "shapes",
  None,
  f"Names among {', '.join(_SHAPE_NAMES)}; default: those"
  " that suit the device.",
  flag_values=FLAGS,
)
_NETWORKS = flags.DEFINE_list(
  "networks",
  None,
  f"Networks of part (b), among {', '.join(steps.NETWORKS)}, and of part"
  f" (c), among {', '.join(iterations_lib.NETWORKS)}; default all.",
  flag_values=FLAGS,
)
_CANDIDATES = flags.DEFINE_list(
  "candidates", None, "Candidates of part (b); default all.", flag_values=FLAGS
)
_RATES = flags.DEFINE_list(
  "rates",
  [f"{rate:g}" for rate in shapes.RATES],
  "Drop rates.",
  flag_values=FLAGS,
)
_GROUPS = flags.DEFINE_list(
  "groups",
  [str(count) for count in shapes.GROUPS],
  "Subnets T.",
  flag_values=FLAGS,
)
_BLOCKS = flags.DEFINE_list(
  "block_sizes",
  [str(size) for size in shapes.BLOCK_SIZES],
  "Units a block.",
  flag_values=FLAGS,
)
_DTYPE = flags.DEFINE_enum(
  "dtype",
  "float32",
  ["float32", "bfloat16", "float16"],
  "Of all arrays.",
  flag_values=FLAGS,
)
_FULL = flags.DEFINE_bool(
  "full", False, "Time the whole grid of part (a).", flag_values=FLAGS
)
_ROUNDS = flags.DEFINE_integer(
  "rounds", 7, "Timed rounds.", 1, flag_values=FLAGS
)
_STEPS = flags.DEFINE_integer(
  "steps",
  20,
  "Steps a call of part (b), and of part (c) at most.",
  1,
  flag_values=FLAGS,
)
_TERAFLOPS = flags.DEFINE_float(
  "tera_per_call",
  None,
  "Dense TFLOP that a call of parts (a) and (c) should hold;"
  " default .02 on a CPU, 20 on a GPU.",
  0.0,
  flag_values=FLAGS,
)
_BATCH = flags.DEFINE_integer(
  "batch_size", None, "Rows in parts (b), (c).", 1, flag_values=FLAGS
)
_WIDTH = flags.DEFINE_integer(
  "width", None, "Hidden units in parts (b), (c).", 1, flag_values=FLAGS
)
_SMOKE = flags.DEFINE_bool(
  "smoke", False, "Tiny sizes: does it all run?", flag_values=FLAGS
)


def main(argv):
  """Measures, prints and writes the tables."""
  del argv
  check_networks()
  began, found, text = time.perf_counter(), {"rows": []}, ""
  for part in _PART_NAMES:
    if part not in _PARTS.value:
      continue
    found = _add(part, found)
    # After each part: what is measured stays, whatever becomes of the next.
    text = write(found, time.perf_counter() - began)
  names = ("throughput.md", "throughput.json", "throughput.png", "figure7.png")
  bench_flags.publish(FLAGS, names)
  print(f"{text}\nwritten to {FLAGS.out}")


def _add(part: str, found: dict[str, Any]) -> dict[str, Any]:
  """Returns what was found, with a part's measurements."""
  if part == "op":
    return found | {"rows": [*found["rows"], *time_op()]}
  if part == "step":
    return found | {"rows": [*found["rows"], *time_steps()]}
  if part == "in_order":
    return found | {"rows": [*found["rows"], *time_in_order()]}
  if part == "iteration":
    iterations = time_iterations()
    verdicts = [v.as_json() for v in figure_7.judge(iterations)]
    return found | {"iterations": iterations, "verdicts": verdicts}
  counted = figure_7.count_table_7(_rates_7())
  return found | {"table_7": counted, "table_7_timed": time_table_7()}


def write(found: dict[str, Any], seconds: float) -> str:
  """Writes what was measured so far; returns its tables."""
  result = found | bench_report.facts(_ROUNDS.value, seconds)
  out = pathlib.Path(FLAGS.out)
  out.mkdir(parents=True, exist_ok=True)
  tables.write_json(out / "throughput.json", files.plain(result))
  text = bench_report.markdown(result, figure_7.sections(result))
  files.write_atomically(out / "throughput.md", text)
  bench_report.plot(found["rows"], out / "throughput.png")
  if found.get("iterations"):
    figure_7.draw(out / "figure7.png", found["iterations"])
  return text


def time_op():
  """Returns one row a candidate and cell of part (a)."""
  cases = list(
    products.star(
      _shapes(),
      [float(r) for r in _RATES.value],
      [int(t) for t in _GROUPS.value],
      [int(b) for b in _BLOCKS.value],
      _DTYPE.value,
      _FULL.value,
    )
  )
  if _SMOKE.value:
    cases = cases[:4]
  rows = []
  for case in tqdm.tqdm(cases, desc="op", unit="cell"):
    rows += products.measure(case, _ROUNDS.value, _flops_per_call())
  return rows


def time_steps():
  """Returns one row a candidate and network of part (b)."""
  names = _CANDIDATES.value or list(steps.CANDIDATES)
  unknown = set(names) - set(steps.CANDIDATES)
  if unknown:
    raise ValueError(
      f"--candidates must be among {'; '.join(steps.CANDIDATES)}, got"
      f" {'; '.join(sorted(unknown))}"
    )
  num_steps = _STEPS.value
  if _SMOKE.value:
    names = [name for name in names if "k=970" not in name]
    num_steps = 2
  rows = []
  for network in _chosen(steps.NETWORKS):
    with tqdm.tqdm(total=_ROUNDS.value, desc=network, unit="round") as bar:
      rows += steps.measure(
        _sized(steps.NETWORKS[network]),
        names,
        num_steps,
        _ROUNDS.value,
        lambda _, bar=bar: bar.update(),
      )
  return rows


def time_in_order():
  """Returns one row a cell of units in the order of their parts."""
  cells = list(in_order.cells(_SMOKE.value))
  return [
    in_order.measure(cell, _ROUNDS.value, _flops_per_call())
    for cell in tqdm.tqdm(cells, desc="in order", unit="cell")
  ]


def time_iterations():
  """Returns one row a network, method, phase and round of part (c)."""
  rows = []
  for name in _chosen(iterations_lib.NETWORKS):
    net = iterations_lib.NETWORKS[name]
    with tqdm.tqdm(total=_ROUNDS.value, desc=name, unit="round") as bar:
      rows += iterations_lib.measure(
        _sized_iteration(net),
        _ROUNDS.value,
        2 if _SMOKE.value else _STEPS.value,
        _flops_per_call(),
        lambda _, bar=bar: bar.update(),
      )
  return rows


def time_table_7():
  """Returns rows of `auto` for table 7's product at the paper's rates."""
  shape = shapes.TABLE_7
  if _SMOKE.value:
    shape = dataclasses.replace(shape, inputs=64, outputs=64)
  groups, rows = shape.rows // presets.BLOCK_ROWS, []
  for rate in tqdm.tqdm(_rates_7(), desc="table 7", unit="cell"):
    case = products.Case(shape, rate, groups, presets.BLOCK_SIZE, "forward")
    found = products.measure(case, _ROUNDS.value, _flops_per_call())
    rows += [row for row in found if row["candidate"] == "auto"]
  return rows


def _rates_7():
  return (0.5,) if _SMOKE.value else tuple(paper.TABLE_7)


def check_networks() -> None:
  """Raises a UsageError for names that no part knows."""
  known = {**steps.NETWORKS, **iterations_lib.NETWORKS}
  unknown = set(_NETWORKS.value or ()) - set(known)
  if unknown:
    raise ValueError(
      f"--networks must be among {', '.join(known)}, got"
      f" {', '.join(sorted(unknown))}"
    )


def _chosen(networks):
  names = _NETWORKS.value
  return [name for name in networks if names is None or name in names]


def _sized(net):
  net = dataclasses.replace(net, dtype=_DTYPE.value)
  if _SMOKE.value:
    return dataclasses.replace(net, hidden=64, inputs=32, batch_size=128)
  if _BATCH.value:
    net = dataclasses.replace(net, batch_size=_BATCH.value)
  return dataclasses.replace(net, hidden=_WIDTH.value or net.hidden)


def _sized_iteration(net):
  net = dataclasses.replace(net, dtype=_DTYPE.value)
  if _SMOKE.value:
    return iterations_lib.shrunk(net)
  return dataclasses.replace(
    net,
    batch_size=_BATCH.value or net.batch_size,
    hidden=_WIDTH.value or net.hidden,
  )


def _shapes():
  by_name = {shape.name: shape for shape in shapes.SHAPES}
  if _SMOKE.value:
    return [shapes.Shape("smoke", 32, 64, 128)]
  if _SHAPES.value is None:
    on_cpu = jax.default_backend() == "cpu"
    return [s for n, s in by_name.items() if not (on_cpu and "4096" in n)]
  unknown = set(_SHAPES.value) - set(by_name)
  if unknown:
    raise ValueError(
      f"--shapes must be among {', '.join(by_name)}, got"
      f" {', '.join(sorted(unknown))}"
    )
  return [by_name[name] for name in _SHAPES.value]


def _flops_per_call() -> float:
  default = 0.02 if jax.default_backend() == "cpu" else 20.0
  return (_TERAFLOPS.value or default) * 1e12


if __name__ == "__main__":
  run_flags.launch(main, FLAGS)
