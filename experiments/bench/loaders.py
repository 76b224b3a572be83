"""Times of the loaders by themselves, and beside a training step."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import harness
from experiments.data import dataset as dataset_lib
from experiments.data import pixels as pixels_lib
from experiments.data import streaming

_WIDTH = 1024


def stream_rate(source: Any, batch: int, steps: int) -> float:
  """Returns examples per second of the stream by itself."""
  batch = min(batch, len(source))
  epochs = -(-(steps + 1) * batch // (len(source) // batch * batch))
  stream = streaming.stream(source, batch, num_epochs=epochs)
  next(stream)
  start = time.perf_counter()
  for _ in range(steps):
    next(stream)
  return steps * batch / (time.perf_counter() - start)


def step_times(
  dataset: dataset_lib.Dataset, source: Any, batch: int, steps: int
) -> dict[str, float]:
  """Returns seconds a step.

  Args:
    dataset: images or packets.
    source: to stream it from.
    batch: rows of a step.
    steps: in one compiled scan, and of the stream.

  Returns:
    ``resident``, picking and converting a batch of arrays on the device;
    ``train``, the same and a step of MLP1; ``streamed``, a step of MLP1 fed by
    a stream, of which ``waited`` was spent waiting for it.
  """
  pixels = pixels_lib.fit(dataset.train_x, "unit", dataset.info.pixel_max or 1)
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
    return harness.cross_entropy(x @ params[-1], y)

  def step(state, x, y):
    return harness.update(optimizer, state, jax.grad(loss)(state[0], x, y))

  return (params, optimizer.init(params)), step


def _best(run: Callable[[], Any], repeats: int = 3) -> float:
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
