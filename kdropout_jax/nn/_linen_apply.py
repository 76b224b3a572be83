"""Any linen model, its dropouts on a schedule; public as ``kd.linen``."""

import contextlib
from collections.abc import Iterator
from typing import Any

from flax import linen as nn
from jaxtyping import Array, Int

from kdropout_jax import _checks
from kdropout_jax import config
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _linen_streams
from kdropout_jax.nn import _subnet_visitor
from kdropout_jax.nn import _tracing
from kdropout_jax.nn import intercept as interception


def apply(
  model: nn.Module,
  variables,
  *args,
  schedule: config.Schedule | None = None,
  step: Step,
  key: Key,
  pattern: _dropout_rules.PatternLike | None = None,
  batch_size: int | None = None,
  first_row: int | Int[Array, ""] | None = None,
  axis_name: str | tuple[str, ...] | None = None,
  other_readers: interception.OtherReaders = "per_step",
  subnets: Ids | None = None,
  **kwargs,
) -> Any:
  """Applies any linen model so that its dropouts follow a schedule.

  ``model.apply(variables, *args, **kwargs)``, where each `nn.Dropout` keeps
  its rate, its `broadcast_dims` and masks of its own, but row r of the batch
  trains subnet r * T // B of this step. See `intercept` for what holds.

  Args:
    model: a model of anyone's.
    variables: its variables.
    *args: the arguments of its call.
    schedule: which subnets train when; one of one's own, too.
    step: number of the training step; traced where the inputs are.
    key: the run-long key, the same at every step.
    pattern: as for `intercept`, like the arguments that follow.
    batch_size: rows of a full batch.
    first_row: number of the first row at hand in the full batch.
    axis_name: mapped axis that the rows are split over.
    other_readers: what other readers of the dropout stream get.
    subnets: the ids of this step in place of a schedule.
    **kwargs: further arguments of ``model.apply``, such as ``train=True``,
      ``rngs=`` and ``mutable=``.

  Returns:
    What ``model.apply`` returns; its own output where no dropout is active.

  Raises:
    ValueError: a wrong setting, or a step that would be compiled in.
    UnsupportedError: a reader of the dropout stream that cannot be served; or
      `kd.subnets` runs it as a small network, or samples its masks.

  >>> import flax.linen as nn, jax, jax.numpy as jnp, kdropout_jax as kd
  >>> model = nn.Dropout(0.5, deterministic=False)
  >>> y = kd.linen.apply(model, {}, jnp.ones((4, 8)), step=0,
  ...   schedule=kd.Sequential(k=97, m=1), key=jax.random.key(0))
  >>> bool((y == y[:1]).all())
  True
  """
  _subnet_visitor.refuse("kd.linen.apply")
  _checks.check_type("model", model, nn.Module, "a linen module")
  _linen_streams.check_variables(variables)
  interceptor = interception.ScheduleInterceptor(
    schedule,
    step,
    key,
    pattern,
    batch_size,
    first_row=first_row,
    axis_name=axis_name,
    other_readers=other_readers,
    subnets=subnets,
  )
  mutable = kwargs.pop("mutable", False)
  rngs = _linen_streams.as_rngs(kwargs.pop("rngs", None))

  def run(streams):
    filters = _linen_streams.distinct(mutable)
    return model.apply(
      variables, *args, rngs={**rngs, **streams}, mutable=filters, **kwargs
    )

  with _opened(interceptor):
    out = run(interceptor.given(run, args, kwargs, rngs))
  return out[0] if mutable is False else out


@contextlib.contextmanager
def intercept(
  *,
  schedule: config.Schedule | None = None,
  step: Step,
  key: Key,
  pattern: _dropout_rules.PatternLike | None = None,
  batch_size: int | None = None,
  first_row: int | Int[Array, ""] | None = None,
  axis_name: str | tuple[str, ...] | None = None,
  other_readers: interception.OtherReaders = "per_step",
  subnets: Ids | None = None,
) -> Iterator[None]:
  """Makes the dropouts of linen models called inside follow a schedule.

  Open it INSIDE the jitted function, with a traced step. Masks are tied to
  the names of modules: `nn.remat` changes names that Flax makes up and
  `nn.jit` always does, so name the layers (``nn.Dropout(0.5, name="drop")``)
  if masks are to survive such a change. Works under `nn.scan`, `nn.remat`,
  `nn.vmap` and `nn.jit` with what the model splits; where such a transform
  stands around the whole model, use `apply`. Bernoulli masks cover every
  non-batch element that `broadcast_dims` leaves apart; other patterns the last
  axis, and where `broadcast_dims` leaves rows alone (stochastic depth) a row
  is dropped by itself. A model is traced once more than usual, to learn which
  streams its dropouts name; functions that were compiled before are traced
  anew. One that was compiled ahead of time, by ``.lower(...).compile()``, is
  not: it runs as it was compiled, with its own masks, and nothing here sees it.
  A second, different model takes its masks from
  ``jax.random.fold_in(key, 1)``, a third from 2: their layers may have equal
  paths.

  Attention weights, word dropout and whatever else reads the dropouts' stream
  get conventional noise, fresh at each step.

  Gradient accumulation: give `batch_size`, the rows of all micro-batches, and
  ``first_row=i * rows`` for micro-batch i; `step` counts optimizer steps. With
  `optax.MultiSteps` these are ``state.gradient_step`` and
  ``state.mini_step * rows``.

  Args:
    schedule: which subnets train when; with ``per_layer=True`` each dropout
      draws its own. Also a `kd.CustomSchedule`, and any other pytree with the
      methods of `kd.ScheduleProtocol`.
    step: number of the training step.
    key: the run-long key, the same at every step, of any implementation.
    pattern: a pattern, which takes each layer's rate; or a function of the
      rate, or of (rate, module path). The default is `kd.Bernoulli`.
    batch_size: rows of a full batch; the default is the leading axis of the
      outermost call's first argument, times the size of `axis_name`.
    first_row: number of the first row at hand in the full batch; may be
      traced. The default is 0.
    axis_name: axis of `shard_map` or `pmap` that the rows are split over, so
      that each device trains the subnets of its own rows.
    other_readers: "per_step", or "refuse" for an UnsupportedError.
    subnets: ids [T] of the subnets that train at this step, in place of a
      schedule (those of `kd.guided.select`, say); traced where the step is.

  Raises:
    ValueError: a wrong setting; a step that would be compiled in; `shard_map`
      without `axis_name` or `first_row`; or no module was called inside.
    UnsupportedError: a reader of the dropout stream that cannot be served; or
      opened where `kd.subnets` runs a small network.

  >>> import flax.linen as nn, jax, jax.numpy as jnp, kdropout_jax as kd
  >>> model, key = nn.Dropout(0.5, deterministic=False), jax.random.key(0)
  >>> with kd.linen.intercept(schedule=kd.Sequential(k=97), step=0, key=key):
  ...   y = model.apply({}, jnp.ones((4, 8)))
  >>> bool((y == y[:1]).all())
  True
  """
  _subnet_visitor.refuse("kd.linen.intercept")
  interceptor = interception.ScheduleInterceptor(
    schedule,
    step,
    key,
    pattern,
    batch_size,
    first_row=first_row,
    axis_name=axis_name,
    other_readers=other_readers,
    subnets=subnets,
  )
  with _opened(interceptor):
    yield
  if not interceptor.called:
    raise ValueError(
      "no module was called inside kd.linen.intercept: the context stands"
      " around a function that was compiled before; open it inside the jitted"
      " function"
    )


@contextlib.contextmanager
def _opened(interceptor: interception.ScheduleInterceptor) -> Iterator[None]:
  with _tracing.retracing(interceptor.step), nn.intercept_methods(interceptor):
    yield
