"""Keys that serve two kinds of reader of one stream.

A dropout that follows a schedule needs the run-long key; whatever else reads
its stream needs noise that is fresh at each step. A paired key is both: to
`jax.random`, and so to any module of anyone's, it draws like the key of this
step, while `run_half` gives out the run-long key. Splitting and folding, as
Flax's scopes and lifted transforms do, act on both halves alike. As the pair
is data, it goes wherever a key goes: through jit, scan, remat and vmap.
"""

import jax
import jax.numpy as jnp
from jax.extend import random as jax_random
from jaxtyping import Array, UInt

from kdropout_jax import _keys
from kdropout_jax._types import Key


def pair(run_key: Key, step_key: Key) -> Key:
  """Returns one key that draws like `step_key` and holds `run_key`.

  Args:
    run_key: a threefry key.
    step_key: a threefry key.
  """
  words = [jax.random.key_data(key) for key in (step_key, run_key)]
  return jax.random.wrap_key_data(jnp.concatenate(words, -1), impl=_PAIRED)


def is_paired(key) -> bool:
  """Returns whether `key` was made by `pair`, or split from such a key."""
  return getattr(key, "dtype", None) == _DTYPE


def run_half(key: Key) -> Key:
  """Returns the run-long half of a paired key, and any other key as it is."""
  if not is_paired(key):
    return key
  return _keys.from_words(jax.random.key_data(key)[..., 2:])


def _seed(seed: Array) -> UInt[Array, "4"]:
  words = jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
  return jnp.concatenate([words, words])


def _split(
  words: UInt[Array, "4"], shape: tuple[int, ...]
) -> UInt[Array, "... 4"]:
  halves = [
    jax.random.key_data(jax.random.split(_keys.from_words(half), shape))
    for half in (words[:2], words[2:])
  ]
  return jnp.concatenate(halves, axis=-1)


def _fold_in(words: UInt[Array, "4"], data) -> UInt[Array, "4"]:
  halves = [
    jax.random.key_data(jax.random.fold_in(_keys.from_words(half), data))
    for half in (words[:2], words[2:])
  ]
  return jnp.concatenate(halves)


def _random_bits(
  words: UInt[Array, "4"], bit_width: int, shape: tuple[int, ...]
) -> UInt[Array, "..."]:
  dtype = jnp.dtype(f"uint{bit_width}")
  return jax.random.bits(_keys.from_words(words[:2]), shape, dtype)


_PAIRED = jax_random.define_prng_impl(
  key_shape=(4,),
  seed=_seed,
  split=_split,
  random_bits=_random_bits,
  fold_in=_fold_in,
  name="kdropout_paired",
  tag="kdp",
)
_DTYPE = jax.eval_shape(
  lambda: jax.random.wrap_key_data(jnp.zeros(4, jnp.uint32), impl=_PAIRED)
).dtype
