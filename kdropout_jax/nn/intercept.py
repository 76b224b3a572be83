"""Makes every dropout of somebody else's linen model follow a schedule.

The model's code is left alone: `nn.intercept_methods` sees each call of a
dropout and answers it. Three traps are handled here. Layer keys come from
`make_rng` on a run-long key, which keeps the layers of an `nn.scan` apart and
which a per-step key of the user's cannot replace. Attention modules read the
same stream, so they are handed a key with the step folded in; any further
reader of it would freeze, and is refused. And a mask that is made outside the
jitted function would be compiled in, so that is an error.
"""

import inspect

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdropout_jax import _keys
from kdropout_jax import config
from kdropout_jax import patterns
from kdropout_jax._types import Key
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import schedules
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _linen_dense
from kdropout_jax.nn import _linen_dropout
from kdropout_jax.nn import _linen_streams

_OURS = (
  _linen_dropout.Dropout,
  _linen_dropout.SpatialDropout,
  _linen_dense.DropConnectDense,
)
_ATTENTION = nn.MultiHeadDotProductAttention


class ScheduleInterceptor:
  """The interceptor: answers dropouts, feeds attention, refuses others.

  Attributes:
    key: the run-long key.
    streams: the key streams that the dropouts name.
    finding: whether the call is only traced, to learn the streams.
    seen: how many calls of dropouts it has answered.
  """

  def __init__(self, schedule, step, key, pattern=None, batch_size=None):
    config.check_schedule(schedule)
    self.key = _keys.as_threefry(key)
    if self.key.ndim:
      raise ValueError(f"key must be a single key, got shape {self.key.shape}")
    self.pattern = patterns.Bernoulli if pattern is None else pattern
    _dropout_rules.make(
      0.5, self.pattern, batch_size=batch_size
    )  # Checks both.
    self.schedule, self.step, self.batch_size = schedule, step, batch_size
    self.seen = 0
    self._rows = 0
    self._depth = 0
    self._root = None
    self.streams = {"dropout"}
    self.finding = self._prepared = False

  def __call__(self, next_fun, args, kwargs, context):
    """Answers one call of a module's method."""
    module = context.module
    # Flax tries out `setup` on a scope of its own, which decides nothing.
    if module.scope is None or context.method_name == "<lambda>":
      return next_fun(*args, **kwargs)
    if module.is_initializing():
      self.seen += isinstance(module, (nn.Dropout, *_OURS))
      return next_fun(*args, **kwargs)
    if self._depth == 0 and not self._prepared:
      self._enter(context, args, kwargs)
    self._depth += 1
    try:
      return self._answer(next_fun, args, kwargs, context)
    finally:
      self._depth -= 1

  def prepare(self, run, args, kwargs, variables) -> dict[str, Key]:
    """Checks an outermost call, and returns the streams that it needs.

    Args:
      run: called with {stream: key}, applies the model.
      args: arguments of the call, like `kwargs`.
      kwargs: see `args`.
      variables: of the model.
    """
    _linen_streams.check_concrete(self.step, args, kwargs, variables)
    self._rows = self.batch_size or _leading_axis(args, kwargs)
    if not self.schedule.per_layer:
      self._ids(None)  # Checks the step.
    self._find_streams(run)
    return dict.fromkeys(sorted(self.streams), self.key)

  def given(self, run, args, kwargs, variables) -> dict[str, Key]:
    """As `prepare`, for a caller that puts the streams into ``rngs=``."""
    streams = self.prepare(run, args, kwargs, variables)
    self._prepared = True
    return streams

  def _find_streams(self, run) -> None:
    """Learns which streams the dropouts name, by tracing the call once.

    Nothing is computed, unless control flow depends on values.
    """
    depth, self._depth, self.finding = self._depth, 1, True
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
    root.mutable = _linen_streams.distinct(root.mutable)
    _linen_streams.add_streams(module, ("dropout",), self.key)
    if context.method_name == "setup":
      return  # The arguments come with the call itself.
    run = _linen_streams.rerun(module, context.method_name, args, kwargs)
    streams = self.prepare(run, args, kwargs, module.variables)
    _linen_streams.add_streams(module, streams, self.key)
    if root is not self._root:  # Else a second call of one forward pass.
      self._root = root
      _linen_streams.restart(root.rng_counters, streams)

  def _answer(self, next_fun, args, kwargs, context):
    module = context.module
    if context.orig_method.func is _FLAX_DROPOUT:
      return self.dropout(next_fun, module, *args, **kwargs)
    if isinstance(module, _OURS):
      return self.ours(next_fun, args, kwargs, context)
    if isinstance(module, nn.Dropout):
      return next_fun(*args, **kwargs)  # A subclass; see its super() call.
    if isinstance(module, _ATTENTION):
      return self._attention(next_fun, args, kwargs, context)
    before = _linen_streams.counts(module, self.streams)
    out = next_fun(*args, **kwargs)
    if (
      not self.finding and _linen_streams.counts(module, self.streams) != before
    ):
      raise UnsupportedError(
        f"{_named(module)} reads a dropout stream"
        f" ({', '.join(sorted(self.streams))}) by itself: under a"
        " run-long key its noise would be the same at every step. Let it read"
        " a stream of its own"
      )
    return out

  def dropout(self, next_fun, module, inputs, deterministic=None, rng=None):
    """Answers `nn.Dropout`; what the user gave as `rng` is a per-step key."""
    del rng
    if self.finding:
      self.streams.add(module.rng_collection)
      return next_fun(inputs, deterministic, self.key)
    self.seen += 1
    deterministic = nn.merge_param(
      "deterministic", module.deterministic, deterministic
    )
    rule = _dropout_rules.make(
      module.rate,
      self.pattern,
      module.broadcast_dims,
      batch_size=self._rows,
    )
    if deterministic or rule.rate in (0.0, 1.0):
      return rule.without_masks(inputs, deterministic)
    _check_rank(module, inputs)
    key = self.layer_key(module, module.rng_collection)
    ids = self._ids(key)
    return rule.run(inputs, False, lambda: key, lambda: key, subnets=ids)

  def ours(self, next_fun, args, kwargs, context):
    """Answers this library's modules: they know what to do with subnets."""
    module = context.module
    bound = _bind(context, args, kwargs)
    given = ("subnets", "masks", "rng")
    if context.method_name != "__call__" or any(
      bound.get(name) is not None for name in given
    ):
      return next_fun(*args, **kwargs)
    if self.finding:
      self.streams.add(module.rng_collection)
      return next_fun(*args, **{**kwargs, "rng": self.key})
    self.seen += 1
    key = self.layer_key(module, module.rng_collection)
    if is_deterministic(context, args, kwargs):
      # Inference by sampling has a fresh key at each step.
      key = jax.random.fold_in(key, self.step)
      return next_fun(*args, **{**kwargs, "rng": key})
    _check_rank(module, bound["inputs"])
    ids = self._ids(key)
    return next_fun(*args, **{**kwargs, "rng": key, "subnets": ids})

  def layer_key(self, module: nn.Module, stream: str) -> Key:
    """Returns the run-long key of a dropout."""
    if not module.has_rng(stream):
      raise ValueError(
        f"{_named(module)} reads the stream {stream!r},"
        " which a transform around it does not pass on: name it"
        f" in split_rngs={{{stream!r}: True}}"
      )
    return module.make_rng(stream)

  def _attention(self, next_fun, args, kwargs, context):
    """Gives attention a key with the step folded in, unless it has one."""
    module = context.module
    bound = inspect.signature(context.orig_method).bind_partial(*args, **kwargs)
    if (
      context.method_name == "__call__"
      and bound.arguments.get("dropout_rng") is None
      and module.dropout_rate > 0
      and module.has_rng("dropout")
    ):
      key = self.key if self.finding else module.make_rng("dropout")
      bound.arguments["dropout_rng"] = jax.random.fold_in(key, self.step)
    return next_fun(*bound.args, **bound.kwargs)

  def _ids(self, layer_key: Key | None):
    layer = None
    if self.schedule.per_layer and layer_key is not None:
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


def _leading_axis(args, kwargs) -> int:
  first = args[0] if args else next(iter(kwargs.values()), None)
  for leaf in jax.tree.leaves(first):
    if jnp.ndim(leaf) > 0 and leaf.shape[0] > 0:
      return leaf.shape[0]
  raise ValueError(
    "batch_size must be given: the first argument of the model has no leading"
    f" axis to take it from, got {type(first).__name__}"
  )
