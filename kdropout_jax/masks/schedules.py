"""Which subnets train at a step: (step, key, schedule) -> ids.

One answer serves the whole network. Ids of the counted schedules (Standard,
Sequential, consecutive Gyro) go upwards without a gap, modulo 2**32; the
drawn ones (Pooled, random Gyro) are a function of the step and the key.

This is one of the three places that fold a step into a key: the draw of ids.
A layer's mask key never sees the step, or reuse would be lost silently.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import config
from kdropout_jax import custom
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import NumRows
from kdropout_jax._types import Step

__all__ = ("subnet_ids",)

_DRAW = "kdropout_jax.masks.schedules.draw"


def subnet_ids(
  step: Step,
  key: Key,
  schedule: config.Schedule,
  batch_size: NumRows,
  layer: int | UInt[Array, ""] | None = None,
) -> Ids:
  """Returns the ids of the subnets that train at `step`.

  Row r of a full batch trains ``ids[r * T // batch_size]``.

  Args:
    step: number of the training step, from 0; a Python or a traced integer.
    key: the run-long key, the same at every step.
    schedule: which subnets train when; its data leaves may be traced.
    batch_size: rows of a full batch, B; a constant of the run.
    layer: number of the layer, for schedules with ``per_layer=True`` that
      draw; ignored by the others.

  Returns:
    uint32 [T], T = ``schedule.num_concurrent(batch_size)``.

  Raises:
    ValueError: a wrong step, schedule or batch size, a per-layer draw
      without `layer`, or a schedule of one's own that returns no integers [T].

  >>> import jax, kdropout_jax as kd
  >>> kd.subnet_ids(97, jax.random.key(0), kd.Sequential(k=97, m=2), 8)
  Array([2, 3], dtype=uint32)
  """
  config.check_schedule(schedule)
  for name in ("k", "pool_size"):
    _checks.check_scalar(name, getattr(schedule, name, 0))
  _checks.check_rows("batch_size", batch_size)
  step = check_step(step)
  if layer is not None:
    if not isinstance(layer, (int, np.integer)) or isinstance(layer, bool):
      _checks.check_array("layer", layer, "", "integer")
  if not config.is_built_in(schedule):
    own_key = _keys.as_threefry(key)
    return custom.own_ids(schedule, step, own_key, batch_size, layer)
  draw_key = functools.partial(_draw_key, key, schedule, layer)
  match schedule:
    case config.Standard():
      return _counted(step, batch_size)
    case config.Sequential():
      return _counted(step // _uint32(schedule.k), schedule.m)
    case config.Pooled():
      return _draw(
        jax.random.fold_in(draw_key(), step),
        schedule.m,
        schedule.pool_size,
        schedule.replacement,
      )
    case config.Gyro(scheduling="random"):
      return _draw(
        jax.random.fold_in(draw_key(), step),
        schedule.num_concurrent(batch_size),
        schedule.total,
        schedule.replacement,
      )
    case config.Gyro():
      return _gyro_ids(step, draw_key, schedule, batch_size)
  raise AssertionError(schedule)


def site_ids(
  step: Step,
  key: Key,
  schedule: config.Schedule,
  batch_size: NumRows,
  num_sites: int,
) -> UInt[Array, "..."]:
  """Returns the ids of all sites of a network, from one draw of numbers.

  Args:
    step: as for `subnet_ids`, like the others.
    key: the run-long key.
    schedule: which subnets train when.
    batch_size: rows of a full batch.
    num_sites: places L where units are dropped.

  Returns:
    uint32 [T], or [L, T] where each layer draws its own.

  >>> import jax, kdropout_jax as kd
  >>> schedule = kd.Pooled(50, m=2, per_layer=True)
  >>> site_ids(0, jax.random.key(0), schedule, 8, num_sites=3).shape
  (3, 2)
  """
  config.check_schedule(schedule)
  if not custom.is_per_layer(schedule):
    return subnet_ids(step, key, schedule, batch_size)
  return jax.vmap(
    lambda layer: subnet_ids(step, key, schedule, batch_size, layer)
  )(jnp.arange(num_sites, dtype=jnp.uint32))


def distinct_steps(
  steps: UInt[Array, "steps"], schedule: config.Schedule
) -> tuple[UInt[Array, "D"], Int[Array, "steps"] | None]:
  """Returns steps that train all that `steps` train, and where each finds it.

  Steps of one window train the same subnets, so that one of them stands for
  all. How many windows `steps` can touch must be known beforehand: where the
  schedule's numbers are traced, or steps of a window differ, each step stands
  for itself.

  Args:
    steps: consecutive steps.
    schedule: which subnets train when.

  Returns:
    uint32 [D]; and int32 [steps] of places among them, None if D is `steps`.
  """
  count = steps.shape[0]
  window, length = _windows(schedule)
  distinct = (count + length - 2) // length + 1
  if window is None or distinct >= count:
    return steps, None
  places = jax.vmap(window)(steps)
  places = (places - places[0]).astype(jnp.int32)
  numbers = jnp.arange(distinct, dtype=jnp.int32)
  first = jnp.sum(places[None, :] < numbers[:, None], axis=1, dtype=jnp.int32)
  return steps[jnp.minimum(first, count - 1)], places


def _windows(schedule: config.Schedule):
  """Returns from step to window and the shortest window's steps, or None, 1."""
  if not config.is_built_in(schedule):
    return None, 1
  match schedule:
    case config.Sequential(k=k) if _checks.is_concrete(k) and np.ndim(k) == 0:
      return lambda step: step // _uint32(k), int(k)
    case config.Gyro(scheduling="consecutive", rows_per_subnet=None):
      length = max(schedule.window_steps[0], 1)
      return lambda step: _gyro_window(step, schedule)[0], length
  return None, 1


def draw_key(key: Key, step: Step) -> Key:
  """Returns the key that a schedule draws with at `step`.

  Args:
    key: the run-long key.
    step: number of the training step, from 0.
  """
  own = _keys.named(_keys.single(key), _DRAW)
  return jax.random.fold_in(own, check_step(step))


def _gyro_ids(
  step, draw_key, schedule: config.Gyro, batch_size: NumRows
) -> Ids:
  """Consecutive windows; block-wise, their steps rotate over the subnets."""
  window, phase = _gyro_window(step, schedule)
  tau = schedule.concurrent
  num_slots = schedule.num_concurrent(batch_size)
  is_last = window == _uint32(schedule.num_windows - 1)
  if schedule.replacement:
    num_distinct = jnp.uint32(tau)
  else:
    num_distinct = jnp.where(
      is_last, _uint32(schedule.last_window_subnets), _uint32(tau)
    )
  if schedule.rows_per_subnet is None:
    first = jnp.uint32(0)
  else:
    # phase % n first: the product with num_slots cannot overflow then.
    first = phase % num_distinct * _uint32(num_slots)
  slots = jnp.arange(num_slots, dtype=jnp.uint32)
  member = (first + slots) % num_distinct
  if schedule.replacement:
    pool = _draw(
      jax.random.fold_in(draw_key(), window), tau, schedule.total, True
    )
    return pool[member]
  return window * _uint32(tau) + member


def _gyro_window(
  step: UInt[Array, ""], schedule: config.Gyro
) -> tuple[UInt[Array, ""], UInt[Array, ""]]:
  """Returns the window of `step`, and the step's place within the window.

  The first r windows have q + 1 steps, the others q. Comparing with
  r * (q + 1) and dividing cannot overflow; step * W would. Steps past the end
  stay in the window of the last one.
  """
  num_steps = schedule.num_steps
  q, r = schedule.window_steps
  border = _uint32(r * (q + 1))
  long, short = _uint32(q + 1), _uint32(max(q, 1))
  inside = jnp.minimum(step, _uint32(num_steps - 1))
  in_long = inside < border
  past = inside - jnp.where(in_long, inside, border)
  window = jnp.where(in_long, inside // long, _uint32(r) + past // short)
  start = jnp.where(
    in_long, window * long, border + (window - _uint32(r)) * short
  )
  return window, step - start


def _counted(window: UInt[Array, ""], count: NumRows) -> Ids:
  return window * _uint32(count) + jnp.arange(count, dtype=jnp.uint32)


def _draw(key: Key, count: int, pool_size, replacement: bool) -> Ids:
  pool_size = jnp.asarray(pool_size, jnp.int32)
  if replacement:
    return _integers(key, count, pool_size).astype(jnp.uint32)
  return _draw_distinct(key, count, pool_size)


def _draw_distinct(key: Key, count: int, pool_size: Int[Array, ""]) -> Ids:
  """Draws without replacement by Floyd's method, in a random order.

  The work depends on `count` alone, so `pool_size` may be traced. For j from
  pool_size - count upwards, t is drawn from [0, j]; j joins in its place if t
  is already in. The order is not uniform, hence the shuffle.
  """
  pick_key, order_key = jax.random.split(key)
  first = pool_size - count
  tops = first + jnp.arange(count, dtype=jnp.int32)
  picks = _integers(pick_key, count, tops + 1)
  chosen = jnp.where(_is_taken(picks, first), tops, picks)
  return jax.random.permutation(order_key, chosen).astype(jnp.uint32)


def _is_taken(
  picks: Int[Array, "T"], first: Int[Array, ""]
) -> Bool[Array, "T"]:
  """Returns which picks are in by the time that they are drawn.

  Pick i is in if an earlier pick equals it, or if it is the top of an earlier
  slot j (number first + j), which joined in place of a pick that was in. So
  whether i is in follows slot j, j another one, ..: pointers, which halve
  their number of steps at each pass. A loop over the slots would cost a GPU
  several launches a slot.
  """
  count = picks.shape[0]
  slots = jnp.arange(count, dtype=jnp.int32)
  is_earlier = slots[None, :] < slots[:, None]
  taken = jnp.any((picks[None, :] == picks[:, None]) & is_earlier, axis=1)
  slot = picks - first
  # Without an earlier slot to follow, a pick points at itself.
  follows = jnp.where((slot >= 0) & (slot < slots), slot, slots)
  for _ in range((count - 1).bit_length()):
    taken |= taken[follows]
    follows = follows[follows]
  return taken


def _integers(key: Key, count: int, stop: Int[Array, "..."]) -> Array:
  # The type is named: the default one, and so the bits, follow the x64 mode.
  return jax.random.randint(key, (count,), 0, stop, jnp.int32)


def _draw_key(key: Key, schedule, layer) -> Key:
  key = _keys.named(_keys.single(key), _DRAW)
  if not schedule.per_layer:
    return key
  if layer is None:
    raise custom.needs_layer()
  return jax.random.fold_in(key, layer)


def check_step(step: Step, name: str = "step") -> UInt[Array, ""]:
  """Returns a step as uint32, or raises a ValueError that names the rule."""
  if isinstance(step, (int, np.integer)) and not isinstance(step, bool):
    if step < 0:
      raise ValueError(f"{name} must be >= 0, got {step}")
    return _uint32(int(step) % 2**32)
  dtype = getattr(step, "dtype", None)
  if dtype is None or not jnp.issubdtype(dtype, jnp.integer):
    raise ValueError(f"{name} must be an integer, got {_checks.shown(step)}")
  if step.ndim != 0:  # pyright: ignore[reportAttributeAccessIssue]
    raise ValueError(
      f"{name} must be a scalar, got shape {step.shape}; vmap over many"  # pyright: ignore[reportAttributeAccessIssue]
    )
  return jnp.asarray(step).astype(jnp.uint32)


def _uint32(value) -> UInt[Array, ""]:
  if isinstance(value, int):  # Above 2**31 it would not fit a default integer.
    return jnp.asarray(value, jnp.uint32)
  return jnp.asarray(value).astype(jnp.uint32)
