"""Any nnx model, its dropouts on a schedule; public as ``kd.nnx``."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from kdropout_jax import _keys
from kdropout_jax import config
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import schedules
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _nnx_dropout
from kdropout_jax.nn import _subnet_visitor


class RunKey(nnx.Variable):
  """The words, uint32 [..., 2], of the run-long key that draws subnets."""


class StepNumber(nnx.Variable):
  """The number of the training step, uint32; `set_step` sets it."""


class ScheduledDropout(nnx.Module):
  """What `retrofit` puts in the place of an `nnx.Dropout`.

  Its keys and its step are state: they survive split, merge and checkpoints,
  and a new step is no new trace. They are neither `nnx.Param` nor random
  streams, so that optimizers and `nnx.reseed` pass them by.
  """

  def __init__(self, dropout: nnx.Dropout, schedule, rule, run_key, layer_key):
    self.rate = dropout.rate
    self.deterministic = dropout.deterministic
    self.schedule = schedule
    self.rule = rule
    self.run_key = RunKey(jax.random.key_data(run_key))
    self.layer_key = _nnx_dropout.LayerKey(jax.random.key_data(layer_key))
    self.step = StepNumber(jnp.zeros(layer_key.shape, jnp.uint32))

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
    key, ids = self.drawn(inputs)
    return self.rule.run(inputs, False, lambda: key, lambda: key, subnets=ids)

  def drawn(self, inputs: Float[Array, "B ..."]) -> tuple[Key, Ids]:
    """Returns the layer key, and the ids of the current step's subnets."""
    key = _keys.as_threefry(self.layer_key[...])
    ids = schedules.subnet_ids(
      self.step[...],
      self.run_key[...],
      self.schedule,
      self.rule.batch_size or max(inputs.shape[0], 1),
      jax.random.key_data(key)[-1] if self.schedule.per_layer else None,
    )
    return key, ids

  def set_view(self, deterministic: bool | None = None):
    """Serves `nnx.view`.

    Args:
      deterministic: if True, nothing is dropped.
    """
    if deterministic is not None:
      self.deterministic = deterministic


def retrofit(
  model: nnx.Module,
  *,
  schedule: config.Schedule,
  key: Key,
  pattern: _dropout_rules.PatternLike | None = None,
  batch_size: int | None = None,
) -> nnx.Module:
  """Replaces every `nnx.Dropout` of a model by one that follows a schedule.

  Each keeps its rate, its `broadcast_dims` and whether it is deterministic,
  and gets masks of its own: its layer key comes from its path. Call `set_step`
  at each step. A module that one forward pass calls twice drops the same
  units twice: give each place its own. `nnx.MultiHeadAttention` has a stream
  of its own and keeps conventional dropout.

  Args:
    model: a model of anyone's; it is changed in place.
    schedule: which subnets train when; its numbers are concrete.
    key: the run-long key, of any implementation.
    pattern: from a layer's rate to its pattern; the default is `kd.Bernoulli`.
    batch_size: rows of a full batch; the default is the rows at hand.

  Returns:
    The model.

  Raises:
    ValueError: a wrong setting, or a model without `nnx.Dropout`.
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
  pattern = patterns.Bernoulli if pattern is None else pattern
  _dropout_rules.make(0.5, pattern, batch_size=batch_size)  # Checks both.
  places = _dropouts(model)
  for parent, name, path, dropout in places:
    rule = _dropout_rules.make(
      dropout.rate, pattern, dropout.broadcast_dims, batch_size=batch_size
    )
    run_key, layer_key = _layer_keys(key, path, dropout)
    new = ScheduledDropout(dropout, schedule, rule, run_key, layer_key)
    _replace(parent, name, dropout, new)
  return model


def set_step(model: nnx.Module, step: Step) -> None:
  """Tells a retrofitted model which training step it is at.

  Args:
    model: what `retrofit` returned, or a part of it.
    step: number of the step, from 0; a Python or a traced integer.

  Raises:
    ValueError: a wrong step, or a model that was not retrofitted.
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
  for dropout in dropouts:
    shape = dropout.step.shape
    dropout.step[...] = jnp.broadcast_to(jnp.asarray(step, jnp.uint32), shape)


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
  if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(schedule)):
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


def _layer_keys(key: Key, path: str, dropout: nnx.Dropout) -> tuple[Key, Key]:
  """Returns the run key and the layer key, stacked as the dropout's own is."""
  shape = () if dropout.rngs is None else dropout.rngs.key.shape
  layer_key = _keys.named(key, path)
  if not shape:
    return key, layer_key
  return jnp.broadcast_to(key, shape), jax.random.split(layer_key, shape)


def _replace(parent, name: str, old, new) -> None:
  value = getattr(parent, name)
  if value is old:
    setattr(parent, name, new)
    return
  is_module = lambda node: isinstance(node, nnx.Module)  # noqa: E731
  swap = lambda node: new if node is old else node  # noqa: E731
  setattr(parent, name, nnx.data(jax.tree.map(swap, value, is_leaf=is_module)))
