"""Makes every dropout of somebody else's linen model follow a schedule.

The model's code is left alone: `nn.intercept_methods` sees each call of a
dropout and answers it. Three traps are handled here. Layer keys come from
`make_rng` on a run-long key, which keeps the layers of an `nn.scan` apart and
which a per-step key of the user's cannot replace. Other readers of the same
stream would freeze, so the key is a paired one, which draws anew at each step
for anybody but us. And a mask that is made outside the jitted function would
be compiled in, so that is an error.
"""

import inspect
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Int

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import custom
from kdropout_jax import functional
from kdropout_jax._types import Key
from kdropout_jax._types import NumRows
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import schedules
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _linen_dense
from kdropout_jax.nn import _linen_dropout
from kdropout_jax.nn import _linen_streams
from kdropout_jax.nn import _paired_keys
from kdropout_jax.nn import _row_offsets
from kdropout_jax.nn import _streams
from kdropout_jax.nn import _tracing

__all__ = ()

OtherReaders = Literal["per_step", "refuse"]

_OURS = (
  _linen_dropout.Dropout,
  _linen_dropout.SpatialDropout,
  _linen_dense.DropConnectDense,
)
_ATTENTION = nn.MultiHeadDotProductAttention
_NOISE = "kdropout_jax.nn.intercept.noise"
_HOW = (
  "Pass the step as an argument of the jitted function, and open"
  " kd.linen.intercept (or call kd.linen.apply) inside it"
)


class ScheduleInterceptor:
  """The interceptor: answers dropouts, and gives others fresh noise.

  Attributes:
    key: the run-long key.
    streams: the key streams that the dropouts name.
    active: those of them that a dropout reads in this call.
    finding: whether the call is only traced, to learn the streams.
    called: whether a module was called.
  """

  def __init__(
    self,
    schedule,
    step,
    key,
    pattern=None,
    batch_size=None,
    *,
    first_row=None,
    axis_name=None,
    other_readers="per_step",
    subnets=None,
  ):
    _checks.check_count_of("step", step)
    _checks.check_option("other_readers", other_readers, OtherReaders)
    self.key = _keys.as_threefry(key)
    if self.key.ndim:
      raise ValueError(f"key must be a single key, got shape {self.key.shape}")
    self.pattern = _dropout_rules.check_pattern(pattern)
    self.schedule = _streams.schedule_for(schedule, subnets)
    self.step = step
    self.other_readers = other_readers
    self._offset = _row_offsets.Offset(batch_size, first_row, axis_name)
    self._first_row = None
    self._rows = 0
    self._depth = 0
    self._models: list[nn.Module] = []
    self._root = None
    self.streams, self.active = {"dropout"}, set()
    self.called = self.finding = self._prepared = False

  def __call__(self, next_fun, args, kwargs, context):
    """Answers one call of a module's method."""
    module = context.module
    # Flax tries out `setup` on a scope of its own, which decides nothing.
    if module.scope is None or context.method_name == "<lambda>":
      return next_fun(*args, **kwargs)
    self.called = True
    if module.is_initializing():
      return next_fun(*args, **kwargs)
    if self._depth == 0 and not self._prepared:
      self._enter(context, args, kwargs)
    self._depth += 1
    try:
      return self._answer(next_fun, args, kwargs, context)
    finally:
      self._depth -= 1

  def prepare(self, run, args, kwargs, given) -> dict[str, Key]:
    """Checks an outermost call, and returns the streams that it needs.

    Args:
      run: called with {stream: key}, applies the model.
      args: arguments of the call, like `kwargs`.
      kwargs: see `args`.
      given: streams that the user gave keys for; they stay where no dropout is
        active, so that the model's output is its own.
    """
    _tracing.check_step(self.step, _HOW)
    if isinstance(self.schedule, custom.GivenSubnets):
      _tracing.check_step(self.schedule.ids, _HOW, "subnets")
    rows = _leading_axis(args, kwargs)
    self._rows, self._first_row = self._offset.resolve(rows)
    if not custom.is_per_layer(self.schedule):
      self._ids(None)  # Checks the step.
    self._find_streams(run)
    names = {n for n in self.streams if n in self.active or n not in given}
    return dict.fromkeys(sorted(names), self._paired(self.key))

  def given(self, run, args, kwargs, given) -> dict[str, Key]:
    """As `prepare`, for a caller that puts the streams into ``rngs=``."""
    streams = self.prepare(run, args, kwargs, given)
    self._prepared = self.called = True
    return streams

  def _paired(self, key: Key) -> Key:
    """Returns a stream's key: run-long for us, of this step for others."""
    noise = jax.random.fold_in(_keys.named(key, _NOISE), _uint32(self.step))
    return _paired_keys.pair(key, noise)

  def _find_streams(self, run) -> None:
    """Learns which streams the dropouts name, by tracing the call once.

    Nothing is computed, unless control flow depends on values.
    """
    depth, self._depth, self.finding = self._depth, 1, True
    self.active = set()
    try:
      try:
        jax.eval_shape(lambda: (run({"dropout": self.key}), None)[1])
      except jax.errors.JAXTypeError:
        run({"dropout": self.key})
    finally:
      self._depth, self.finding = depth, False

  def _enter(self, context, args, kwargs) -> None:
    """Puts the run-long key into the root scope of the outermost call."""
    module = context.module
    if _linen_streams.is_lifted_root(module):
      raise UnsupportedError(
        f"a lifted transform stands around the whole {type(module).__name__},"
        " so its keys are split before kd.linen.intercept sees them; use"
        " kd.linen.apply, which passes them in"
      )
    root = _linen_streams.root_of(module)
    given = _linen_streams.given(root)
    root.mutable = _linen_streams.distinct(root.mutable)
    if "dropout" not in given:
      _linen_streams.add_streams(module, {"dropout": self._paired(self.key)})
    if context.method_name == "setup":
      return  # The arguments come with the call itself.
    run = _linen_streams.rerun(module, context.method_name, args, kwargs)
    streams = self.prepare(run, args, kwargs, given)
    number = self._number(module)
    if number:  # Another model: its layers may have the paths of the first's.
      other = self._paired(jax.random.fold_in(self.key, number))
      streams = dict.fromkeys(streams, other)
    _linen_streams.add_streams(module, streams)
    if root is not self._root:  # Else a second call of one forward pass.
      self._root = root
      _linen_streams.restart(root.rng_counters, streams)

  def _number(self, module: nn.Module) -> int:
    """Returns which of the models of this context `module` is, from 0."""
    for number, model in enumerate(self._models):
      if _linen_streams.is_same(model, module):
        return number
    self._models.append(module)
    return len(self._models) - 1

  def _answer(self, next_fun, args, kwargs, context):
    module = context.module
    if context.orig_method.func is _FLAX_DROPOUT:
      return self.dropout(next_fun, module, *args, **kwargs)
    if isinstance(module, _OURS):
      return self.ours(next_fun, args, kwargs, context)
    if isinstance(module, nn.Dropout):
      return next_fun(*args, **kwargs)  # A subclass; see its super() call.
    why = self._why_refused(module)
    before = _linen_streams.counts(module, self.streams)
    out = next_fun(*args, **kwargs)
    after = _linen_streams.counts(module, self.streams)
    if why and not self.finding and after != before:
      streams = ", ".join(sorted(self.streams))
      raise UnsupportedError(
        f"{_named(module)} reads a dropout stream ({streams}) by itself: {why}"
      )
    return out

  def _why_refused(self, module: nn.Module) -> str | None:
    """Returns why a module may not read the streams of the dropouts."""
    if _linen_streams.is_nnx(module):
      return (
        "it is a model of flax.nnx, whose dropouts linen does not see; use"
        " kd.nnx.retrofit, or give them a stream of their own"
      )
    if self.other_readers == "refuse" and not isinstance(module, _ATTENTION):
      return (
        "other_readers='refuse' asks for none; let it read a stream of its"
        " own, or give it fresh noise at each step by other_readers='per_step'"
      )
    return None

  def dropout(self, next_fun, module, inputs, deterministic=None, rng=None):
    """Answers `nn.Dropout`; what the user gave as `rng` is a per-step key."""
    del rng
    is_off = nn.merge_param(
      "deterministic", module.deterministic, deterministic
    )
    if self.finding:
      self._found(module, is_off)
      return inputs
    rule = _dropout_rules.make(
      module.rate,
      self.pattern,
      module.broadcast_dims,
      path=_linen_streams.path(module),
      batch_size=self._rows,
    )
    if is_off or rule.rate in (0.0, 1.0):
      return rule.without_masks(inputs, is_off)
    _check_rank(module, inputs)
    key = self.layer_key(module, module.rng_collection)
    ids = self._ids(key)
    slots = self._assignment(inputs, ids, "contiguous")
    return rule.run(
      inputs, False, lambda: key, lambda: key, subnets=ids, assignment=slots
    )

  def ours(self, next_fun, args, kwargs, context):
    """Answers this library's modules: they know what to do with subnets."""
    module = context.module
    bound = _bind(context, args, kwargs)
    given = ("subnets", "masks", "rng")
    if context.method_name != "__call__" or any(
      bound.get(name) is not None for name in given
    ):
      return next_fun(*args, **kwargs)
    deterministic = is_deterministic(context, args, kwargs)
    if self.finding:
      self._found(module, deterministic)
      return next_fun(*args, **{**kwargs, "rng": self.key})
    if deterministic:  # Inference by sampling has fresh noise at each step.
      return next_fun(*args, **kwargs)
    key = self.layer_key(module, module.rng_collection)
    inputs = bound["inputs"]
    _check_rank(module, inputs)
    ids = self._ids(key)
    kwargs = {**kwargs, "rng": key, "subnets": ids}
    if bound.get("assignment") is None:
      slots = self._assignment(inputs, ids, module.row_layout)
      kwargs["assignment"] = slots
    return next_fun(*args, **kwargs)

  def layer_key(self, module: nn.Module, stream: str) -> Key:
    """Returns the run-long key of a dropout."""
    if not module.has_rng(stream):
      raise _linen_streams.not_passed_on(_named(module), stream)
    return _paired_keys.run_half(module.make_rng(stream))

  def _found(self, module, deterministic: bool) -> None:
    self.streams.add(module.rng_collection)
    if not deterministic and module.rate not in (0.0, 1.0):
      self.active.add(module.rng_collection)

  def _assignment(
    self, inputs, ids, row_layout: functional.RowLayout
  ) -> Int[Array, "B"] | None:
    """Returns the slots of rows that are a part of the batch, else None."""
    if self._first_row is None:
      return None
    return functional.assign_rows(
      jnp.shape(inputs)[0],
      ids.shape[0],
      batch_size=self._rows,
      first_row=self._first_row,
      row_layout=row_layout,
    )

  def _ids(self, layer_key: Key | None):
    layer = None
    if custom.is_per_layer(self.schedule) and layer_key is not None:
      layer = jax.random.key_data(layer_key)[-1]
    return schedules.subnet_ids(
      self.step, self.key, self.schedule, self._rows, layer
    )


_FLAX_DROPOUT = inspect.unwrap(nn.Dropout.__call__)


def is_deterministic(context, args, kwargs) -> bool:
  """Returns what a dropout's field and argument say together."""
  given = _bind(context, args, kwargs).get("deterministic")
  return nn.merge_param("deterministic", context.module.deterministic, given)


def _bind(context, args, kwargs) -> dict:
  return inspect.signature(context.orig_method).bind(*args, **kwargs).arguments


def _named(module: nn.Module) -> str:
  """Returns what errors call a module: its class and its path."""
  return f"{type(module).__name__} {_linen_streams.path(module)!r}"


def _check_rank(module: nn.Module, inputs) -> None:
  if jnp.ndim(inputs) < 2:
    raise ValueError(
      f"inputs of {_named(module)} must have rows as their leading axis"
      " and units as their last, got shape"
      f" {jnp.shape(inputs)}: under a vmap over examples features would pass"
      " for rows; apply the model to the whole batch"
    )


def _leading_axis(args, kwargs) -> NumRows | None:
  first = args[0] if args else next(iter(kwargs.values()), None)
  sizes = [leaf.shape[0] for leaf in jax.tree.leaves(first) if jnp.ndim(leaf)]
  return next((size for size in sizes if size), sizes[0] if sizes else None)


def _uint32(step) -> Array:
  if isinstance(step, (int, np.integer)):
    return jnp.uint32(int(step) % 2**32)
  return jnp.asarray(step).astype(jnp.uint32)
