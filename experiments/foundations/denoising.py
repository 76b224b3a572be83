"""Denoising autoencoders with tied weights (Vincent et al. 2010).

Some inputs are set to 0, and all are to be read back. The parameters, and
what units do, are those of a restricted Boltzmann machine (`rbm.Rbm`), so that
either may pretrain a layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from experiments.foundations import rbm as rbm_lib

CORRUPTION = 0.3
"""Probability of setting an input to 0."""

_SMALLEST = 1e-6


def read_back(
  coder: rbm_lib.Rbm, v: Float[Array, "B V"]
) -> Float[Array, "B V"]:
  """Returns the inputs as they are coded and decoded."""
  return rbm_lib.visible_means(coder, rbm_lib.hidden_means(coder, v))


def error(
  coder: rbm_lib.Rbm, v: Float[Array, "B V"], seen: Float[Array, "B V"]
) -> Float[Array, ""]:
  """Returns the cross entropy of inputs, read back from what was seen of them.

  Args:
    coder: weights and biases.
    v: inputs in [0, 1].
    seen: the same, some set to 0.
  """
  p = jnp.clip(read_back(coder, seen), _SMALLEST, 1 - _SMALLEST)
  logs = v * jnp.log(p) + (1 - v) * jnp.log(1 - p)
  return -jnp.mean(jnp.sum(logs, axis=-1))


def corrupt(v: Float[Array, "B V"], key: Array) -> Float[Array, "B V"]:
  """Returns inputs some of which are set to 0."""
  return v * jax.random.bernoulli(key, 1 - CORRUPTION, v.shape)


def train(
  data: Any, num_hidden: int, key: Array, recipe: rbm_lib.Recipe
) -> rbm_lib.Rbm:
  """Returns an autoencoder that was trained on data; as `rbm.train`.

  Raises:
    ValueError: data outside [0, 1], or a recipe that drops hidden units.
  """
  data = rbm_lib.check_data(data)
  if recipe.rate:
    raise ValueError(
      "rate must be 0 for an autoencoder here, which drops inputs alone, got"
      f" {recipe.rate}"
    )
  init_key, key = jax.random.split(key)
  start = rbm_lib.init(init_key, data.shape[1], num_hidden)
  return rbm_lib.descend(_loss, start, data, key, recipe)


def _loss(coder, v, key, number, run_key):
  del number, run_key
  return error(coder, v, corrupt(v, key))
