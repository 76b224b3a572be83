"""Windows as small networks, and the trained subnets as an ensemble.

  python examples/window_ensemble.py

Half a minute on two cores. Sequential k-dropout with one subnet at a time:
each window of k steps trains one subnet, here as a physically small network
with an optimizer state as small, put back when the window ends. The order is

  masks    which units each subnet keeps, for all ids of the run at once;
  sizes    room for the largest of them, since Bernoulli masks vary;
  trainer  `kd.subnets.WindowTrainer`, checked once, called once a window;
  analysis every trained subnet as the network that it is: accuracy, the
           ensemble of them, how much they differ.

Expected: the same network as masked training of the same subnets (it is the
same arithmetic, to rounding) in steps about twice as fast; single subnets a
few points below the whole network, and the twelve together as accurate as it,
with a log loss that is no better.
"""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

import kdropout_jax as kd

BATCH, WIDTH, K, NUM_WINDOWS = 250, 1024, 20, 12


class MLP(nn.Module):
  """Two wide layers; `kd.linen.Dropout` takes the ids of its subnets."""

  @nn.compact
  def __call__(self, x, subnets=None):
    """Returns logits [B, 10]; without subnets the whole network's."""
    for _ in range(2):
      x = nn.relu(nn.Dense(WIDTH)(x))
      x = kd.linen.Dropout(0.5)(
        x, deterministic=subnets is None, subnets=subnets
      )
    return nn.Dense(10)(x)


MODEL, KEY, OPTIMIZER = MLP(), jax.random.key(0), optax.adam(3e-4)


def load_digits():
  """Returns 1,500 images to train on, and 297 to test on."""
  images, labels = datasets.load_digits(return_X_y=True)
  images = jnp.asarray(images / 16, jnp.float32)
  labels = jnp.asarray(labels, jnp.int32)
  return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


def loss_fn(params, x, y, ids):
  """Returns the loss of masked training; the trainer runs it small."""
  logits = MODEL.apply(
    {"params": params}, x, subnets=ids, rngs={"subnets": KEY}
  )
  return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train_masked(params, data, k, num_windows):
  """Trains step by step in full size; the baseline."""

  @jax.jit
  def window(params, state, *args):
    def step(carry, args):
      params, state = carry
      grads = jax.grad(loss_fn)(params, *args)
      updates, state = OPTIMIZER.update(grads, state)
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), args)[0]

  return run(window, params, data, k, num_windows)


def train_small(params, data, masks, layout, k, num_windows):
  """Trains each window on the small network of its subnet."""
  sizes = kd.subnets.max_sizes(masks)
  trainer = kd.subnets.WindowTrainer(loss_fn, OPTIMIZER, layout, sizes=sizes)
  trainer.check(params, data[0][:BATCH], data[1][:BATCH], jnp.arange(1))

  @jax.jit
  def window(params, state, x, y, ids):
    masks = trainer.sample_masks(params, x[0], y[0], ids[0])
    return trainer.train(params, state, masks, x, y, ids)[:2]

  return run(window, params, data, k, num_windows)


def run(window, params, data, k, num_windows):
  """Trains all windows; returns the parameters and the ms of a step."""
  state, rng, times = OPTIMIZER.init(params), np.random.default_rng(0), []
  schedule = kd.Sequential(k=k, m=1)
  for number in range(num_windows):
    rows = rng.integers(len(data[0]), size=(k, BATCH))
    ids = kd.subnet_ids(number * k, KEY, schedule, BATCH)
    args = data[0][rows], data[1][rows], jnp.tile(ids, (k, 1))
    began = time.perf_counter()
    params, state = jax.block_until_ready(window(params, state, *args))
    times.append(1e3 * (time.perf_counter() - began) / k)
  return params, np.median(times[1:])  # the first one compiled


def describe(params, layout, masks, x, y):
  """Prints what the trained subnets are worth, alone and together."""
  apply_fn = lambda params, x: MODEL.apply({"params": params}, x)  # noqa: E731
  whole = kd.analysis.calibration.scores(apply_fn(params, x), y)
  logits = kd.analysis.subnet_accuracy.logits(
    apply_fn, params, masks, x, layout=layout
  )
  curve = kd.analysis.ensembles.curve(logits, y)
  hits = jax.vmap(kd.analysis.calibration.correct, (0, None))(logits, y)
  alone = hits.mean(axis=1)
  differ = kd.analysis.diversity.disagreement(logits.argmax(axis=-1))
  differ = kd.analysis.diversity.mean_over_pairs(differ)
  print("on the test images       accuracy  log loss")
  print(f"the whole network          {whole.accuracy:.3f}     {whole.nll:.3f}")
  print(f"one subnet, the mean       {alone.mean():.3f}     {curve.nll[0]:.3f}")
  for count in (2, len(logits)):
    accuracy, nll = curve.accuracy[count - 1], curve.nll[count - 1]
    print(f"{count:2} subnets together        {accuracy:.3f}     {nll:.3f}")
  print(f"two subnets differ on {100 * differ:.1f} % of the images")


def main(k=K, num_windows=NUM_WINDOWS):
  """Prints the time and the accuracy of both ways, then the ensemble."""
  data, (x, y) = load_digits()
  batch = data[0][:BATCH], data[1][:BATCH]
  ids = jnp.arange(num_windows)  # one id a window: every subnet of the run
  params = MODEL.init({"params": KEY, "subnets": KEY}, x)["params"]

  layout = kd.subnets.layout(MODEL, {"params": params}, x, subnets=ids)
  masks = kd.subnets.sample_masks(loss_fn, params, *batch, ids)

  full, full_ms = train_masked(params, data, k, num_windows)
  small, ms = train_small(params, data, masks, layout, k, num_windows)
  same = [MODEL.apply({"params": p}, x).argmax(axis=-1) for p in (full, small)]
  same = (same[0] == same[1]).mean()
  print(f"{num_windows} subnets, {k} steps each; a step takes")
  print(
    f"  {full_ms:.1f} ms masked, {ms:.1f} ms small: {full_ms / ms:.2f} times"
  )
  print(f"the two networks agree on {100 * same:.1f} % of the test images")
  describe(small, layout, masks, x, y)


if __name__ == "__main__":
  main()
