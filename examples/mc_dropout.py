"""Monte Carlo dropout, and how honest its probabilities are.

  python examples/mc_dropout.py

Half a minute on two cores. A network that was trained with dropout predicts
in three ways: whole (weights as they are), by Monte Carlo dropout (fifty
passes with fresh masks, averaged), and, where it was trained with a pool of
subnets, by those subnets. Three tenths of the training labels are wrong, so
there is something to be unsure about. Expected: averaging hardly changes
accuracy, and makes log loss and calibration WORSE: trained on wrong labels,
these networks are too unsure already, and masks at test make them more so.
What it gives is a warning: of the images with the lower entropy 97 to 99 % are
right, of the others two thirds.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

import kdropout_jax as kd

BATCH, WIDTH, POOL = 50, 256, 50
KEY = jax.random.key(0)


class MLP(nn.Module):
  """`kd.linen.Dropout` is Flax's, and takes ids of subnets, too."""

  @nn.compact
  def __call__(self, x, train=False, subnets=None):
    """Returns logits [B, 10]."""
    for _ in range(2):
      x = nn.relu(nn.Dense(WIDTH)(x))
      x = kd.linen.Dropout(0.5)(x, deterministic=not train, subnets=subnets)
    return nn.Dense(10)(x)


MODEL = MLP()


def load_digits(num_train=500, wrong=0.3):
  """Returns images to train on, some labels wrong, and 1,000 to test on."""
  images, labels = datasets.load_digits(return_X_y=True)
  images, rng = (images / 16).astype(np.float32), np.random.default_rng(0)
  given = labels[:num_train].copy()
  is_wrong = rng.random(num_train) < wrong
  given[is_wrong] = rng.integers(0, 10, is_wrong.sum())
  return (images[:num_train], given), (
    jnp.asarray(images[-1000:]),
    jnp.asarray(labels[-1000:]),
  )


def train(schedule, data, num_steps):
  """Returns parameters after `num_steps` steps of Adam."""
  images, labels = map(jnp.asarray, data)
  rows = np.random.default_rng(0).integers(len(images), size=(num_steps, BATCH))
  params = MODEL.init(KEY, images[:1])["params"]
  optimizer = optax.adam(1e-3)

  def loss_fn(params, x, y, step):
    ids = kd.subnet_ids(step, KEY, schedule, BATCH)
    logits = MODEL.apply(
      {"params": params}, x, train=True, subnets=ids, rngs={"subnets": KEY}
    )
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  @jax.jit
  def run(params):
    def one(carry, inputs):
      params, state = carry
      step, rows = inputs
      grads = jax.grad(loss_fn)(params, images[rows], labels[rows], step)
      updates, state = optimizer.update(grads, state)
      return (optax.apply_updates(params, updates), state), None

    steps = jnp.arange(num_steps)
    return jax.lax.scan(one, (params, optimizer.init(params)), (steps, rows))[0]

  return run(params)[0]


def report(name, logits, y):
  """Prints the scores of one way to predict."""
  s = kd.analysis.calibration.scores(logits, y)
  print(f"{name:34}{s.accuracy:7.3f}{s.nll:10.3f}{s.brier:8.3f}{s.ece:8.3f}")


def main(num_steps=600, num_samples=50):
  """Prints one line a way to predict, and what the entropy is worth."""
  data, (x, y) = load_digits()
  print(f"{'':34}accuracy  log loss  Brier  calibration error")
  for name, schedule in {
    "standard dropout": kd.Standard(),
    f"pooled, 8 of {POOL}": kd.Pooled(pool_size=POOL, m=8),
  }.items():
    params = train(schedule, data, num_steps)

    @jax.jit
    def stochastic(key, params=params):
      rngs = {"dropout": key}
      return MODEL.apply({"params": params}, x, train=True, rngs=rngs)

    report(f"{name}, whole", MODEL.apply({"params": params}, x), y)
    found = kd.analysis.mc_dropout.predict(stochastic, KEY, num_samples)
    report(f"{name}, Monte Carlo", found.log_probs, y)
    if isinstance(schedule, kd.Pooled):
      report(f"{name}, its subnets", of_subnets(params, x), y)
    told(found, y)


def of_subnets(params, x):
  """Returns the log of the mean probabilities of the pool's subnets."""

  def training(params, ids):
    rngs = {"subnets": KEY}
    return MODEL.apply(
      {"params": params}, x, train=True, subnets=ids, rngs=rngs
    )

  masks = kd.subnets.sample_masks(training, params, jnp.arange(POOL))
  logits = kd.analysis.subnet_accuracy.logits(
    lambda params, x: MODEL.apply({"params": params}, x), params, masks, x
  )
  return kd.analysis.ensembles.average(logits)


def told(found, y):
  """Prints the accuracy where the network is sure, and where it is not."""
  order = jnp.argsort(found.entropy)
  hits = kd.analysis.calibration.correct(found.log_probs, y)[order]
  half = len(y) // 2
  print(
    f"  right on {100 * hits[:half].mean():.1f} % of the half with the lower"
    f" entropy, on {100 * hits[half:].mean():.1f} % of the other"
  )


if __name__ == "__main__":
  main()
