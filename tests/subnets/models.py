"""Small models and a masked training loop that the subnet tests share."""

import functools

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing


class Mlp(nn.Module):
  """Two hidden layers of equal width; units of the input drop, too."""

  pattern: object = kd.ExactCount
  rescale: str = "expected"
  width: int = 20
  depth: int = 2
  dtype: object = jnp.float32
  compute: object = None

  @nn.compact
  def __call__(self, x, train=False, subnets=None):
    dense = functools.partial(
      nn.Dense,
      param_dtype=self.dtype,
      dtype=self.compute,
      bias_init=nn.initializers.normal(0.1),
    )
    drop = functools.partial(
      kd.linen.Dropout,
      deterministic=not train,
      pattern=self.pattern,
      rescale=self.rescale,
    )
    x = drop(0.25, name="in")(x, subnets=subnets)
    for i in range(self.depth):
      x = nn.relu(dense(self.width, name=f"dense_{i}")(x))
      x = drop(0.5, name=f"drop_{i}")(x, subnets=subnets)
    return dense(3, name="out")(x)


SHALLOW_LAYOUT = kd.subnets.Layout(
  {
    "dense_0/kernel": {0: "in", 1: "drop_0"},
    "dense_0/bias": {0: "drop_0"},
    "out/kernel": {0: "drop_0"},
  }
)
MLP_LAYOUT = kd.subnets.Layout(
  {
    "dense_0/kernel": {0: "in", 1: "drop_0"},
    "dense_0/bias": {0: "drop_0"},
    "dense_1/kernel": {0: "drop_0", 1: "drop_1"},
    "dense_1/bias": {0: "drop_1"},
    "out/kernel": {0: "drop_1"},
  }
)


class Cnn(nn.Module):
  """Channels that drop, pooled, flattened, and read by a dense layer."""

  pattern: object = kd.ExactCount

  @nn.compact
  def __call__(self, x, train=False, subnets=None):
    spatial = functools.partial(
      kd.linen.SpatialDropout, deterministic=not train, pattern=self.pattern
    )
    x = nn.max_pool(nn.relu(nn.Conv(6, (3, 3))(x)), (2, 2), (2, 2))
    x = spatial(0.5, name="maps_0")(x, subnets=subnets)
    x = nn.relu(nn.Conv(8, (3, 3))(x))
    x = spatial(0.5, name="maps_1")(x, subnets=subnets)
    x = x.reshape(x.shape[0], -1)
    x = nn.relu(nn.Dense(10)(x))
    drop = kd.linen.Dropout(0.5, pattern=self.pattern, name="units")
    return nn.Dense(3)(drop(x, not train, subnets=subnets))


def as_on_a_gpu(monkeypatch):
  """Lets programs of this CPU go the ways that are chosen for a GPU."""

  def choose(*args, default=None, **branches):
    return branches.get("cuda", default)(*args)

  monkeypatch.setattr(jax.lax, "platform_dependent", choose)
  for module, name in ((extraction, "_gather_axes"), (indexing, "_order")):
    plain = getattr(module, name).__wrapped__  # jit may know the CPU's way
    monkeypatch.setattr(module, name, plain)


def task(model, *, k, num_steps, rows=8, inputs=(12,), seed=3):
  """Returns parameters, a loss and its arguments for each step."""
  keys = jax.random.split(jax.random.key(seed), 4)
  dtype = getattr(model, "dtype", jnp.float32)
  x = jax.random.normal(keys[0], (num_steps, rows, *inputs), dtype)
  y = jax.random.randint(keys[1], (num_steps, rows), 0, 3)
  params = model.init(keys[2], x[0])["params"]

  def loss(params, step, x, y):
    ids = kd.subnet_ids(step, keys[3], kd.Sequential(k=k, m=1), rows)
    logits = model.apply(
      {"params": params},
      x,
      train=True,
      subnets=ids,
      rngs={"subnets": keys[3]},
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return losses.mean()

  return params, loss, (jnp.arange(num_steps), x, y)


def masked_training(optimizer, loss, params, args):
  """Trains at full size: the definition that extraction must meet."""

  def step(carry, args):
    params, state = carry
    value, grads = jax.value_and_grad(loss)(params, *args)
    updates, state = optimizer.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), value

  run = jax.jit(lambda carry, args: jax.lax.scan(step, carry, args))
  (params, state), losses = run((params, optimizer.init(params)), args)
  return params, state, losses


def train_windows(trainer, params, args, k):
  """Trains windows of k steps, one after another, on small networks.

  Args:
    trainer: a `kd.subnets.WindowTrainer`.
    params: of the whole network.
    args: arrays with a leading axis over all steps, the steps themselves first.
    k: steps a window.

  Returns:
    params, the optimizer's state and the losses of all steps.
  """

  @jax.jit
  def window(params, state, args):
    first = jax.tree.map(lambda x: x[0], args)
    masks = trainer.sample_masks(params, *first)
    return trainer.train(params, state, masks, *args)

  state, losses = trainer.optimizer.init(params), []
  for start in range(0, len(args[0]), k):
    part = jax.tree.map(lambda x, s=start: x[s : s + k], args)
    params, state, values = window(params, state, part)
    losses.append(values)
  return params, state, jnp.concatenate(losses)
