"""Laws that every schedule keeps, for tests of one's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdropout_jax import _checks
from kdropout_jax import config
from kdropout_jax import custom
from kdropout_jax._types import Key
from kdropout_jax.masks import schedules

__all__ = ("check_schedule",)


def check_schedule(
  schedule: config.Schedule,
  *,
  batch_size: int = 8,
  num_steps: int = 16,
  key: Key | None = None,
) -> None:
  """Runs the laws of schedules on one.

  Ids are uint32 [T], T the same static number at all steps; compiled, mapped
  over steps and step by step they are equal bit for bit; one program serves
  all steps and every equal schedule; and a step's ids are a function of step
  and key alone, whatever other steps were asked for before.

  Args:
    schedule: one of the library's or of one's own.
    batch_size: rows of a full batch.
    num_steps: steps that are tried, from 0.
    key: a run-long key; the default is one of a fixed seed.

  Raises:
    AssertionError: a law that does not hold, with the steps where it fails.
    ValueError: no schedule, or ids of a wrong shape or type.

  >>> import kdropout_jax as kd
  >>> from kdropout_jax import testing
  >>> testing.check_schedule(kd.Pooled(pool_size=5, m=2))
  """
  config.check_schedule(schedule)
  _checks.check_int32("batch_size", batch_size)
  _checks.check_int32("num_steps", num_steps)
  key = jax.random.key(0) if key is None else key
  layer = 1 if custom.is_per_layer(schedule) else None

  def ids(schedule, step):
    return schedules.subnet_ids(step, key, schedule, batch_size, layer)

  steps = range(num_steps)
  eager = [np.asarray(ids(schedule, step)) for step in steps]
  again = [np.asarray(ids(schedule, step)) for step in reversed(steps)][::-1]
  _check_equal("asked for in another order", eager, again)
  _check_shape(schedule, batch_size, eager)
  _check_equal("mapped over steps", eager, _mapped(ids, schedule, num_steps))
  _check_equal("compiled", eager, _compiled(ids, schedule, num_steps))


def _check_shape(schedule, batch_size: int, eager: list[np.ndarray]) -> None:
  count = schedule.num_concurrent(batch_size)
  wrong = [i for i, ids in enumerate(eager) if ids.shape != (count,)]
  assert not wrong, f"ids have a length other than T = {count} at steps {wrong}"
  wrong = [i for i, ids in enumerate(eager) if ids.dtype != np.uint32]
  assert not wrong, f"ids are not uint32 at steps {wrong}"


def _mapped(ids, schedule, num_steps: int) -> Any:
  with _Told("mapped over steps"):
    steps = jnp.arange(num_steps, dtype=jnp.uint32)
    return np.asarray(jax.vmap(ids, (None, 0))(schedule, steps))


def _compiled(ids, schedule, num_steps: int) -> list[np.ndarray]:
  """Returns the ids of a program that is given a new, equal schedule a step."""
  traces = 0

  @jax.jit
  def compiled(schedule, step):
    nonlocal traces
    traces += 1
    return ids(schedule, step)

  found = []
  with _Told("compiled"):
    for step in range(num_steps):
      leaves, treedef = jax.tree.flatten(schedule)
      equal = jax.tree.unflatten(treedef, leaves)
      found.append(np.asarray(compiled(equal, jnp.uint32(step))))
  assert traces == 1, (
    f"one program must serve all steps, got {traces} for {num_steps} steps: the"
    " schedule's static parts must be hashable, and equal when they are rebuilt"
  )
  return found


class _Told:
  """Says of an error of JAX's which law it breaks."""

  def __init__(self, how: str):
    self.how = how

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if isinstance(error, jax.errors.JAXTypeError):
      raise AssertionError(
        f"ids cannot be {self.how}: subnet_ids, or num_concurrent, needs the"
        f" value of what is traced there ({type(error).__name__})"
      ) from error


def _check_equal(how: str, eager: list[np.ndarray], other: Any) -> None:
  wrong = [
    i for i, ids in enumerate(eager) if not np.array_equal(ids, other[i])
  ]
  assert not wrong, f"ids differ {how} at steps {wrong}"
