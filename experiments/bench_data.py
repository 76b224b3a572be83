"""Measures preparing, loading and streaming; writes a table.

    python -m experiments.bench_data --dataset=all --data_dir=/tmp/kd_data \\
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

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app
from absl import flags
from absl import logging

from experiments.shared import data
from experiments.shared.data import loading
from experiments.shared.data import preparation
from experiments.shared.data import registry
from experiments.shared.data import streaming

_DATASET = flags.DEFINE_list("dataset", ["all"], "Names, or 'all'.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "For temporary folders.")
_LOCAL_FILES = flags.DEFINE_string("local_files", None, "The files' folder.")
_OUT = flags.DEFINE_string("out", None, "A file for the table.")
_BATCH = flags.DEFINE_integer("batch_size", 256, "Rows of a step.", 1)
_STEPS = flags.DEFINE_integer("steps", 50, "Steps of a timing.", 2)

_WIDTH = 1024


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
  "prepare, s",
  "load, s",
  "resident, examples/s",
  "share of an MLP1 step",
  "streamed, examples/s",
  "share of an MLP1 step waited",
  "seen",
)


def measure(name: str, root: pathlib.Path, local_files, batch: int, steps: int):
  """Returns the `Row` of one dataset."""
  row = Row(name)
  start = time.perf_counter()
  try:
    folder = data.prepare(name, root, local_files, progress=False)
  except ValueError as error:
    row.note = f"not at hand: {str(error)[:60]}..."
    return row
  row.prepare = f"{time.perf_counter() - start:.1f}"
  start = time.perf_counter()
  dataset = data.load(name, root)
  row.load = f"{time.perf_counter() - start:.1f}"
  sizes = loading.split_sizes(folder)
  test_split = registry.get(name).test_split
  row.rows = f"{sizes['train']:,} / {sizes[test_split]:,}"
  row.classes = str(dataset.info.num_classes or "spans")
  row.note = dataset.info.note
  row.facts = facts(dataset)
  source: Any = streaming.Arrays(dataset.train_x, dataset.train_labels)
  if dataset.info.task == "image":
    source = streaming.open_images(name, "train", root)
  row.streamed = f"{stream_rate(source, batch, steps):,.0f}"
  if dataset.info.task in ("image", "packets"):
    times = step_times(dataset, source, batch, steps)
    row.resident = f"{batch / times['resident']:,.0f}"
    row.resident_share = f"{times['resident'] / times['train']:.2%}"
    row.streamed_share = f"{times['waited'] / times['streamed']:.2%}"
  return row


def facts(dataset: data.Dataset) -> str:
  """Returns what can be compared with published facts."""
  counts = ", ".join(
    f"{name}: {count:,}" for name, count in dataset.info.counts
  )
  if dataset.info.task != "image":
    return counts
  pixels = data.fit_pixels(dataset.train_x, "channels", dataset.info.pixel_max)
  return "train mean " + " ".join(f"{mean:.6f}" for mean in pixels.offset)


def stream_rate(source, batch: int, steps: int) -> float:
  """Returns examples per second of the stream by itself."""
  batch = min(batch, len(source))
  epochs = -(-(steps + 1) * batch // (len(source) // batch * batch))
  stream = streaming.stream(source, batch, num_epochs=epochs)
  next(stream)
  start = time.perf_counter()
  for _ in range(steps):
    next(stream)
  return steps * batch / (time.perf_counter() - start)


def step_times(dataset, source, batch: int, steps: int) -> dict[str, float]:
  """Returns seconds a step: batches alone, training, and with a stream."""
  pixels = data.fit_pixels(dataset.train_x, "unit", dataset.info.pixel_max or 1)
  image = dataset.info.task == "image"
  prepare = pixels if image else (lambda x: x)
  init, step = _mlp1(dataset, prepare)
  x, y = jnp.asarray(dataset.train_x), jnp.asarray(dataset.train_labels)

  def rows(i):
    key = jax.random.fold_in(jax.random.key(0), i)
    return jax.random.randint(key, (batch,), 0, len(y))

  @jax.jit
  def gather(x, y):
    def body(total, i):
      picked = rows(i)
      # The barrier keeps the batch alive, as a training step would.
      inputs, labels = jax.lax.optimization_barrier(
        (prepare(x[picked]), y[picked])
      )
      return total + inputs.reshape(-1)[0] + labels[0], None

    return jax.lax.scan(body, 0.0, jnp.arange(steps))[0]

  @jax.jit
  def train(state, x, y):
    def body(state, i):
      return step(state, x[rows(i)], y[rows(i)]), None

    return jax.lax.scan(body, state, jnp.arange(steps))[0]

  one = jax.jit(step, donate_argnums=0)
  state = jax.block_until_ready(init)
  resident = _best(lambda: gather(x, y)) / steps
  training = _best(lambda: train(state, x, y)) / steps
  waited, streamed = _streamed(one, init, source, batch, steps)
  return {
    "resident": resident,
    "train": training,
    "waited": waited,
    "streamed": streamed,
  }


def _mlp1(dataset, prepare):
  """Returns the state and the step of the gyro paper's MLP1, Adam."""
  features = int(np.prod(np.shape(dataset.train_x)[1:]))
  sizes = (features, _WIDTH, _WIDTH, max(dataset.info.num_classes, 2))
  keys = jax.random.split(jax.random.key(1), 3)
  params = [
    jax.random.normal(key, shape) / np.sqrt(shape[0])
    for key, shape in zip(keys, zip(sizes, sizes[1:]))
  ]
  optimizer = optax.adam(1e-3)

  def loss(params, x, y):
    x = prepare(x).reshape(len(y), -1)
    for w in params[:-1]:
      x = jax.nn.relu(x @ w)
    logits = x @ params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  def step(state, x, y):
    params, opt_state = state
    grads = jax.grad(loss)(params, x, y)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  return (params, optimizer.init(params)), step


def _best(run, repeats: int = 3) -> float:
  jax.block_until_ready(run())
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(run())
    seconds.append(time.perf_counter() - start)
  return min(seconds)


def _streamed(one, state, source, batch, steps) -> tuple[float, float]:
  """Returns seconds a step waited for data, and seconds a step in all."""
  stream = streaming.stream(source, batch, num_epochs=1000)
  first = next(stream)
  state = jax.block_until_ready(one(state, first["x"], first["label"]))
  waited, begin = 0.0, time.perf_counter()
  for _ in range(steps):
    start = time.perf_counter()
    rows = next(stream)
    waited += time.perf_counter() - start
    state = jax.block_until_ready(one(state, rows["x"], rows["label"]))
  return waited / steps, (time.perf_counter() - begin) / steps


def table(rows: Sequence[Row]) -> str:
  """Returns the rows as a Markdown table."""
  lines = ["| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
  for row in rows:
    cells = [str(v).replace("|", "/") for v in dataclasses.astuple(row)]
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  names = list(_DATASET.value)
  names = list(registry.names()) if names == ["all"] else names
  parent = preparation.data_folder(_DATA_DIR.value)
  parent.mkdir(parents=True, exist_ok=True)
  root = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
  rows = []
  try:
    for name in names:
      files = None if name == "digits" else _LOCAL_FILES.value
      row = measure(name, root, files, _BATCH.value, _STEPS.value)
      rows.append(row)
      print(dataclasses.asdict(row), flush=True)
  finally:
    shutil.rmtree(root, ignore_errors=True)
  print(table(rows))
  if _OUT.value:
    pathlib.Path(_OUT.value).write_text(table(rows) + "\n")


if __name__ == "__main__":
  app.run(main)
