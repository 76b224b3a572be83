"""The rows of each step, from examples that are on the device."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from kdropout_jax.training import parallel
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib


@dataclasses.dataclass(frozen=True)
class Batches:
  """A device's rows of each step, from data that is on the device.

  Attributes:
    task: the `step.Task`.
    member: the member.
    start: the first step that is read.
    data: the `step.Data`; training examples first.
    shard: the device's share of a batch.
  """

  task: Any
  member: state_lib.Members
  start: Int[Array, ""]
  data: Any
  shard: parallel.Shard

  def no_order(self) -> Int[Array, "steps rows"]:
    """Returns what `read` takes at the first step."""
    shape = (self.task.steps_per_epoch, self.shard.rows.shape[0])
    return jnp.zeros(shape, jnp.int32)

  def read(
    self, step: Int[Array, ""], order: Int[Array, "steps rows"]
  ) -> tuple[Any, Int[Array, "steps rows"]]:
    """Returns the rows of `step`, and the order of its epoch to go on with."""
    per_epoch = self.task.steps_per_epoch
    is_new = (step % per_epoch == 0) | (step == self.start)
    order = jax.lax.cond(
      is_new, lambda: self._draw(step // per_epoch), lambda: order
    )
    return self.data.take(order[step % per_epoch]), order

  def _draw(self, epoch) -> Int[Array, "steps rows"]:
    task = self.task
    order = rng.epoch_order(
      self.member.key, epoch, task.num_train, task.batch_size, task.shuffle
    )
    return order[:, self.shard.rows]
