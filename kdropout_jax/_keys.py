"""Run-long keys: one implementation, and one key for each layer.

Masks are always sampled by threefry, because the draws of rbg differ between
`vmap` and a loop. A key of another implementation is converted once, where it
enters the library, before any split.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt

from kdropout_jax._types import Key
from kdropout_jax._types import UnsupportedError

SUBNETS = "subnets"
"""Name of the run-long stream; a per-step key has no business in it."""

_IMPL = "threefry2x32"


def as_threefry(key: Key, name: str = "key") -> Key:
  """Returns `key` as a typed threefry key of the same batch shape.

  Words 0 and 1 of another implementation's key become the threefry key;
  further words are folded in (never XORed: the halves of an rbg key made from
  a seed are equal).

  Args:
    key: a typed key, or a legacy uint32 array [..., 2] or [..., 4].
    name: of the argument, for the message.

  Raises:
    ValueError: `key` is no key.
    UnsupportedError: ``jax_threefry_partitionable`` is False: the same key
      would give other masks.

  >>> import jax
  >>> as_threefry(jax.random.key(0, impl="rbg")).dtype
  key<fry>
  """
  if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
    raise UnsupportedError(
      "jax_threefry_partitionable=False draws other bits from the same key, so"
      " masks could not be rebuilt elsewhere: leave the flag at True, JAX's"
      " default"
    )
  dtype = getattr(key, "dtype", None)
  if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
    if str(jax.random.key_impl(key)) == _IMPL:
      return key
    words = jax.random.key_data(key)
  else:
    words = _legacy_words(key, name)
  first = from_words(words[..., :2])
  fold = jax.random.fold_in
  for _ in first.shape:
    fold = jax.vmap(fold)
  for i in range(2, words.shape[-1]):
    first = fold(first, words[..., i])
  return first


def single(key: Key, name: str = "key") -> Key:
  """Returns `key`, one key and no array of them, as a typed threefry key."""
  key = as_threefry(key, name)
  if key.ndim:
    raise ValueError(
      f"{name} must be a single key, got shape {tuple(key.shape)}"
    )
  return key


def from_words(words: UInt[Array, "... 2"]) -> Key:
  """Returns the threefry key, or keys, of raw words."""
  return jax.random.wrap_key_data(words, impl=_IMPL)


def named(key: Key, name: str) -> Key:
  """Returns the key of the layer, or of the purpose, called `name`.

  Sixty-four bits of the name's SHA-256 are folded in, so that a layer keeps
  its masks when other layers come and go.
  """
  digest = hashlib.sha256(name.encode()).digest()
  for word in (digest[:4], digest[4:8]):
    key = jax.random.fold_in(key, jnp.uint32(int.from_bytes(word, "big")))
  return key


def _legacy_words(key, name: str) -> Array:
  words = key if isinstance(key, (jax.Array, np.ndarray)) else None
  if (
    words is None
    or words.dtype != jnp.uint32
    or words.ndim < 1
    or words.shape[-1] not in (2, 4)
  ):
    raise ValueError(
      f"{name} must be a jax.random key (typed, or legacy uint32 [..., 2] or"
      f" [..., 4]), got {getattr(key, 'dtype', type(key).__name__)}"
      f" {getattr(key, 'shape', '')}".rstrip()
    )
  return jnp.asarray(words)
