"""What the masks of a run do: density, overlap, realised reuse.

Per-layer statistics look right even where reuse is lost; the joint count over
all layers does not. `realised_subnets` and `joint_subnets` are that count.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax import config
from kdropout_jax._types import Key
from kdropout_jax.masks import schedules

__all__ = (
  "density",
  "joint_subnets",
  "overlap",
  "realised_reuse",
  "realised_subnets",
)

_CHUNK = 4096


def density(masks: blocks.Masks) -> Float[Array, "T"]:
  """Returns the share of units that each mask keeps, float32 [T].

  Args:
    masks: of T subnets, in one layer.

  Raises:
    ValueError: no `Masks`.

  >>> import jax.numpy as jnp
  >>> density(blocks.Masks(jnp.array([[True, False]]), width=5, block_size=4))
  Array([0.8], dtype=float32)
  """
  blocks.check_masks(masks)
  return jnp.mean(masks.dense(), axis=1, dtype=jnp.float32)


def overlap(masks: blocks.Masks) -> Float[Array, "T T"]:
  """Returns the intersection over union of every pair of masks, float32 [T, T].

  Independent masks of rate p overlap in about ``(1 - p) / (1 + p)``. Two
  masks that keep nothing overlap fully.

  Args:
    masks: of T subnets, in one layer.

  Raises:
    ValueError: no `Masks`.

  >>> import jax.numpy as jnp
  >>> keep = jnp.array([[True, False], [True, True]])
  >>> overlap(blocks.Masks(keep, width=2))[0].tolist()
  [1.0, 0.5]
  """
  blocks.check_masks(masks)
  units = masks.dense().astype(jnp.float32)
  both = units @ units.T
  sizes = jnp.sum(units, axis=1)
  union = sizes[:, None] + sizes[None, :] - both
  return jnp.where(union > 0, both / jnp.maximum(union, 1.0), 1.0)


def realised_reuse(
  key: Key,
  schedule: config.Schedule,
  num_steps: int,
  batch_size: int,
  layer: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the subnets that a run trains, and in how many steps each does.

  Only slots that own rows count. The k-dropout paper calls the second figure
  k; for pooled schedules it expects it (with replacement a subnet is
  in ``num_steps * (1 - (1 - 1 / pool_size)**m)`` steps).

  Args:
    key: the run-long key.
    schedule: the schedule of the run.
    num_steps: steps of the run.
    batch_size: rows of a batch.
    layer: number of the layer, for per-layer schedules.

  Returns:
    uint32 [n] of ids, ascending, and int64 [n] of step counts.

  Raises:
    ValueError: a wrong schedule or number, or no layer where layers draw.

  >>> import jax, kdropout_jax as kd
  >>> key = jax.random.key(0)
  >>> realised_reuse(key, kd.Sequential(k=4, m=2), 10, 8)[1].tolist()
  [4, 4, 4, 4, 2, 2]
  """
  config.check_schedule(schedule)
  _checks.check_int32("num_steps", num_steps)
  _checks.check_int32("batch_size", batch_size)
  num_slots = schedule.num_concurrent(batch_size)
  slots = np.unique(blocks.row_slots(batch_size, num_slots))

  @jax.jit
  def ids_from(first):
    steps = first + jnp.arange(min(_CHUNK, num_steps), dtype=jnp.int32)

    def ids_at(step):
      return schedules.subnet_ids(step, key, schedule, batch_size, layer)

    return jax.vmap(ids_at)(steps)

  totals: dict[int, int] = {}
  for first in range(0, num_steps, _CHUNK):
    ids = np.asarray(ids_from(first))[: num_steps - first, slots]
    # An id drawn twice in one step trains in one step.
    ids = np.sort(ids, axis=1)
    is_new = np.ones(ids.shape, bool)
    is_new[:, 1:] = ids[:, 1:] != ids[:, :-1]
    for i, n in zip(*np.unique(ids[is_new], return_counts=True)):
      totals[int(i)] = totals.get(int(i), 0) + int(n)
  trained = np.array(sorted(totals), np.uint32)
  return trained, np.array([totals[int(i)] for i in trained], np.int64)


def realised_subnets(
  key: Key,
  schedule: config.Schedule,
  num_steps: int,
  batch_size: int,
  layer: int | None = None,
) -> int:
  """Returns how many distinct subnets a run trains; see `realised_reuse`.

  Args:
    key: as for `realised_reuse`, like all that follows.
    schedule: the schedule of the run.
    num_steps: steps of the run.
    batch_size: rows of a batch.
    layer: number of the layer, for per-layer schedules.

  Raises:
    ValueError: as for `realised_reuse`.

  >>> import jax, kdropout_jax as kd
  >>> realised_subnets(jax.random.key(0), kd.Sequential(k=4, m=2), 10, 8)
  6
  """
  return len(realised_reuse(key, schedule, num_steps, batch_size, layer)[0])


def joint_subnets(layers: Mapping[str, blocks.Masks]) -> list[bytes]:
  """Returns a fingerprint of each slot's subnet over all layers.

  Two slots, of one step or of two, train the same subnet if and only if their
  fingerprints are equal. A pool of 16 joint subnets gives at most 16 of them
  over a run; a draw inside each layer gives hundreds.

  Args:
    layers: {layer name: `Masks`} with the same T, as `layer_masks` gives.

  Returns:
    T byte strings.

  Raises:
    ValueError: no layer, or layers of different T.

  >>> import jax.numpy as jnp
  >>> masks = blocks.Masks(jnp.array([[True], [True], [False]]), width=1)
  >>> len(set(joint_subnets({"h": masks})))
  2
  """
  blocks.check_layers(layers, "layers")
  counts = {name: masks.num_subnets for name, masks in layers.items()}
  if len(set(counts.values())) != 1:
    raise ValueError(
      f"layers must be at least one, with the same T in each, got {counts}"
    )
  packed = [
    np.packbits(np.asarray(masks.keep), axis=1)
    for _, masks in sorted(layers.items())
  ]
  return [row.tobytes() for row in np.concatenate(packed, axis=1)]
