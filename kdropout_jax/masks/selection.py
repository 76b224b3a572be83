"""Which units an exact mask keeps: those with the smallest random bits.

Three ways to the same answer, bit for bit, because platforms pay for
different things: a CPU for each operation, a GPU for each launch of a kernel
(3 to 4 us on an H200). The choice is made where a program is lowered, so that
one traced function serves all platforms.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt

__all__ = ()

_MAX_PAIRS = 2**25
"""Comparisons up to which ranking by all pairs is taken.

On an H200, microseconds a step (ranking, sorting): (1, 4096) 15 and 42,
(8, 128) 14 and 16, (1, 32) 11 and 13, (8, 2048) 26 and 28. The last has 2**25
pairs; with more, pairs grow by the square of the width and a sort does not.
"""


def keep_smallest(
  bits: UInt[Array, "T G"], num_kept: int
) -> Bool[Array, "T G"]:
  """Marks the `num_kept` smallest of each row; of equal ones the leftmost.

  Args:
    bits: uint32 [T, G].
    num_kept: how many to mark, static.

  >>> import jax.numpy as jnp
  >>> keep_smallest(jnp.array([[5, 3, 5, 7]], jnp.uint32), 2).tolist()
  [[True, True, False, False]]
  """
  if num_kept >= bits.shape[1]:
    return jnp.ones(bits.shape, jnp.bool_)
  if num_kept <= 0:
    return jnp.zeros(bits.shape, jnp.bool_)
  return _choose(bits, num_kept)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _choose(bits: UInt[Array, "T G"], num_kept: int) -> Bool[Array, "T G"]:
  """Chooses by the size at hand, under `vmap` (steps, seeds) by the whole."""

  @jax.custom_batching.custom_vmap
  def choose(bits):
    groups, count = bits.shape
    # A symbol of `jax.export` is a size that nobody knows.
    is_known = isinstance(groups, int)
    few_pairs = is_known and groups * count * count <= _MAX_PAIRS
    at_once = by_rank if few_pairs else by_sort
    return jax.lax.platform_dependent(
      bits,
      cpu=lambda bits: by_bisection(bits, num_kept),
      default=lambda bits: at_once(bits, num_kept),
    )

  @choose.def_vmap
  def batched(axis_size, in_batched, bits):
    del axis_size
    keep = _choose(bits.reshape(-1, bits.shape[-1]), num_kept)
    return keep.reshape(bits.shape), in_batched[0]

  return choose(bits)


def by_bisection(
  bits: UInt[Array, "T G"], num_kept: int | Int[Array, "T"]
) -> Bool[Array, "T G"]:
  """Finds the threshold by 32 counts: three times faster than a CPU's sort.

  Bits equal to the threshold's (a chance of G / 2**32) are taken from the left
  until the count is met. Needs ``0 < num_kept < G``, as the others; here the
  count may differ from row to row.
  """

  def halve(i, low):
    # Invariant: fewer than or exactly `num_kept` bits lie below `low`.
    middle = low | (jnp.uint32(1 << 31) >> i)
    below = jnp.sum(bits < middle[:, None], axis=1, dtype=jnp.int32)
    return jnp.where(below <= num_kept, middle, low)

  low = jnp.zeros_like(bits[:, 0])  # Not `zeros`: shard_map's types differ.
  low = jax.lax.fori_loop(jnp.uint32(0), jnp.uint32(32), halve, low)
  below = bits < low[:, None]
  equal = bits == low[:, None]
  missing = num_kept - jnp.sum(below, axis=1, dtype=jnp.int32)
  first_equal = jnp.cumsum(equal, axis=1, dtype=jnp.int32) <= missing[:, None]
  return below | (equal & first_equal)


def by_rank(bits: UInt[Array, "T G"], num_kept: int) -> Bool[Array, "T G"]:
  """Counts what comes before each element, over all pairs: two kernels."""
  return _count_before(bits) < num_kept


def ranks(bits: UInt[Array, "T G"]) -> Int[Array, "T G"]:
  """Returns the place of each element in the order of its row, from 0.

  Of equal ones the left one comes first. Not for a CPU, which bisects.
  """
  groups, count = bits.shape
  if groups * count * count <= _MAX_PAIRS:
    return _count_before(bits)
  place = jax.lax.broadcasted_iota(jnp.int32, bits.shape, 1)
  _, units = jax.lax.sort((bits, place), num_keys=2, is_stable=False)
  return jax.lax.sort((units, place), num_keys=1, is_stable=False)[1]


def _count_before(bits: UInt[Array, "T G"]) -> Int[Array, "T G"]:
  place = jnp.arange(bits.shape[1], dtype=jnp.int32)
  mine, other = bits[:, :, None], bits[:, None, :]
  is_left = (place[None, :] < place[:, None])[None]
  before = (other < mine) | ((other == mine) & is_left)
  return jnp.sum(before, axis=2, dtype=jnp.int32)


def by_sort(bits: UInt[Array, "T G"], num_kept: int) -> Bool[Array, "T G"]:
  """Sorts bits with their places, and keeps what is not after the last kept."""
  place = jax.lax.broadcasted_iota(jnp.int32, bits.shape, 1)
  by_bits, places = jax.lax.sort((bits, place), num_keys=2, is_stable=False)
  last, last_place = (
    jax.lax.slice_in_dim(x, num_kept - 1, num_kept, axis=1)
    for x in (by_bits, places)
  )
  return (bits < last) | ((bits == last) & (place <= last_place))
