"""Pooled k-dropout in a Flax training loop that was there before.

  python examples/flax_training_loop.py

Half a minute on two cores. Model and loop are ordinary flax.linen; what
k-dropout changes is one call, marked below: `model.apply` becomes
`kd.linen.apply`, with a schedule, the step, and a key that is the same at
every step. Three tenths of the training labels are wrong, so that a network
without dropout learns them by heart. Expected: dropout is worth 9 points; a
pool of 500 subnets is as good as standard dropout to within what three seeds
tell, a pool of 50 and one subnet at a time give 2 and 3 points of it back.
Here a step takes about as long with each: the time comes back in other ways
(`window_ensemble.py`).
"""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

import kdropout_jax as kd

BATCH = 50


class MLP(nn.Module):
  """Somebody's network: nothing in it knows of this library."""

  rate: float

  @nn.compact
  def __call__(self, x, train):
    """Returns logits [B, 10]."""
    for _ in range(2):
      x = nn.relu(nn.Dense(256)(x))
      x = nn.Dropout(self.rate)(x, deterministic=not train)
    return nn.Dense(10)(x)


def load_digits(num_train=500, wrong=0.3):
  """Returns images to train on, some labels wrong, and 1,000 to test on."""
  images, labels = datasets.load_digits(return_X_y=True)
  images, rng = (images / 16).astype(np.float32), np.random.default_rng(0)
  given = labels[:num_train].copy()
  is_wrong = rng.random(num_train) < wrong
  given[is_wrong] = rng.integers(0, 10, is_wrong.sum())
  return (images[:num_train], given), (images[-1000:], labels[-1000:])


def make_step(model, optimizer, schedule):
  """Returns the jitted training step; a schedule of None is plain Flax."""

  def loss_fn(params, x, y, step, key):
    variables = {"params": params}
    if schedule is None:  # as it was
      rngs = {"dropout": jax.random.fold_in(key, step)}
      logits = model.apply(variables, x, train=True, rngs=rngs)
    else:  # what k-dropout changes: the key holds still, the step is told
      logits = kd.linen.apply(
        model, variables, x, train=True, schedule=schedule, step=step, key=key
      )
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  @jax.jit
  def train_step(params, opt_state, x, y, step, key):
    grads = jax.grad(loss_fn)(params, x, y, step, key)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state

  return train_step


def train(model, optimizer, train_step, data, seed, num_steps):
  """Trains one network; returns its parameters and the ms of a step."""
  images, labels = data
  key, rng = jax.random.key(seed), np.random.default_rng(seed)
  params = model.init(key, images[:1], train=False)["params"]
  opt_state, times = optimizer.init(params), []
  for step in range(num_steps):
    rows = rng.choice(len(images), BATCH, replace=False)
    began = time.perf_counter()
    params, opt_state = jax.block_until_ready(
      train_step(params, opt_state, images[rows], labels[rows], step, key)
    )
    times.append(1e3 * (time.perf_counter() - began))
  return params, np.median(times)


METHODS = {
  "no dropout": (None, 0.0),
  "standard dropout": (None, 0.5),
  "pooled, 8 of 50": (kd.Pooled(pool_size=50, m=8), 0.5),
  "pooled, 8 of 500": (kd.Pooled(pool_size=500, m=8), 0.5),
  "sequential, 1 for 50 steps": (kd.Sequential(k=50, m=1), 0.5),
}


def main(num_steps=400, num_seeds=3):
  """Prints one line a method."""
  data, (x, y) = load_digits()
  print(f"{num_steps} steps, {num_seeds} seeds, {len(x)} test images")
  print(f"{'':27}accuracy [lowest, highest]  log loss  ms a step")
  for name, (schedule, rate) in METHODS.items():
    model, optimizer, rows = MLP(rate), optax.adam(1e-3), []
    train_step = make_step(model, optimizer, schedule)
    for seed in range(num_seeds):
      params, ms = train(model, optimizer, train_step, data, seed, num_steps)
      logits = model.apply({"params": params}, x, train=False)
      scores = kd.analysis.calibration.scores(logits, jnp.asarray(y))
      rows.append((scores.accuracy, scores.nll, ms))
    accuracy, nll, ms = np.array(rows).T
    print(
      f"{name:27}{accuracy.mean():8.3f} [{accuracy.min():.3f},"
      f" {accuracy.max():.3f}]    {nll.mean():8.3f} {np.median(ms):10.2f}"
    )


if __name__ == "__main__":
  main()
