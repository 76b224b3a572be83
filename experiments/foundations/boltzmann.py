"""A deep Boltzmann machine of two hidden layers, small.

Salakhutdinov and Hinton 2009: what the data say of the hidden units is taken
from mean field, what the machine says from Gibbs chains that persist from step
to step. That it runs and reads images back is all that is asked of it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from experiments.foundations import rbm as rbm_lib

_MEAN_FIELD_STEPS = 10


class Machine(NamedTuple):
  """Parameters: V visible units, H and K hidden ones."""

  first: Float[Array, "V H"]
  second: Float[Array, "H K"]
  visible: Float[Array, "V"]
  lower: Float[Array, "H"]
  upper: Float[Array, "K"]


class Units(NamedTuple):
  """Probabilities or samples of all units, one a row."""

  visible: Float[Array, "B V"]
  lower: Float[Array, "B H"]
  upper: Float[Array, "B K"]


def init(key: Array, sizes: tuple[int, int, int]) -> Machine:
  """Returns a machine of small random weights."""
  first, second = jax.random.split(key)
  v, h, k = sizes
  return Machine(
    0.01 * jax.random.normal(first, (v, h)),
    0.01 * jax.random.normal(second, (h, k)),
    *(jnp.zeros(size) for size in sizes),
  )


def energy(machine: Machine, units: Units) -> Float[Array, "B"]:
  """Returns the energy of each row's units."""
  v, h, k = units
  pairs = jnp.sum((v @ machine.first) * h, axis=-1)
  pairs = pairs + jnp.sum((h @ machine.second) * k, axis=-1)
  biases = v @ machine.visible + h @ machine.lower + k @ machine.upper
  return -pairs - biases


def lower_means(machine: Machine, v: Array, k: Array) -> Float[Array, "B H"]:
  """Returns the probabilities of the lower units, from both sides."""
  sums = v @ machine.first + k @ machine.second.T
  return jax.nn.sigmoid(sums + machine.lower[None])


def upper_means(machine: Machine, h: Array) -> Float[Array, "B K"]:
  """Returns the probabilities of the upper units."""
  return jax.nn.sigmoid(h @ machine.second + machine.upper[None])


def visible_means(machine: Machine, h: Array) -> Float[Array, "B V"]:
  """Returns the probabilities of the visible units."""
  return jax.nn.sigmoid(h @ machine.first.T + machine.visible[None])


def mean_field(machine: Machine, v: Float[Array, "B V"]) -> Units:
  """Returns the visible units with what mean field says of the hidden ones."""
  k = jnp.full((v.shape[0], machine.upper.shape[0]), 0.5)
  below = v @ machine.first + machine.lower[None]  # Once: it stays.

  def update(_, hidden):
    h = jax.nn.sigmoid(below + hidden[1] @ machine.second.T)
    return h, upper_means(machine, h)

  start = (jax.nn.sigmoid(below + k @ machine.second.T), k)
  return Units(v, *jax.lax.fori_loop(0, _MEAN_FIELD_STEPS, update, start))


def gibbs(machine: Machine, units: Units, key: Array) -> Units:
  """Returns the next samples of Gibbs chains: lower units, then the others."""
  keys = jax.random.split(key, 3)

  def draw(key, means):
    return jax.random.bernoulli(key, means).astype(means.dtype)

  h = draw(keys[0], lower_means(machine, units.visible, units.upper))
  return Units(
    draw(keys[1], visible_means(machine, h)),
    h,
    draw(keys[2], upper_means(machine, h)),
  )


def read_back(machine: Machine, v: Float[Array, "B V"]) -> Float[Array, "B V"]:
  """Returns images as the lower units' means make them."""
  return visible_means(machine, mean_field(machine, v).lower)


def train(
  data: Any,
  hidden: tuple[int, int],
  key: Array,
  recipe: rbm_lib.Recipe,
  layers: rbm_lib.Recipe,
) -> Machine:
  """Returns a machine that was trained on data.

  It starts from two restricted machines, one upon the other, without which it
  learns the mean image alone.

  Args:
    data: probabilities of visible units, [N, V].
    hidden: H and K.
    key: of everything random.
    recipe: how; as many chains as a batch has rows.
    layers: how the two restricted machines are trained.

  Raises:
    ValueError: data outside [0, 1].
  """
  data = rbm_lib.check_data(data)
  lower_key, upper_key, key = jax.random.split(key, 3)
  lower = rbm_lib.train(data, hidden[0], lower_key, layers)
  means = rbm_lib.hidden_means(lower, data)
  upper = rbm_lib.train(means, hidden[1], upper_key, layers)
  start = Machine(
    lower.weights,
    upper.weights,
    lower.visible,
    (lower.hidden + upper.visible) / 2,
    upper.hidden,
  )
  return _train(start, data, key, recipe)


@functools.partial(jax.jit, static_argnames="recipe")
def _train(start: Machine, data, key, recipe: rbm_lib.Recipe) -> Any:
  optimizer = optax.sgd(recipe.learning_rate, momentum=0.5)

  def contrast(machine, seen, dreamt):
    return jnp.mean(energy(machine, seen)) - jnp.mean(energy(machine, dreamt))

  def step(carry, number):
    machine, state, chains = carry
    rows_key, own = jax.random.split(jax.random.fold_in(key, number))
    rows = jax.random.randint(rows_key, (recipe.batch_size,), 0, len(data))
    chains = gibbs(machine, chains, own)
    gradient = jax.grad(contrast)(
      machine, mean_field(machine, data[rows]), chains
    )
    updates, state = optimizer.update(gradient, state, machine)
    return (optax.apply_updates(machine, updates), state, chains), None

  chains = Units(
    *(
      jnp.zeros((recipe.batch_size, len(bias)))
      for bias in (start.visible, start.lower, start.upper)
    )
  )
  carry = (start, optimizer.init(start), chains)
  steps = jnp.arange(recipe.num_steps, dtype=jnp.int32)
  (machine, _, _), _ = jax.lax.scan(step, carry, steps)
  return machine
