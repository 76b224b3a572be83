"""Any nnx model, its dropouts on a schedule; public as ``kd.nnx``."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import config
from kdropout_jax import functional
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import schedules
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _nnx_dropout
from kdropout_jax.nn import _nnx_stacks
from kdropout_jax.nn import _row_offsets
from kdropout_jax.nn import _subnet_visitor
from kdropout_jax.nn import _tracing


class RunKey(nnx.Variable):
  """The words, uint32 [..., 2], of the run-long key that draws subnets."""


class StepNumber(nnx.Variable):
  """The number of the training step, uint32; `set_step` sets it."""


class FirstRow(nnx.Variable):
  """The first row at hand in the full batch, int32; `set_step` sets it."""


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
    self.schedule = schedule
    self.rule = rule
    self.offset = dataclasses.replace(offset, first_row=None)
    self.run_key = RunKey(jax.random.key_data(run_key))
    self.layer_key = _nnx_dropout.LayerKey(jax.random.key_data(layer_key))
    self.step = StepNumber(jnp.zeros(layer_key.shape, jnp.uint32))
    self.first_row = nnx.data(None)
    if offset.first_row is not None:
      first_row = jnp.asarray(offset.first_row, jnp.int32)
      self.first_row = FirstRow(jnp.broadcast_to(first_row, layer_key.shape))

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
      ValueError: the step is a constant of a compiled function.
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
    _tracing.check_step(self.step[...], _HOW)
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
      UnsupportedError: the layers of a stack have one key.
    """
    if self.layer_key.ndim != 1:
      raise UnsupportedError(
        "this dropout stands in a stack of layers, but has keys of shape"
        f" {self.layer_key.shape} here: build nnx.Dropout with rngs= under"
        " nnx.split_rngs, so that kd.nnx.retrofit sees how many layers there"
        " are, and run the stack by nnx.scan or nnx.vmap"
      )
    key = _keys.as_threefry(self.layer_key[...])
    ids = schedules.subnet_ids(
      self.step[...],
      self.run_key[...],
      self.schedule,
      self._offset(inputs)[0],
      jax.random.key_data(key)[-1] if self.schedule.per_layer else None,
    )
    return key, ids

  def _offset(self, inputs) -> tuple[int, Any]:
    first_row = None if self.first_row is None else self.first_row[...]
    offset = dataclasses.replace(self.offset, first_row=first_row)
    return offset.resolve(inputs.shape[0])

  def _assignment(self, inputs, ids: Ids):
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

_Model = TypeVar("_Model", bound=nnx.Module)


def retrofit(
  model: _Model,
  *,
  schedule: config.Schedule,
  key: Key,
  pattern: _dropout_rules.PatternLike | None = None,
  batch_size: int | None = None,
  first_row: int | None = None,
  axis_name: str | tuple[str, ...] | None = None,
  name: str = "",
) -> _Model:
  """Replaces every `nnx.Dropout` of a model by one that follows a schedule.

  Each keeps its rate, its `broadcast_dims` and whether it is deterministic,
  and gets masks of its own: its layer key comes from its path. Call `set_step`
  at each step, inside the jitted function: a step that was set outside one
  that has the model closed over would be compiled in, and is an error. A module
  that one forward pass calls twice drops the same units twice: give each place
  its own. `nnx.MultiHeadAttention` has a stream of its own and keeps
  conventional dropout.

  Layers that `nnx.vmap` stacks have masks of their own each, retrofitted as a
  stack or one by one inside; a dropout without `rngs` is taken to be stacked as
  the layers of Flax beside it are.

  Args:
    model: a model of anyone's; it is changed in place.
    schedule: which subnets train when; its numbers are concrete.
    key: the run-long key, of any implementation.
    pattern: a pattern, which takes each layer's rate; or a function of the
      rate, or of (rate, path). The default is `kd.Bernoulli`.
    batch_size: rows of a full batch; the default is the rows at hand.
    first_row: 0 where micro-batches are to train the subnets of their own rows
      of the full batch: `set_step` then takes the first row of each.
    axis_name: axis of `shard_map` or `pmap` that the rows are split over.
    name: prefix of the paths, for parts that are retrofitted apart with one
      key: parts of equal paths would drop the same units.

  Returns:
    The model; a bare `nnx.Dropout` is not changed, but replaced.

  Raises:
    ValueError: a wrong setting, a model without `nnx.Dropout`, or one that is
      retrofitted already.
    UnsupportedError: one dropout stands in two places, or is of a class of
      its own.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  >>> schedule = kd.Sequential(k=97, m=1)
  >>> model = kd.nnx.retrofit(model, schedule=schedule, key=jax.random.key(0))
  >>> kd.nnx.set_step(model, 5)
  >>> y = model(jnp.ones((4, 8)))
  >>> bool((y == y[:1]).all())
  True
  """
  _check_schedule(schedule)
  key = _keys.as_threefry(key)
  if key.ndim:
    raise ValueError(f"key must be a single key, got shape {key.shape}")
  pattern = _dropout_rules.check_pattern(pattern)
  offset = _row_offsets.Offset(batch_size, first_row, axis_name)

  def scheduled(path: str, dropout: nnx.Dropout, shape) -> ScheduledDropout:
    rule = _dropout_rules.make(
      dropout.rate,
      pattern,
      dropout.broadcast_dims,
      path=path,
      batch_size=batch_size,
    )
    path = "/".join(filter(None, (name, path)))
    run_key, layer_key = _nnx_stacks.keys(key, path, dropout, shape)
    return ScheduledDropout(dropout, schedule, rule, offset, run_key, layer_key)

  if type(model) is nnx.Dropout:
    return scheduled("", model, ())  # pyright: ignore[reportReturnType]
  places = _dropouts(model)
  shapes = _nnx_stacks.shapes(model, places)
  for (parent, attribute, path, dropout), shape in zip(places, shapes):
    _replace(parent, attribute, dropout, scheduled(path, dropout, shape))
  return model


def set_step(
  model: nnx.Module, step: Step, first_row: int | Int[Array, ""] | None = None
) -> None:
  """Tells a retrofitted model which training step it is at.

  Args:
    model: what `retrofit` returned, or a part of it.
    step: number of the step, from 0; a Python or a traced integer.
    first_row: number of the first row at hand in the full batch, for models
      that were retrofitted with ``first_row=0``; None leaves it.

  Raises:
    ValueError: a wrong step or row, or a model that was not retrofitted.
  """
  if isinstance(step, (int, np.integer)) and not isinstance(step, bool):
    if step < 0:
      raise ValueError(f"step must be >= 0, got {step}")
    step = np.uint32(int(step) % 2**32)
  if jnp.ndim(step) or not jnp.issubdtype(jnp.result_type(step), jnp.integer):
    raise ValueError(f"step must be an integer, got {step!r}")
  dropouts = [
    node
    for _, node in nnx.iter_graph(model)
    if isinstance(node, ScheduledDropout)
  ]
  if not dropouts:
    raise ValueError(
      "model has no dropout that follows a schedule: call kd.nnx.retrofit first"
    )
  _check_apart(dropouts)
  for dropout in dropouts:
    shape = dropout.step.shape
    dropout.step[...] = jnp.broadcast_to(jnp.asarray(step, jnp.uint32), shape)
    if first_row is not None:
      _set_first_row(dropout, first_row)


def _set_first_row(dropout: ScheduledDropout, first_row) -> None:
  _row_offsets.check_first_row(first_row)
  if dropout.first_row is None:
    raise ValueError(
      f"first_row={first_row} needs a model that was retrofitted with"
      " first_row=0: only such a one keeps it"
    )
  row = jnp.asarray(first_row).astype(jnp.int32)
  dropout.first_row[...] = jnp.broadcast_to(row, dropout.step.shape)


def _check_apart(dropouts: list[ScheduledDropout]) -> None:
  """Raises a ValueError where two dropouts have one key, if it is known."""
  words = [dropout.layer_key[...] for dropout in dropouts]
  known = [w for w in words if not _checks.is_tracer(w)]
  if len({np.asarray(w).tobytes() for w in known}) < len(known):
    raise ValueError(
      "two dropouts of the model have one layer key, so they would drop the"
      " same units: retrofit the whole model at once, or give each part"
      " a name= (or a key=) of its own"
    )


def layer_keys(model: nnx.Module) -> dict[str, Key]:
  """Returns the key that each dropout's masks come from, by its path.

  With it, `kd.subnet_masks` rebuilds any subnet of a run at any time, in the
  widths that the modules use (Bernoulli: all non-batch elements).
  """
  kinds = (ScheduledDropout, _nnx_dropout.Dropout)
  return {
    "/".join(map(str, path)): _keys.as_threefry(node.layer_key[...])
    for path, node in nnx.iter_graph(model)
    if isinstance(node, kinds) and node.layer_key is not None
  }


def _check_schedule(schedule) -> None:
  config.check_schedule(schedule)
  if not all(type(leaf) is int for leaf in jax.tree.leaves(schedule)):
    raise ValueError(
      f"schedule must hold Python integers for nnx, got {schedule}: it is a"
      " static part of the model; sweep with kd.linen.apply or kd.subnet_ids"
    )


def _dropouts(model):
  """Finds every dropout with the module and the attribute that hold it."""
  places, paths = [], {}
  is_module = lambda value: isinstance(value, nnx.Module)  # noqa: E731
  for path, node in nnx.iter_graph(model):
    if not isinstance(node, nnx.Module):
      continue
    for name, value in vars(node).items():
      leaves = jax.tree_util.tree_leaves_with_path(value, is_leaf=is_module)
      for inner, leaf in leaves:
        if isinstance(leaf, nnx.Dropout):
          parts = (*path, name, *map(_part, inner))
          places.append((node, name, "/".join(map(str, parts)), leaf))
  if not places:
    nodes = [node for _, node in nnx.iter_graph(model)]
    if any(isinstance(node, ScheduledDropout) for node in nodes):
      raise ValueError(
        f"model is retrofitted already, got {type(model).__name__}: build it"
        " anew for other settings, and call kd.nnx.set_step at each step"
      )
    raise ValueError(
      f"model has no nnx.Dropout to replace, got {type(model).__name__}"
    )
  for _, _, path, dropout in places:
    if type(dropout) is not nnx.Dropout:
      raise UnsupportedError(
        f"{path!r} is a {type(dropout).__name__}, whose own code would be lost"
      )
    if id(dropout) in paths:
      raise UnsupportedError(
        f"one dropout stands at {paths[id(dropout)]!r} and at {path!r}, which"
        " would drop the same units in both: give each place its own"
      )
    paths[id(dropout)] = path
  return places


def _part(entry) -> object:
  return getattr(entry, "key", getattr(entry, "idx", entry))


def _replace(parent, name: str, old, new) -> None:
  value = getattr(parent, name)
  if value is old:
    setattr(parent, name, new)
    return
  is_module = lambda node: isinstance(node, nnx.Module)  # noqa: E731
  swap = lambda node: new if node is old else node  # noqa: E731
  setattr(parent, name, nnx.data(jax.tree.map(swap, value, is_leaf=is_module)))
