"""Restricted Boltzmann machines, trained by contrastive divergence (CD-1).

Hinton 2002, and with dropped hidden units Srivastava et al. 2014, section 8: a
unit that is dropped is off for a row of a batch, and gets no gradient of it.
Which are follows a schedule, so that masks may stand for k steps, m at a time.
A machine is trained by optax in a scan over steps; axis letters V and H are
its visible and hidden units.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import kdropout_jax as kd

_MOMENTUM = 0.9


class Rbm(NamedTuple):
  """A machine's parameters."""

  weights: Float[Array, "V H"]
  visible: Float[Array, "V"]
  hidden: Float[Array, "H"]


class Recipe(NamedTuple):
  """How a layer is pretrained; static.

  Attributes:
    num_steps: updates.
    batch_size: rows of an update.
    learning_rate: of SGD with momentum .9.
    rate: probability of dropping a hidden unit.
    schedule: which masks are drawn at a step.
  """

  num_steps: int
  batch_size: int = 50
  learning_rate: float = 0.05
  rate: float = 0.0
  schedule: Any = kd.Standard()


def check_data(x: Any) -> Float[Array, "N V"]:
  """Returns data as floats, or raises a ValueError where it leaves [0, 1]."""
  values = np.asarray(x)
  is_right = values.ndim == 2 and np.issubdtype(values.dtype, np.floating)
  if not is_right or not ((values >= 0) & (values <= 1)).all():
    said = f"{values.min()} to {values.max()}" if values.size else "nothing"
    raise ValueError(
      "data of a Boltzmann machine must be floats [N, V] in [0, 1],"
      f" probabilities of binary units, got {values.dtype}"
      f" {list(values.shape)}, {said}"
    )
  return jnp.asarray(values, jnp.float32)


def init(key: Array, num_visible: int, num_hidden: int) -> Rbm:
  """Returns a machine of small random weights."""
  weights = 0.01 * jax.random.normal(key, (num_visible, num_hidden))
  return Rbm(weights, jnp.zeros(num_visible), jnp.zeros(num_hidden))


def hidden_means(
  rbm: Rbm, v: Float[Array, "B V"], keep: Any = 1.0
) -> Float[Array, "B H"]:
  """Returns the probabilities that hidden units are on."""
  return keep * jax.nn.sigmoid(v @ rbm.weights + rbm.hidden[None])


def visible_means(rbm: Rbm, h: Float[Array, "B H"]) -> Float[Array, "B V"]:
  """Returns the probabilities that visible units are on."""
  return jax.nn.sigmoid(h @ rbm.weights.T + rbm.visible[None])


def free_energy(
  rbm: Rbm, v: Float[Array, "B V"], keep: Any = 1.0
) -> Float[Array, "B"]:
  """Returns minus the log of a row's unnormalised probability.

  Args:
    rbm: the machine.
    v: rows of visible units.
    keep: 0 for hidden units that are off, [B, H]; 1 for the others.
  """
  sums = v @ rbm.weights + rbm.hidden[None]
  return -v @ rbm.visible - jnp.sum(keep * jax.nn.softplus(sums), axis=-1)


def contrast(
  rbm: Rbm, v: Float[Array, "B V"], key: Array, keep: Any = 1.0
) -> Float[Array, ""]:
  """Returns a number whose gradient is that of CD-1.

  The free energy of the data, less that of what the machine makes of them in
  one step of Gibbs sampling, which is held fixed.
  """
  h = jax.random.bernoulli(key, hidden_means(rbm, v, keep)).astype(v.dtype)
  made = jax.lax.stop_gradient(visible_means(rbm, h))
  return jnp.mean(free_energy(rbm, v, keep) - free_energy(rbm, made, keep))


def row_masks(
  step: Any, key: Array, recipe: Recipe, width: int
) -> Float[Array, "B W"]:
  """Returns 1 for each unit that a row keeps at a step, 0 for the others."""
  ones = jnp.ones((recipe.batch_size, width))
  if not recipe.rate:
    return ones
  ids = kd.subnet_ids(step, key, recipe.schedule, recipe.batch_size)
  masks = kd.subnet_masks(key, ids, width, kd.Bernoulli(recipe.rate))
  return kd.dropout(ones, masks, rate=recipe.rate, rescale="at_test")


@functools.partial(jax.jit, static_argnames=("loss", "recipe"))
def descend(
  loss: Any, params: Any, data: Float[Array, "N V"], key: Array, recipe: Recipe
) -> Any:
  """Returns parameters after the recipe's steps on random rows of data.

  Args:
    loss: of parameters, rows, a step's key, its number, and `key`.
    params: where it starts.
    data: all rows.
    key: of rows and noise.
    recipe: how.
  """
  optimizer = optax.sgd(recipe.learning_rate, momentum=_MOMENTUM)

  def step(carry, number):
    params, state = carry
    rows_key, own = jax.random.split(jax.random.fold_in(key, number))
    rows = jax.random.randint(rows_key, (recipe.batch_size,), 0, len(data))
    gradient = jax.grad(loss)(params, data[rows], own, number, key)
    updates, state = optimizer.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), None

  steps = jnp.arange(recipe.num_steps, dtype=jnp.int32)
  (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), steps)
  return params


def train(data: Any, num_hidden: int, key: Array, recipe: Recipe) -> Rbm:
  """Returns a machine that was trained on data.

  Args:
    data: probabilities of visible units, [N, V].
    num_hidden: H.
    key: of everything random.
    recipe: how; its masks are of hidden units.

  Raises:
    ValueError: data outside [0, 1].
  """
  data = check_data(data)
  init_key, key = jax.random.split(key)
  start = init(init_key, data.shape[1], num_hidden)
  return descend(_loss(recipe, num_hidden), start, data, key, recipe)


@functools.cache
def _loss(recipe: Recipe, width: int) -> Any:
  def loss(rbm, v, key, number, run_key):
    # Masks come from the run's key, so that they may be used again.
    keep = row_masks(number, run_key, recipe, width)
    return contrast(rbm, v, key, keep)

  return loss
