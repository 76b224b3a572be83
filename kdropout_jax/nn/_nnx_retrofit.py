"""Any nnx model, its dropouts on a schedule; public as ``kd.nnx``."""

import warnings
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import config
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax._types import UnsupportedError
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _nnx_dropout
from kdropout_jax.nn import _nnx_forgotten
from kdropout_jax.nn import _nnx_stacks
from kdropout_jax.nn import _row_offsets
from kdropout_jax.nn import _streams
from kdropout_jax.nn._nnx_scheduled import ScheduledDropout

_Model = TypeVar("_Model", bound=nnx.Module)


def retrofit(
  model: _Model,
  *,
  schedule: config.Schedule | None = None,
  key: Key,
  pattern: _dropout_rules.PatternLike | None = None,
  batch_size: int | None = None,
  first_row: int | None = None,
  axis_name: str | tuple[str, ...] | None = None,
  name: str = "",
  subnets: Ids | None = None,
) -> _Model:
  """Replaces every `nnx.Dropout` of a model by one that follows a schedule.

  Each keeps its rate, its `broadcast_dims` and whether it is deterministic,
  and gets masks of its own: its layer key comes from its path. Call `set_step`
  at each step, inside the jitted function (a second call at one step that
  was not set again warns, once): a step that was set outside one
  that has the model closed over would be compiled in, and is an error. A module
  that one forward pass calls twice drops the same units twice: give each place
  its own. `nnx.MultiHeadAttention` has a stream of its own and keeps
  conventional dropout.

  Layers that `nnx.vmap` stacks have masks of their own each, retrofitted as a
  stack or one by one inside; a dropout without `rngs` is taken to be stacked as
  the layers of Flax beside it are.

  Args:
    model: a model of anyone's; it is changed in place.
    schedule: which subnets train when; its numbers are concrete. Also a
      `kd.CustomSchedule`, and any other hashable pytree with the methods of
      `kd.ScheduleProtocol`.
    key: the run-long key, of any implementation.
    pattern: a pattern, which takes each layer's rate; or a function of the
      rate, or of (rate, path). The default is `kd.Bernoulli`.
    batch_size: rows of a full batch; the default is the rows at hand.
    first_row: 0 where micro-batches are to train the subnets of their own rows
      of the full batch: `set_step` then takes the first row of each.
    axis_name: axis of `shard_map` or `pmap` that the rows are split over.
    name: prefix of the paths, for parts that are retrofitted apart with one
      key: parts of equal paths would drop the same units.
    subnets: ids [T] of the subnets of the first step, in place of a schedule:
      call `set_subnets` at each step, where `kd.guided.select` draws them, say.

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
  schedule = _streams.schedule_for(schedule, subnets)
  if subnets is None:
    schedule = _static(schedule)
  key = _keys.as_threefry(key)
  if key.ndim:
    raise ValueError(f"key must be a single key, got shape {key.shape}")
  pattern = _dropout_rules.check_pattern(pattern)
  _checks.check_text("name", name)
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
  _tell_of_linen(model)
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

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  >>> schedule = kd.Sequential(k=1, m=1)
  >>> model = kd.nnx.retrofit(model, schedule=schedule, key=jax.random.key(0))
  >>> def call(step):
  ...   kd.nnx.set_step(model, step)
  ...   return model(jnp.ones((2, 32)))
  >>> bool((call(0) == call(1)).all())
  False
  """
  _checks.check_count_of("step", step)
  if isinstance(step, (int, np.integer)):
    step = np.uint32(int(step) % 2**32)
  _nnx_forgotten.was_set()
  dropouts = _scheduled(model)
  for dropout in dropouts:
    shape = dropout.step.shape
    dropout.step[...] = jnp.broadcast_to(jnp.asarray(step, jnp.uint32), shape)
    if first_row is not None:
      _set_first_row(dropout, first_row)


def set_subnets(model: nnx.Module, subnets: Ids) -> None:
  """Tells a model that was retrofitted with ``subnets=`` which ones train.

  Args:
    model: what `retrofit` returned, or a part of it.
    subnets: ids [T], as many as it was retrofitted with.

  Raises:
    ValueError: wrong ids, or a model without ids of its own.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  >>> key, ids = jax.random.key(0), jnp.array([3])
  >>> model = kd.nnx.retrofit(model, subnets=ids, key=key)
  >>> kd.nnx.set_subnets(model, jnp.array([4]))
  """
  subnets = _streams.check_subnets(subnets)
  _nnx_forgotten.was_set()
  dropouts = _scheduled(model)
  own: list[Any] = [dropout.subnets for dropout in dropouts]
  for variable in own:
    if variable is None:
      raise ValueError(
        "model follows a schedule of its own: call kd.nnx.retrofit with"
        " subnets= in place of schedule= to say which subnets train"
      )
    count = variable.shape[-1]
    if subnets.shape != (count,):
      raise ValueError(
        f"subnets must be {count} ids, as kd.nnx.retrofit was given, got"
        f" {subnets.shape[0]}"
      )
  for variable in own:
    ids = subnets.astype(variable.dtype)
    variable[...] = jnp.broadcast_to(ids, variable.shape)


def _scheduled(model) -> list[ScheduledDropout]:
  """Returns the dropouts that follow a schedule, each with a key of its own."""
  nodes = [node for _, node in nnx.iter_graph(model)]
  dropouts = [node for node in nodes if isinstance(node, ScheduledDropout)]
  if not dropouts:
    raise ValueError(
      "model has no dropout that follows a schedule: call kd.nnx.retrofit first"
    )
  _check_apart(dropouts)
  return dropouts


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

  Args:
    model: retrofitted, or made of the modules of `kd.nnx`.

  Returns:
    {path of the dropout: its threefry key}.

  >>> import kdropout_jax as kd
  >>> from flax import nnx
  >>> model = nnx.Sequential(kd.nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  >>> list(kd.nnx.layer_keys(model))
  ['layers/0']
  """
  kinds = (ScheduledDropout, _nnx_dropout.Dropout)
  return {
    "/".join(map(str, path)): _keys.as_threefry(node.layer_key[...])
    for path, node in nnx.iter_graph(model)
    if isinstance(node, kinds) and node.layer_key is not None
  }


def _static(schedule):
  """Returns a schedule as a static part of a model, its numbers Python's.

  Raises:
    ValueError: it holds arrays, or cannot be hashed.
  """
  is_number = lambda leaf: isinstance(leaf, np.number)  # noqa: E731
  schedule = jax.tree.map(
    lambda leaf: leaf.item() if is_number(leaf) else leaf, schedule
  )
  leaves = jax.tree.leaves(schedule)
  if not all(type(leaf) in (int, float) for leaf in leaves):
    raise ValueError(
      f"schedule must hold Python integers for nnx, or floats, got {schedule}:"
      " it is a static part of the model; sweep with kd.linen.apply or"
      " kd.subnet_ids"
    )
  try:
    hash(schedule)
  except TypeError:
    raise ValueError(
      f"schedule must be hashable for nnx, got {schedule}: it is a static part"
      " of the model; a dataclass is with frozen=True"
    ) from None
  return schedule


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


def _tell_of_linen(model) -> None:
  """Warns of parts in which dropouts are linen's, and so not replaced."""
  for path, node in nnx.iter_graph(model):
    if type(node).__name__ == "ToNNX":
      name = "/".join(map(str, path))
      warnings.warn(
        f"{name!r} is a linen module: kd.nnx.retrofit leaves its dropouts as"
        " they are. Call the model inside kd.linen.intercept, at each step, to"
        " make them follow the schedule, too",
        skip_file_prefixes=_nnx_forgotten.NOT_THE_USERS,
      )


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
