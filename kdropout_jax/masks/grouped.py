"""Masks of groups: ids that share one random order of a layer's units.

Group g is sampled from ``fold_in(layer_key, g)``: its units are put in the
order of random bits and cut into parts, and a subnet keeps the parts that the
design gives it. A step mostly trains whole groups, whose order a CPU then
finds once a group instead of once a subnet; other platforms rank at once.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt

from kdropout_jax import _designs
from kdropout_jax import blocks
from kdropout_jax._types import Key
from kdropout_jax.masks import selection

__all__ = ()


def sample(
  layer_key: Key, ids: UInt[Array, "T"], count: int, design: _designs.Design
) -> Bool[Array, "T G"]:
  """Returns which of `count` blocks (or units) each subnet keeps.

  Args:
    layer_key: the layer's run-long key.
    ids: uint32 [T], in any order and from any groups.
    count: blocks G of the layer, at least as many as the design has parts.
    design: which parts the subnets of a group keep.

  >>> from kdropout_jax import _designs
  >>> key, ids = jax.random.key(0), jnp.arange(3, dtype=jnp.uint32)
  >>> sample(key, ids, 6, _designs.Design(3, 3)).sum(axis=0).tolist()
  [1, 1, 1, 1, 1, 1]
  """
  groups, members = ids // design.size, ids % design.size
  keys = jax.vmap(jax.random.fold_in, (None, 0))(layer_key, groups)
  bits = jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(keys)
  part = parts_of(bits, design)
  if count % design.num_parts:
    # Which parts are the larger ones is drawn, or a unit's chance to be kept
    # would depend on the subnet's number in its group.
    turns = jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32))(
      jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
    )
    part = (part + (turns % design.num_parts)[:, None]) % design.num_parts
  kept = jnp.asarray(design.table)[members]
  return jnp.take_along_axis(kept, part.astype(jnp.int32), axis=1)


def in_order(
  design: _designs.Design, width: int, block_size: int = 1
) -> blocks.Masks:
  """Returns the masks of a whole group, its units in the order of their parts.

  Args:
    design: which parts the subnets of a group keep.
    width: units of the layer, in equal parts of whole blocks.
    block_size: units a block.

  >>> from kdropout_jax import _designs
  >>> in_order(_designs.Design(2, 2), 4).keep.astype(int).tolist()
  [[1, 1, 0, 0], [0, 0, 1, 1]]
  """
  count = blocks.num_blocks(width, block_size)
  keep = jnp.repeat(
    jnp.asarray(design.table),
    count // design.num_parts,
    axis=1,
    total_repeat_length=count,
  )
  ordered = dataclasses.replace(design, in_order=True)
  return blocks.Masks(keep, width, block_size, count // design.parts, ordered)


def order_of(masks: blocks.Masks) -> Int[Array, "W"]:
  """Returns the units of a layer in the order of their parts.

  Args:
    masks: of one whole group.
  """
  assert masks.design is not None
  table = jnp.asarray(masks.design.table)
  same = jnp.all(masks.dense()[:, :, None] == table[:, None, :], axis=0)
  return jnp.argsort(jnp.argmax(same, axis=1), stable=True).astype(jnp.int32)


def parts_of(
  bits: UInt[Array, "T G"], design: _designs.Design
) -> UInt[Array, "T G"]:
  """Returns the part of each unit in the order of its row's bits.

  Of equal bits the left one comes first, as everywhere.
  """
  return _parts_of(bits, design)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _parts_of(bits, design):
  """Chooses by the platform; under `vmap` (steps, seeds) all rows are one."""

  @jax.custom_batching.custom_vmap
  def choose(bits):
    return jax.lax.platform_dependent(
      bits,
      cpu=functools.partial(_by_bisection, design=design),
      default=functools.partial(_by_rank, design=design),
    )

  @choose.def_vmap
  def batched(axis_size, in_batched, bits):
    del axis_size
    part = _parts_of(bits.reshape(-1, bits.shape[-1]), design)
    return part.reshape(bits.shape), in_batched[0]

  return choose(bits)


def _by_bisection(
  bits: UInt[Array, "T G"], design: _designs.Design
) -> UInt[Array, "T G"]:
  """As `parts_of`, by a threshold a part; once a group where groups are whole.

  Rows of one group have equal bits, which a comparison sees.
  """
  rows, size = bits.shape[0], design.size
  if rows % size:
    return _by_thresholds(bits, design)
  first = bits[::size]
  is_whole = jnp.all(bits == jnp.repeat(first, size, axis=0))
  return jax.lax.cond(
    is_whole,
    lambda: jnp.repeat(_by_thresholds(first, design), size, axis=0),
    lambda: _by_thresholds(bits, design),
  )


def _by_thresholds(
  bits: UInt[Array, "T G"], design: _designs.Design
) -> UInt[Array, "T G"]:
  rows, count = bits.shape
  starts = jnp.asarray(design.starts(count)[1:], jnp.int32)
  each = jnp.repeat(bits, starts.size, axis=0)
  before = selection.by_bisection(each, jnp.tile(starts, rows))
  part = jnp.sum(~before.reshape(rows, -1, count), axis=1, dtype=jnp.int32)
  return part.astype(jnp.uint32)


def _by_rank(
  bits: UInt[Array, "T G"], design: _designs.Design
) -> UInt[Array, "T G"]:
  """As `parts_of`, by the place of each unit in its row."""
  rank = selection.ranks(bits)
  starts = jnp.asarray(design.starts(bits.shape[1])[1:], jnp.int32)
  part = jnp.sum(
    rank[:, None] >= starts[None, :, None], axis=1, dtype=jnp.int32
  )
  return part.astype(jnp.uint32)
