"""The nnx dropout that follows a schedule; `retrofit` puts it into models."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from kdropout_jax import _keys
from kdropout_jax import custom
from kdropout_jax import functional
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import schedules
from kdropout_jax.nn import _nnx_dropout
from kdropout_jax.nn import _nnx_forgotten
from kdropout_jax.nn import _subnet_visitor
from kdropout_jax.nn import _tracing


class RunKey(nnx.Variable):
  """The words, uint32 [..., 2], of the run-long key that draws subnets."""


class StepNumber(nnx.Variable):
  """The number of the training step, uint32; `set_step` sets it."""


class FirstRow(nnx.Variable):
  """The first row at hand in the full batch, int32; `set_step` sets it."""


class SubnetIds(nnx.Variable):
  """The ids [..., T] of the subnets that train; `set_subnets` sets them."""


class ScheduledDropout(nnx.Module):
  """What `retrofit` puts in the place of an `nnx.Dropout`.

  Its keys and its step are state: they survive split, merge and checkpoints,
  and a new step is no new trace. They are neither `nnx.Param` nor random
  streams, so that optimizers and `nnx.reseed` pass them by.
  """

  def __init__(
    self, dropout: nnx.Dropout, schedule, rule, offset, run_key, layer_key
  ):
    self.rate = dropout.rate
    self.deterministic = dropout.deterministic
    given = isinstance(schedule, custom.GivenSubnets)
    self.schedule = None if given else schedule
    self.rule = rule
    self.offset = dataclasses.replace(offset, first_row=None)
    self.run_key = RunKey(jax.random.key_data(run_key))
    self.layer_key = _nnx_dropout.LayerKey(jax.random.key_data(layer_key))
    self.step = StepNumber(jnp.zeros(layer_key.shape, jnp.uint32))
    self.first_row = nnx.data(None)
    if offset.first_row is not None:
      first_row = jnp.asarray(offset.first_row, jnp.int32)
      self.first_row = FirstRow(jnp.broadcast_to(first_row, layer_key.shape))

    self.subnets = nnx.data(None)
    if given:
      shape = (*layer_key.shape, *schedule.ids.shape)
      self.subnets = SubnetIds(jnp.broadcast_to(schedule.ids, shape))

  visited_as = ""  # its layer's name, in a model that `kd.subnets` runs

  def __call__(
    self,
    inputs: Float[Array, "B ... W"],
    *,
    deterministic: bool | None = None,
    rngs: _nnx_dropout.Rngs | None = None,
  ) -> Float[Array, "B ... W"]:
    """Drops units of `inputs` by the subnets of the current step.

    Args:
      inputs: [B, ..., W].
      deterministic: overrides the attribute.
      rngs: accepted for Flax's sake; per-step keys decide nothing here.

    Raises:
      ValueError: the step, or the ids that were set, are constants of a
        compiled function.
    """
    del rngs
    is_off = _nnx_dropout.is_deterministic(self, deterministic)
    visit = _subnet_visitor.visitor_of(self)
    if visit is not None and self.rate > 0.0:
      dropout = _subnet_visitor.Visited(
        inputs.shape[-1],
        self.rule,
        is_off,
        lambda: self.rule.sample(inputs, *self.drawn(inputs)),
      )
      return visit(self.visited_as, dropout, inputs)
    if is_off:
      return inputs
    inputs = functional.check_inputs(inputs)
    if self.rule.rate in (0.0, 1.0):
      return self.rule.without_masks(inputs, False)
    which = self.step if self.subnets is None else self.subnets
    _nnx_forgotten.tell(which.get_raw_value(), self.layer_key.get_raw_value())
    key, ids = self.drawn(inputs)
    return self.rule.run(
      inputs,
      False,
      lambda: key,
      lambda: key,
      subnets=ids,
      assignment=self._assignment(inputs, ids),
    )

  def drawn(self, inputs: Float[Array, "B ..."]) -> tuple[Key, Ids]:
    """Returns the layer key, and the ids of the current step's subnets.

    Raises:
      ValueError: the step, or the ids, are constants of a compiled function.
      UnsupportedError: the layers of a stack have one key.
    """
    if self.subnets is None:
      _tracing.check_step(self.step[...], _HOW)
    else:
      how = _HOW.replace("step", "subnets")
      _tracing.check_step(self.subnets[...], how, "subnets")
    if self.layer_key.ndim != 1:
      raise UnsupportedError(
        "this dropout stands in a stack of layers, but has keys of shape"
        f" {self.layer_key.shape} here: build nnx.Dropout with rngs= under"
        " nnx.split_rngs, so that kd.nnx.retrofit sees how many layers there"
        " are, and run the stack by nnx.scan or nnx.vmap"
      )
    key = _keys.as_threefry(self.layer_key[...])
    if self.subnets is not None:
      return key, self.subnets[...]
    assert self.schedule is not None
    is_per_layer = custom.is_per_layer(self.schedule)
    ids = schedules.subnet_ids(
      self.step[...],
      self.run_key[...],
      self.schedule,
      self._offset(inputs)[0],
      jax.random.key_data(key)[-1] if is_per_layer else None,
    )
    return key, ids

  def _offset(self, inputs) -> tuple[int, Any]:
    first_row = None if self.first_row is None else self.first_row[...]
    offset = dataclasses.replace(self.offset, first_row=first_row)
    return offset.resolve(inputs.shape[0])

  def _assignment(self, inputs, ids: Ids) -> Int[Array, "B"] | None:
    full, first_row = self._offset(inputs)
    if first_row is None:
      return None
    return functional.assign_rows(
      inputs.shape[0], ids.shape[0], batch_size=full, first_row=first_row
    )

  def set_view(self, deterministic: bool | None = None):
    """Serves `nnx.view`.

    Args:
      deterministic: if True, nothing is dropped.
    """
    if deterministic is not None:
      self.deterministic = deterministic


_HOW = (
  "Pass the model (or its state) and the step as arguments of the jitted"
  " function, and call kd.nnx.set_step inside it"
)
