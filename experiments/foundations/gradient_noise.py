"""Noise of the gradient, and steps to a given loss, with and without dropout.

  python -m experiments.gradient_noise --scale=cpu

The notes' limitations: training takes longer, and gradients are noisy. The
variance of a batch's gradient is taken at the parameters in the middle of each
run, over batches AND masks; within a window of k-dropout the masks stand, so
there it is over batches alone. The loss is that of the whole network on
training images, nothing dropped. About 4 minutes of two cores at the cpu
scale, on MNIST. Expected: noise and steps in the order none, dropout.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cells import experiment
from experiments.cells import finished
from experiments.cells import networks
from experiments.foundations import claims
from experiments.foundations import sizes
from experiments.report import columns
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.run import config as config_lib
from kdropout_jax.masks import schedules
from kdropout_jax.training import rng
from kdropout_jax.training import task as task_lib

TARGET = 0.1  # Nats, of the whole network on training images.
_BATCHES = 64
_ROWS = 500  # Training images of the loss.


def arms(scale: sizes.Scale) -> dict[str, dict[str, Any]]:
  """Returns {label: fields}: without dropout, and under k and m."""
  window = scale.num_steps // 20
  return {
    "none": dict(method="none"),
    "standard": dict(method="standard"),
    "sequential m=8": dict(method="sequential", k=window, m=8),
    "sequential m=1": dict(method="sequential", k=window, m=1),
    "pooled m=8": dict(method="pooled", pool_size=50, m=8),
  }


def points(num_steps: int) -> tuple[int, ...]:
  """Returns steps at which the loss is read, each about 1.4 times the last."""
  count = math.floor(2 * math.log2(num_steps / 2))
  found = {round(num_steps / 2 ** (i / 2)) for i in range(count)}
  return tuple(sorted(found | {num_steps // 2, num_steps}))


def measure(scale: sizes.Scale, store: experiment.Store) -> study.Report:
  """Trains each method, and follows its loss and its gradient."""
  steps, rows, curves = points(scale.num_steps), [], []
  target = TARGET if scale.name != "smoke" else 1.0
  for label, fields in arms(scale).items():
    run = finished.train(store, scale, steps=steps, **fields)
    noise = Noise(run.nets, run.cells[0])
    for cell, result in zip(run.cells, run.results):
      own = {"method": label, "seed": cell.seed}
      losses = [noise.loss(run.params(cell, step)) for step in steps]
      curves += [own | {"step": s, "loss": x} for s, x in zip(steps, losses)]
      middle = scale.num_steps // 2
      row = own | noise.at(run.params(cell, middle), cell, middle)
      row["accuracy"] = 100 * result["test_accuracy"][0]
      reached = first_at(steps, losses, target)
      if reached is not None:
        row |= {"steps_to_loss": reached, "log_steps": math.log2(reached)}
      rows.append(row)
  return _report(scale, run.cells[0], rows, curves, target)


def first_at(
  steps: Sequence[int], losses: Sequence[float], target: float
) -> float | None:
  """Returns the first step at which a loss is `target`, or None.

  Between two steps both logarithms are taken to lie on a line.
  """
  for i, loss in enumerate(losses):
    if loss > target:
      continue
    if i == 0:
      return float(steps[0])
    before = math.log(losses[i - 1] / target)
    share = before / math.log(losses[i - 1] / loss)
    return steps[i - 1] * (steps[i] / steps[i - 1]) ** share
  return None


class Noise:
  """Measures losses and gradients of networks of one method.

  Args:
    nets: the networks.
    cell: a configuration of the method.
  """

  def __init__(self, nets: networks.Networks, cell: config_lib.RunConfig):
    self._nets = nets
    self._schedule: Any = cell.schedule(nets.num_steps)
    self._inputs, self._labels = nets.split("train")
    self._loss = jax.jit(self._whole_loss)
    self._noise = jax.jit(self._moments)

  def loss(self, params: Any) -> float:
    """Returns the whole network's loss on training images."""
    inputs, labels = self._inputs[:_ROWS], self._labels[:_ROWS]
    return float(self._loss(params, inputs, labels))

  def at(
    self, params: Any, cell: config_lib.RunConfig, step: int
  ) -> dict[str, float]:
    """Returns the variance of a batch's gradient at `params`.

    Over the steps of the run, spread evenly, and over steps of one window:
    the subnets are those of the steps, the batches are drawn anew.
    """
    spread = np.linspace(0, self._nets.num_steps - 1, _BATCHES).astype(int)
    variance, square = self._of(params, cell, spread)
    inside, _ = self._of(params, cell, np.full(_BATCHES, step))
    return {
      "variance": variance,
      "log_variance": math.log10(variance),
      "noise_to_signal": variance / square,
      "variance_in_a_window": inside,
    }

  def _of(self, params, cell, steps) -> tuple[float, float]:
    """Returns the gradient's total variance, and its mean's squared norm."""
    random = np.random.default_rng(cell.seed)
    rows = np.stack(
      [
        random.choice(len(self._labels), cell.batch_size, replace=False)
        for _ in steps
      ]
    )
    key = networks.run_key(cell.seed)
    ids = None
    if self._schedule is not None:
      ids = jax.vmap(
        lambda step: schedules.subnet_ids(
          step, key, self._schedule, cell.batch_size
        )
      )(jnp.asarray(steps, jnp.int32))
    found = self._noise(
      params, key, ids, self._inputs[rows], self._labels[rows]
    )
    variance, square = (float(v) for v in found)
    # The mean of n gradients holds an n-th of their variance.
    return variance, max(square - variance / len(steps), 1e-30)

  def _whole_loss(self, params, inputs, labels):
    return self._mean_loss(params, inputs, labels, train=False)

  def _mean_loss(self, params, inputs, labels, **call):
    task = self._nets.task
    logits: Any = task.model.apply(
      {"params": params}, task.preprocess(inputs), **call
    )
    return jnp.mean(task_lib.losses_and_hits(logits, labels)[0])

  def _moments(self, params, key, ids, inputs, labels):
    call: dict[str, Any] = {"train": False}
    if ids is not None:
      call = {"train": True, "rngs": {rng.SUBNETS: key, "dropout": key}}

    def add(sums, one):
      own, x, y = one
      more = call if own is None else call | {"subnets": own}
      gradient = jax.grad(self._mean_loss)(params, x, y, **more)
      square = sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient))
      total, squares = sums
      return (jax.tree.map(jnp.add, total, gradient), squares + square), None

    zero = (jax.tree.map(jnp.zeros_like, params), jnp.zeros(()))
    (total, squares), _ = jax.lax.scan(add, zero, (ids, inputs, labels))
    count = labels.shape[0]
    mean = sum(jnp.sum((g / count) ** 2) for g in jax.tree.leaves(total))
    return (squares / count - mean) * count / (count - 1), mean


def _report(scale, cell, rows, curves, target) -> study.Report:
  table = columns.table(
    rows,
    ("method",),
    {
      "method": columns.setting("method"),
      "variance of the gradient": columns.spread("variance", 4),
      "same, one step's masks": columns.spread("variance_in_a_window", 4),
      "noise / signal": columns.spread("noise_to_signal", 1),
      f"steps to a loss of {target:g}": columns.spread("steps_to_loss", 0),
      "test accuracy": columns.spread("accuracy"),
    },
  )
  lines = {
    label: rows_lib.curve(same, "step", "loss")
    for (label,), same in rows_lib.group(curves, "method").items()
  }
  return study.Report(
    name="gradient_noise",
    title="Noise of the gradient and steps to a loss",
    setting=study.describe(cell),
    table=table,
    rows=rows,
    numbers={"curves": curves, "target": target},
    claims=claims.named(
      "dropout_makes_gradients_noisy", "dropout_takes_longer"
    ),
    notes=[
      f"Windows of k = {scale.num_steps // 20} steps, a pool of 50. Variance:"
      f" trace of the covariance over {_BATCHES} batches, after half of the"
      " run, each batch with the masks of a step of its own, spread over the"
      " run; and with the masks of one and the same step, as within a window"
      " (under standard dropout no two steps share theirs). Noise / signal:"
      " over the squared norm of the mean gradient. Steps: of the whole"
      f" network on {_ROWS} training images, interpolated; a run that does not"
      " get there is left out."
    ],
    draw=figures.drawing(
      [
        figures.Panel(
          x_label="step",
          y_label="training loss, nothing dropped",
          log_x=True,
          log_y=True,
          lines=lines,
          levels={"target": target},
        )
      ]
    ),
  )


main = experiment.main(measure, sizes.SCALES, sizes.SHARED)

if __name__ == "__main__":
  experiment.launch(main)
