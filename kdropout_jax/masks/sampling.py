"""What a subnet looks like in a layer: (layer key, ids) -> masks.

Mask i is sampled from ``fold_in(layer_key, i)``: nothing is stored, any device
samples its own rows, and a subnet can be rebuilt from its id at any time.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, UInt

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import blocks
from kdropout_jax import config
from kdropout_jax import patterns
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import grouped
from kdropout_jax.masks import schedules
from kdropout_jax.masks import selection

__all__ = (
  "layer_masks",
  "masks_for_steps",
  "subnet_masks",
  "subnet_noise",
)

_NUM_TRIED = 8
"""Masks of a user's function whose kept units are counted."""


def subnet_masks(
  layer_key: Key,
  ids: Integer[Array, "T"],
  width: int,
  pattern: patterns.Pattern,
) -> blocks.Masks:
  """Samples the masks of the subnets `ids` in one layer.

  Args:
    layer_key: the layer's run-long key; never fold a step into it.
    ids: any integers [T]; equal ids give equal masks.
    width: units W of the layer.
    pattern: what a mask looks like.

  Returns:
    `Masks` with keep of shape [T, ``ceil(W / block_size)``].

  Raises:
    ValueError: ids that are not integers [T], a wrong width or pattern.
    UnsupportedError: `kd.Gaussian`, which drops nothing.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> ids = jnp.array([7, 7, 8])
  >>> masks = kd.subnet_masks(jax.random.key(0), ids, 6, kd.ExactCount(0.5))
  >>> masks.dense().sum(axis=1).tolist()
  [3, 3, 3]
  """
  patterns.check_pattern(pattern)
  if isinstance(pattern, patterns.Gaussian):
    raise UnsupportedError(
      "kd.Gaussian drops no unit, so there are no masks to sample, to multiply"
      " by or to make small networks of: use kd.subnet_noise, or another"
      " pattern"
    )
  layer_key, ids = _checked(layer_key, ids, width)
  count = blocks.num_blocks(width, pattern.block_size)
  num_kept = pattern.num_kept(width)
  design = getattr(pattern, "design", None)
  if design is not None:
    keep = grouped.sample(layer_key, ids, count, design)
    return blocks.Masks(keep, width, pattern.block_size, num_kept, design)
  mask_keys = _mask_keys(layer_key, ids)
  if isinstance(pattern, patterns.CustomPattern):
    keep = _sample_custom(mask_keys, width, pattern)
  elif num_kept is None:
    keep = _sample_bernoulli(mask_keys, count, pattern.rate)
  else:
    bits = _random_bits(mask_keys, count)
    keep = selection.keep_smallest(bits, num_kept)
  return blocks.Masks(keep, width, pattern.block_size, num_kept)


def subnet_noise(
  layer_key: Key,
  ids: Integer[Array, "T"],
  width: int,
  pattern: patterns.Gaussian,
) -> Float[Array, "T W"]:
  """Draws what the subnets `ids` multiply a layer's units by.

  Args:
    layer_key: the layer's run-long key; never fold a step into it.
    ids: any integers [T]; equal ids give equal noise.
    width: units W of the layer.
    pattern: `kd.Gaussian`.

  Returns:
    float32 [T, W], of mean 1.

  Raises:
    ValueError: as for `subnet_masks`, or a pattern that drops units.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> ids, key = jnp.array([7, 8, 7]), jax.random.key(0)
  >>> noise = kd.subnet_noise(key, ids, 6, kd.Gaussian(0.5))
  >>> bool((noise[0] == noise[2]).all()), bool((noise[0] == noise[1]).any())
  (True, False)
  """
  if not isinstance(pattern, patterns.Gaussian):
    raise ValueError(f"pattern must be kd.Gaussian, got {pattern!r}")
  keys = _mask_keys(*_checked(layer_key, ids, width))
  draws = jax.vmap(lambda key: jax.random.normal(key, (width,), jnp.float32))
  return 1.0 + math.sqrt(pattern.variance) * draws(keys)


def _checked(
  layer_key: Key, ids: Integer[Array, "T"], width: int
) -> tuple[Key, Integer[Array, "T"]]:
  """Returns the key and the ids, after a look at the arguments."""
  _checks.check_int32("width", width)
  if not isinstance(ids, (list, tuple)):
    _checks.check_array("ids", ids)
  try:
    ids = jnp.asarray(ids)
  except (TypeError, ValueError, OverflowError) as error:
    raise ValueError(
      f"ids must be integers [T], got {_checks.shown(ids)}"
    ) from error
  if ids.ndim != 1 or not jnp.issubdtype(ids.dtype, jnp.integer):
    raise ValueError(
      f"ids must be integers [T], got {ids.dtype} {tuple(ids.shape)}"
    )
  layer_key = _keys.single(layer_key, "layer_key")
  return layer_key, ids.astype(jnp.uint32)


def _mask_keys(layer_key: Key, ids: Integer[Array, "T"]) -> Key:
  """Returns one key a subnet."""
  return jax.vmap(jax.random.fold_in, (None, 0))(layer_key, ids)


def layer_masks(
  step: Step, key: Key, config: config.MaskConfig
) -> dict[str, blocks.Masks]:
  """Returns the masks of every layer at `step`.

  Deterministic and jit-friendly: nothing but the three arguments decides them.

  Args:
    step: number of the training step, from 0; a Python or a traced integer.
    key: the run-long key, the same at every step.
    config: schedule, pattern, layer widths and batch size.

  Returns:
    {layer name: `Masks` of T subnets}.

  Raises:
    ValueError: a wrong step or key, or no `MaskConfig`.

  >>> import jax, kdropout_jax as kd
  >>> cfg = kd.MaskConfig(kd.Pooled(50, m=4), kd.Bernoulli(), {"h": 16}, 8)
  >>> kd.layer_masks(0, jax.random.key(0), cfg)["h"].keep.shape
  (4, 16)
  """
  _check_config(config)
  key = _keys.single(key)
  ids = schedules.site_ids(
    step, key, config.schedule, config.batch_size, len(config.widths)
  )
  return {
    name: subnet_masks(
      layer_key(key, name),
      ids[number] if ids.ndim == 2 else ids,
      width,
      config.pattern,
    )
    for number, (name, width) in enumerate(config.widths)
  }


def masks_for_steps(
  start: Step, count: int, key: Key, config: config.MaskConfig
) -> dict[str, blocks.Masks]:
  """Samples the masks of `count` steps at once, before a loop over them.

  A GPU samples the masks of 50 steps in hardly more time than those of one.
  Slice i is ``layer_masks(start + i, ...)``, so that `jax.lax.scan` takes the
  result among its inputs. Steps of one window (sequential k-dropout,
  consecutive gyro dropout) sample their masks once. All are in memory: one
  byte a block of units, subnet and step.

  Args:
    start: the first step, from 0; a Python or a traced integer.
    count: how many steps, static.
    key: the run-long key.
    config: schedule, pattern, layer widths and batch size.

  Returns:
    {layer name: `Masks`, keep with a leading axis of steps}.

  Raises:
    ValueError: as for `layer_masks`, or a wrong count.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> key, x = jax.random.key(0), jnp.ones((8, 16))
  >>> cfg = kd.MaskConfig(kd.Sequential(k=2, m=1), kd.Bernoulli(), {"h": 16}, 8)
  >>> def step(total, masks):
  ...   y = kd.dropout(x, masks["h"], rate=0.5)
  ...   return total + y.sum(), y[0]
  >>> masks = kd.masks_for_steps(0, 4, key, cfg)
  >>> _, rows = jax.lax.scan(step, 0.0, masks)
  >>> (rows[0] == rows[1]).all(), (rows[1] == rows[2]).all()
  (Array(True, dtype=bool), Array(False, dtype=bool))
  """
  _check_config(config)
  _checks.check_int32("count", count)
  key = _keys.single(key)
  steps = schedules.check_step(start, "start") + jnp.arange(
    count, dtype=jnp.uint32
  )
  steps, places = schedules.distinct_steps(steps, config.schedule)
  num_layers = len(config.widths)
  ids = jax.vmap(
    lambda step: schedules.site_ids(
      step, key, config.schedule, config.batch_size, num_layers
    )
  )(steps)
  layers = {}
  for number, (name, width) in enumerate(config.widths):
    own = ids[:, number] if ids.ndim == 3 else ids
    masks = subnet_masks(
      layer_key(key, name), own.reshape(-1), width, config.pattern
    )
    keep = masks.keep.reshape(*own.shape, -1)
    keep = keep if places is None else keep[places]
    # `jax.tree.map` rebuilds unchecked: a keep [steps, T, G] is meant.
    layers[name] = jax.tree.map(lambda _, keep=keep: keep, masks)
  return layers


def layer_key(key: Key, name: str) -> Key:
  """Returns the run-long key of the layer called `name`.

  Layers of equal width get different masks, because their names differ.
  """
  return _keys.named(_keys.as_threefry(key), name)


def _check_config(given) -> None:
  _checks.check_type("config", given, config.MaskConfig, "a kd.MaskConfig")


def _sample_bernoulli(
  mask_keys: Key, count: int, rate: float
) -> Bool[Array, "T G"]:
  # The threshold has 2**-32 of resolution; 0 and 1 are exact.
  threshold = round((1.0 - rate) * 2**32)
  shape = (mask_keys.shape[0], count)
  if threshold >= 2**32:
    return jnp.ones(shape, jnp.bool_)
  if threshold <= 0:
    return jnp.zeros(shape, jnp.bool_)
  return _random_bits(mask_keys, count) < jnp.uint32(threshold)


def _sample_custom(
  mask_keys: Key, width: int, pattern: patterns.CustomPattern
) -> Bool[Array, "T W"]:
  keep = jax.vmap(lambda key: jnp.asarray(pattern.fn(key, width)))(mask_keys)
  expected = (mask_keys.shape[0], width)
  if keep.shape != expected or keep.dtype != jnp.bool_:
    raise ValueError(
      f"fn of CustomPattern must return bool [{width}], got"
      f" {keep.dtype} {list(keep.shape[1:])}"
    )
  _check_count(pattern, width)
  return keep


@functools.cache
def _check_count(pattern: patterns.CustomPattern, width: int) -> None:
  """Holds a user's function to its count, once a width, by some of its masks.

  A wrong count would leave units out of small networks without a word.
  """
  num_kept = pattern.num_kept(width)
  if num_kept is None:
    return
  with jax.ensure_compile_time_eval():  # Values, also while a step compiles.
    keys = jax.random.split(_keys.as_threefry(jax.random.key(0)), _NUM_TRIED)
    counts = [int(jnp.sum(jnp.asarray(pattern.fn(k, width)))) for k in keys]
  wrong = sorted(set(counts) - {num_kept})
  if wrong:
    raise ValueError(
      f"fn of CustomPattern must keep num_kept={num_kept} of {width} units in"
      f" every mask, got {wrong[0]}"
    )


def _random_bits(mask_keys: Key, count: int) -> UInt[Array, "T G"]:
  return jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(
    mask_keys
  )
