"""The rows of each step, from examples that are on the device."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from kdropout_jax.training import rng
from kdropout_jax.training import task as task_lib

__all__ = ("Batches",)


@dataclasses.dataclass(frozen=True)
class Batches:
  """A device's rows of each step, from data that is on the device.

  Attributes:
    worker: whose they are.
    start: the first step that is read.
    data: the examples; training ones first.
  """

  worker: task_lib.Worker
  start: Int[Array, ""]
  data: task_lib.Data

  def no_order(self) -> Int[Array, "steps rows"]:
    """Returns what `read` takes at the first step."""
    num_rows = self.worker.shard.rows.shape[0]
    shape = (self.worker.task.steps_per_epoch, num_rows)
    return jnp.zeros(shape, jnp.int32)

  def read(
    self, step: Int[Array, ""], order: Int[Array, "steps rows"]
  ) -> tuple[task_lib.Data, Int[Array, "steps rows"]]:
    """Returns the rows of `step`, and the order of its epoch to go on with.

    Args:
      step: number of the step; may be traced.
      order: what the step before gave, or `no_order`.
    """
    per_epoch = self.worker.task.steps_per_epoch
    is_new = (step % per_epoch == 0) | (step == self.start)
    order = jax.lax.cond(
      is_new, lambda: self._draw(step // per_epoch), lambda: order
    )
    return self.data.take(order[step % per_epoch]), order

  def _draw(self, epoch) -> Int[Array, "steps rows"]:
    task, key = self.worker.task, self.worker.member.key
    order = rng.epoch_order(
      key, epoch, task.num_train, task.batch_size, task.shuffle
    )
    return order[:, self.worker.shard.rows]
