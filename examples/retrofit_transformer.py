"""Somebody's transformer, its dropouts put on a schedule from outside.

  python examples/retrofit_transformer.py

A minute on two cores. The transformer below is plain flax.nnx and knows
nothing of this library: scikit-learn's digits as sequences of eight rows. One
line, `kd.nnx.retrofit`, makes each of its dropouts follow a schedule, and
`kd.nnx.set_step` tells them the time. Attention weights keep conventional
dropout, fresh at each step. Expected: three dropout layers found, one a block
and one before the head; the same units dropped within a window, others after
it; accuracies that 297 test images cannot tell apart (a standard error is a
point and a half).
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn import datasets

import kdropout_jax as kd

BATCH, WIDTH = 64, 64


class Block(nnx.Module):
  """Attention and a feed-forward layer, each normalised before."""

  def __init__(self, rngs):
    self.norm_1, self.norm_2 = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in "ab")
    self.attention = nnx.MultiHeadAttention(
      4, WIDTH, dropout_rate=0.1, decode=False, rngs=rngs
    )
    self.wide = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
    self.narrow = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
    self.dropout = nnx.Dropout(0.3, rngs=rngs)

  def __call__(self, x):
    """Returns [B, positions, WIDTH]."""
    x = x + self.attention(self.norm_1(x))
    hidden = self.dropout(nnx.gelu(self.wide(self.norm_2(x))))
    return x + self.narrow(hidden)


class Transformer(nnx.Module):
  """Two blocks over the eight rows of a digit."""

  def __init__(self, rngs):
    self.embed = nnx.Linear(8, WIDTH, rngs=rngs)
    self.position = nnx.Param(jax.random.normal(rngs.params(), (1, 8, WIDTH)))
    self.blocks = nnx.List([Block(rngs) for _ in range(2)])
    self.dropout = nnx.Dropout(0.3, rngs=rngs)
    self.head = nnx.Linear(WIDTH, 10, rngs=rngs)

  def __call__(self, images):
    """Returns logits [B, 10] of images [B, 8, 8]."""
    x = self.embed(images) + self.position
    for block in self.blocks:
      x = block(x)
    return self.head(self.dropout(x.mean(axis=1)))


def load_digits():
  """Returns the first 1,500 images to train on, and 297 to test on."""
  bunch = datasets.load_digits()
  images = jnp.asarray(bunch.images / 16, jnp.float32)
  labels = jnp.asarray(bunch.target, jnp.int32)
  return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


def train(model, data, num_steps, scheduled):
  """Trains a model in place; returns the ms of a step."""
  images, labels = data
  optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

  @nnx.jit
  def train_step(model, optimizer, x, y, step):
    if scheduled:
      kd.nnx.set_step(model, step)

    def loss_fn(model):
      losses = optax.softmax_cross_entropy_with_integer_labels
      return losses(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss_fn)(model))

  rng, times = np.random.default_rng(0), []
  for step in range(num_steps):
    rows = rng.choice(len(images), BATCH, replace=False)
    began = time.perf_counter()
    train_step(model, optimizer, images[rows], labels[rows], jnp.int32(step))
    jax.block_until_ready(nnx.state(model, nnx.Param))
    times.append(1e3 * (time.perf_counter() - began))
  return np.median(times)


def same_units(model, x, first, second):
  """Returns whether two steps drop the same units of the head."""
  outputs = []
  for step in (first, second):
    kd.nnx.set_step(model, step)
    outputs.append(model.dropout(jnp.ones((len(x), WIDTH))) > 0)
  return bool((outputs[0] == outputs[1]).all())


def main(num_steps=200):
  """Prints what was found in the model, and one line a method."""
  data, (x, y) = load_digits()
  for name, schedule in {
    "standard dropout": None,
    "sequential, 8 for 25 steps": kd.Sequential(k=25, m=8),
    "pooled, 8 of 200": kd.Pooled(pool_size=200, m=8),
  }.items():
    model = Transformer(nnx.Rngs(0))
    model.train()
    if schedule is not None:
      kd.nnx.retrofit(model, schedule=schedule, key=jax.random.key(0))
    if isinstance(schedule, kd.Sequential):
      print("dropouts found:", ", ".join(kd.nnx.layer_keys(model)))
      same, other = (same_units(model, x, 0, step) for step in (24, 25))
      print(f"steps 0 and 24 drop the same units: {same}; 0 and 25: {other}")
    ms = train(model, data, num_steps, schedule is not None)
    model.eval()
    hits = kd.analysis.calibration.correct(model(x), y)
    print(f"{name:27} test accuracy {hits.mean():.3f}, {ms:6.2f} ms a step")


if __name__ == "__main__":
  main()
