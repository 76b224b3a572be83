"""Measures preparing, loading and streaming; writes a table.

    python -m experiments.bench_data --dataset=all --data_dir=DATA_DIR \\
        --local_files=DIR --out=docs/results/data.md

Each dataset is prepared anew in a folder of its own below --data_dir, which
is removed, so that the time is that of a first preparation. Ten minutes on two
CPU cores for all that have local files; the others say why not. Expected: the
device-resident loader takes under 2 % of a step of the gyro paper's MLP1.
"""

import dataclasses
import pathlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import data
from experiments.bench import loaders
from experiments.data import preparation
from experiments.data import prepared
from experiments.data import registry
from experiments.data import streaming
from experiments.report import tables
from experiments.run import flags as run_flags
from kdropout_jax.training import files


@dataclasses.dataclass
class Row:
  """A row of the table; times in seconds, rates in examples per second."""

  name: str
  rows: str = "-"
  classes: str = "-"
  note: str = "-"
  prepare: str = "-"
  load: str = "-"
  resident: str = "-"
  resident_share: str = "-"
  streamed: str = "-"
  streamed_share: str = "-"
  facts: str = "-"


_HEAD = (
  "dataset",
  "rows (train / test)",
  "classes",
  "split",
  "prepare, s (CPU s)",
  "load, s (CPU s)",
  "resident, examples/s",
  "share of an MLP1 step",
  "streamed, examples/s",
  "share of an MLP1 step waited",
  "seen",
)


def measured(
  name: str, root: pathlib.Path, local_files, batch: int, steps: int
):
  """Returns the `Row` of one dataset."""
  row = Row(name)
  start = _now()
  try:
    folder = data.prepare(name, root, local_files, progress=False)
  except ValueError as error:
    row.note = f"not at hand: {str(error)[:60]}..."
    return row
  row.prepare = _since(start)
  start = _now()
  dataset = data.load(name, root)
  row.load = _since(start)
  sizes = prepared.split_sizes(folder)
  test_split = registry.get(name).test_split
  row.rows = f"{sizes['train']:,} / {sizes[test_split]:,}"
  row.classes = str(dataset.info.num_classes or "spans")
  row.note = dataset.info.note
  row.facts = facts(dataset)
  source: Any = streaming.Arrays(dataset.train_x, dataset.train_labels)
  if dataset.info.task == "image":
    source = streaming.open_images(name, "train", root)
  row.streamed = f"{loaders.stream_rate(source, batch, steps):,.0f}"
  if dataset.info.task in ("image", "packets"):
    times = loaders.step_times(dataset, source, batch, steps)
    row.resident = f"{batch / times['resident']:,.0f}"
    row.resident_share = f"{times['resident'] / times['train']:.2%}"
    row.streamed_share = f"{times['waited'] / times['streamed']:.2%}"
  return row


def _now() -> tuple[float, float]:
  return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float]) -> str:
  """Returns seconds of the wall clock and, in brackets, of the processors."""
  wall, cpu = (now - then for now, then in zip(_now(), start))
  return f"{wall:.1f} ({cpu:.1f})"


def facts(dataset: data.Dataset) -> str:
  """Returns what can be compared with published facts."""
  seen = [f"{name}: {count:,}" for name, count in dataset.info.counts if count]
  if dataset.info.task != "spans":
    counts = np.bincount(dataset.train_labels)
    low, high = f"{counts.min():,}", f"{counts.max():,}"
    seen.append(f"{low if low == high else f'{low} to {high}'} a class")
  if dataset.info.task == "image":
    pixels = data.fit_pixels(
      dataset.train_x, "channels", dataset.info.pixel_max
    )
    mean = " ".join(f"{value:.6f}" for value in pixels.offset)
    deviation = " ".join(f"{value:.6f}" for value in pixels.scale)
    seen.append(f"mean {mean}, deviation {deviation}")
  return "; ".join(seen)


def table(rows: Sequence[Row]) -> str:
  """Returns the rows as a Markdown table."""
  lines = [
    [str(value).replace("|", "/") for value in dataclasses.astuple(row)]
    for row in rows
  ]
  return tables.text(_HEAD, lines)


def define_flags() -> None:
  """Defines the flags; not at import, where binaries would collide."""
  flags.DEFINE_list("dataset", ["all"], "Names, or 'all'.")
  flags.DEFINE_string("data_dir", None, "For temporary folders.")
  flags.DEFINE_string("local_files", None, "The files' folder.")
  flags.DEFINE_string("out", None, "A file for the table.")
  flags.DEFINE_integer("batch_size", 256, "Rows of a step.", 1)
  flags.DEFINE_integer("steps", 50, "Steps of a timing.", 2)


def main(argv: Sequence[str]) -> None:
  del argv
  names = list(flags.FLAGS.dataset)
  names = list(registry.names()) if names == ["all"] else names
  parent = preparation.data_folder(flags.FLAGS.data_dir)
  parent.mkdir(parents=True, exist_ok=True)
  root = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
  rows = []
  try:
    for name in names:
      local = None if name == "digits" else flags.FLAGS.local_files
      row = measured(
        name, root, local, flags.FLAGS.batch_size, flags.FLAGS.steps
      )
      rows.append(row)
      print(dataclasses.asdict(row), flush=True)
  finally:
    shutil.rmtree(root, ignore_errors=True)
  print(table(rows))
  if flags.FLAGS.out:
    files.write_atomically(flags.FLAGS.out, table(rows) + "\n")


if __name__ == "__main__":
  define_flags()
  run_flags.launch(main)
