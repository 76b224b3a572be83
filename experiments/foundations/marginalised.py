"""Dropout of inputs without sampling, against dropout that samples.

  python -m experiments.marginalised --scale=cpu

The notes, 0.3: marginalised, dropout is a deterministic regularizer. Linear and
logistic regression tell two digits apart: plain; with masks that are sampled
at each step; and by the closed form, which for linear regression is exact
(ridge) and for logistic regression the Gaussian of fast dropout (Wang and
Manning 2013). Few images of two digits that look alike, since dropout has
something to do where inputs outnumber rows. About a minute of one core at
the cpu scale, on MNIST. Expected: closed form and samples end alike, the closed
form after fewer and much cheaper steps; linear regression gains 10 points.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import kdropout_jax as kd
from experiments.cells import experiment
from experiments.foundations import claims
from experiments.foundations import gradient_noise
from experiments.foundations import paper
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import examples
from kdropout_jax.analysis import marginalised

PAIRS = ((4, 9), (3, 5), (7, 9))
"""Digits that are taken for each other."""

_LEARNING_RATE = 0.01
_NEAR = 1.1
"""The loss to reach, over the least that gradient descent found."""

Params = dict[str, Float[Array, "..."]]


class Pair(NamedTuple):
  """Images of two digits: pixels, and 1 for the second digit."""

  train_x: Float[np.ndarray, "B I"]
  train_labels: Int[np.ndarray, "B"]
  test_x: Float[np.ndarray, "N I"]
  test_labels: Int[np.ndarray, "N"]


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains each way on each pair, and compares what they end with."""
  rows, curves = [], []
  for pair, seed in itertools.product(PAIRS, range(scale.seeds)):
    found = load(scale, store.data_dir, pair, seed)
    for model, losses in LOSSES.items():
      part, lines = _train_all(found, model, losses, scale, seed)
      own = {"pair": f"{pair[0]}-{pair[1]}", "seed": seed, "model": model}
      rows += [own | row for row in part]
      curves += [own | line for line in lines]
  return _report(scale, rows, curves)


def load(
  scale: sizes.Scale, data_dir: str | None, pair: tuple[int, int], seed: int
) -> Pair:
  """Returns the images of two digits; the seed chooses those to train on."""
  cell = scale.config(method="none", data_seed=seed, epochs=1)
  found = examples.load(cell, data_dir)
  assert found.data is not None
  inputs, labels = (
    np.asarray(x) for x in (found.data.inputs, found.data.labels)
  )
  pixels = inputs.reshape(len(inputs), -1) / np.float32(found.info.pixel_max)
  parts = []
  for split, wanted in (("train", scale.pair_images), ("test", None)):
    start, stop = found.splits[split]
    own = labels[start:stop]
    rows = np.flatnonzero((own == pair[0]) | (own == pair[1]))[:wanted]
    parts += [pixels[start:stop][rows], (own[rows] == pair[1]).astype(np.int32)]
  return Pair(*parts)


def _outputs(params: Params, x: Float[Array, "B I"]) -> Float[Array, "B"]:
  return x @ params["weights"] + params["bias"]


def _signs(labels: Int[Array, "B"]) -> Float[Array, "B"]:
  return 2.0 * labels.astype(jnp.float32) - 1.0


def _squared(params, subnets, x, labels):
  del subnets
  return jnp.mean((_outputs(params, x) - _signs(labels)) ** 2)


def _squared_closed(params, subnets, x, labels):
  del subnets
  targets = _signs(labels) - params["bias"]
  return marginalised.squared_error(
    x, targets, params["weights"], paper.HIDDEN_RATE
  )


def _logistic(params, subnets, x, labels):
  del subnets
  return jnp.mean(jax.nn.softplus(-_signs(labels) * _outputs(params, x)))


def _logistic_closed(params, subnets, x, labels):
  del subnets
  mean, variance = marginalised.moments(
    x, params["weights"], paper.HIDDEN_RATE, params["bias"]
  )
  return jnp.mean(marginalised.expected_log_loss(mean, variance, labels))


def _sampled(plain: Callable[..., Array]) -> Callable[..., Array]:
  """Returns the loss with a mask of its own for each row."""

  def loss(params, subnets, x, labels):
    pattern = kd.Bernoulli(paper.HIDDEN_RATE)
    key, ids = subnets
    masks = kd.subnet_masks(key, ids, x.shape[1], pattern)
    dropped = kd.dropout(x, masks, rate=paper.HIDDEN_RATE)
    return plain(params, subnets, dropped, labels)

  return loss


LOSSES: dict[str, dict[str, Callable[..., Array]]] = {
  "linear": {
    "none": _squared,
    "sampled": _sampled(_squared),
    "closed": _squared_closed,
  },
  "logistic": {
    "none": _logistic,
    "sampled": _sampled(_logistic),
    "closed": _logistic_closed,
  },
}
"""{model: {method: loss of parameters, key and ids of masks, x and labels}}."""


def train(
  loss: Callable[..., Array],
  closed: Callable[..., Array],
  pair: Pair,
  num_steps: int,
  seed: int,
) -> tuple[Params, Float[np.ndarray, "n"], float]:
  """Trains on all rows at once, from zero, by Adam.

  Args:
    loss: what is trained on.
    closed: the expected loss, which is followed.
    pair: the images.
    num_steps: how many.
    seed: of the masks.

  Returns:
    Parameters; the expected loss at `gradient_noise.points`; seconds a step.
  """
  x, labels = jnp.asarray(pair.train_x), jnp.asarray(pair.train_labels)
  params: Params = {"weights": jnp.zeros(x.shape[1]), "bias": jnp.zeros(())}
  optimizer, run, follow = _programs(loss, closed)
  key = jax.random.key(seed)
  carry: Any = (params, optimizer.init(params))
  run(carry, 0, 0, key, x, labels)  # Compiles; trains nothing.
  losses, seconds, done = [], 0.0, 0
  for point in gradient_noise.points(num_steps):
    began = time.perf_counter()
    carry = jax.block_until_ready(run(carry, done, point, key, x, labels))
    seconds += time.perf_counter() - began
    losses.append(float(follow(carry[0], (), x, labels)))
    done = point
  return carry[0], np.array(losses), seconds / num_steps


@functools.cache
def _programs(loss: Callable[..., Array], closed: Callable[..., Array]):
  """Returns the optimizer, what trains steps, and what follows the loss."""
  optimizer = optax.adam(_LEARNING_RATE)

  @jax.jit
  def run(carry, start, stop, key, x, labels):
    def step(number, carry):
      params, state = carry
      ids = kd.subnet_ids(number, key, kd.Standard(), x.shape[0])
      gradient = jax.grad(loss)(params, (key, ids), x, labels)
      updates, state = optimizer.update(gradient, state, params)
      return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(start, stop, step, carry)

  return optimizer, run, jax.jit(closed)


def _train_all(
  pair: Pair, model: str, losses, scale: sizes.Scale, seed: int
) -> tuple[list[rows_lib.Row], list[rows_lib.Row]]:
  """Returns a row a method, and the expected losses along the runs."""
  num_steps = scale.pair_steps
  points = gradient_noise.points(num_steps)
  runs = {
    method: train(loss, losses["closed"], pair, num_steps, seed)
    for method, loss in losses.items()
  }
  least = runs["closed"][1].min()
  rows, lines = [], []
  for method, (params, followed, seconds) in runs.items():
    row = {"method": method, "accuracy": accuracy(params, pair)}
    row |= {"microseconds": 1e6 * seconds, "loss": followed[-1]}
    reached = gradient_noise.first_at(points, list(followed), _NEAR * least)
    if reached is not None and method != "none":
      row |= {"steps_to_loss": reached, "log_steps": math.log2(reached)}
      row["milliseconds_to_loss"] = 1e3 * seconds * reached
    rows.append(row)
    lines += [
      {"method": method, "step": step, "loss": value}
      for step, value in zip(points, followed / least)
    ]
  if model == "linear":
    rows.append({"method": "ridge", **solved(pair)})
  return rows, lines


def solved(pair: Pair) -> rows_lib.Row:
  """Returns a row of the closed minimum, its bias that of the mean label."""
  signs = _signs(jnp.asarray(pair.train_labels))
  bias = jnp.mean(signs)
  x = jnp.asarray(pair.train_x)
  solve = functools.partial(_ridge, x, signs - bias)
  jax.block_until_ready(solve())  # Compiles.
  began = time.perf_counter()
  weights = jax.block_until_ready(solve())
  seconds = time.perf_counter() - began
  params = {"weights": weights, "bias": bias}
  return {
    "accuracy": accuracy(params, pair),
    "milliseconds_to_loss": 1e3 * seconds,
  }


@jax.jit
def _ridge(x, targets):
  return marginalised.ridge(x, targets, paper.HIDDEN_RATE)


def accuracy(params: Params, pair: Pair) -> float:
  """Returns the share of test images that are told apart, in points."""
  said = _outputs(params, jnp.asarray(pair.test_x)) > 0
  return 100 * float(np.mean(np.asarray(said) == (pair.test_labels == 1)))


def _report(scale, rows, curves) -> study.Report:
  by = ("model", "method", "pair")
  lines = {
    (model,): {
      method: rows_lib.curve(own, "step", "loss")
      for (method,), own in rows_lib.group(same, "method").items()
      if method != "none"
    }
    for (model,), same in rows_lib.group(curves, "model").items()
  }
  return study.Report(
    name="marginalised",
    title="Marginalised dropout",
    setting=(
      f"{scale.common['dataset']}: {' and '.join(_words())};"
      f" {scale.pair_images} training images of a pair, another choice a seed;"
      f" inputs dropped with rate {paper.HIDDEN_RATE:g}; Adam, learning rate"
      f" {_LEARNING_RATE:g}, all rows at each of {scale.pair_steps:,} steps,"
      " from zero. Accuracies in points, mean +- standard deviation over seeds."
    ),
    table=columns.table(
      rows,
      by,
      {
        **{name: columns.setting(name) for name in by},
        "test accuracy": columns.spread("accuracy"),
        "steps to the loss": columns.spread("steps_to_loss", 0),
        "milliseconds to it": columns.spread("milliseconds_to_loss", 1),
        "microseconds a step": columns.spread("microseconds", 0),
      },
    ),
    rows=rows,
    numbers={"curves": curves},
    claims=claims.named(
      "closed_form_is_like_sampling",
      "closed_form_needs_fewer_steps",
      "dropout_helps_linear_models",
    ),
    notes=[
      "closed: gradient descent on the expected loss, exact for linear"
      " regression, by the Gaussian for logistic regression; ridge: its"
      " minimum, solved, with the mean label as its bias. The loss: the"
      f" expected one on the training images, {_NEAR:g} times the least that"
      " `closed` found. Times are of one process on a machine that others"
      " shared."
    ],
    draw=figures.drawing(
      [
        figures.Panel(
          title=model,
          x_label="step",
          y_label="expected loss / least",
          log_x=True,
          log_y=True,
          lines=own,
          levels={"the loss": _NEAR},
        )
        for (model,), own in lines.items()
      ],
    ),
  )


def _words() -> list[str]:
  return [f"{first} or {second}" for first, second in PAIRS]


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
