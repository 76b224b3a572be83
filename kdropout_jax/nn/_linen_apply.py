"""Any linen model, its dropouts on a schedule; public as ``kd.linen``."""

import contextlib
from collections.abc import Iterator

from flax import linen as nn

from kdropout_jax import config
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _linen_streams
from kdropout_jax.nn import _subnet_visitor
from kdropout_jax.nn import intercept as interception


def apply(
  model: nn.Module,
  variables,
  *args,
  schedule: config.Schedule,
  step: Step,
  key: Key,
  pattern: _dropout_rules.PatternFn | None = None,
  batch_size: int | None = None,
  **kwargs,
):
  """Applies any linen model so that its dropouts follow a schedule.

  ``model.apply(variables, *args, **kwargs)``, where each `nn.Dropout` keeps
  its rate, its `broadcast_dims` and masks of its own, but row r of the batch
  trains subnet r * T // B of this step. See `intercept` for what holds.

  Args:
    model: a model of anyone's.
    variables: its variables.
    *args: the arguments of its call.
    schedule: which subnets train when.
    step: number of the training step; traced where the inputs are.
    key: the run-long key, the same at every step.
    pattern: from a layer's rate to its pattern; the default is `kd.Bernoulli`.
    batch_size: rows of a full batch; the default is the leading axis of the
      first argument.
    **kwargs: further arguments of ``model.apply``, such as ``train=True``,
      ``rngs=`` and ``mutable=``.

  Returns:
    What ``model.apply`` returns.

  Raises:
    ValueError: a wrong setting, or a step that would be compiled in.
    UnsupportedError: the model reads the dropout stream elsewhere, too; or
      `kd.subnets` runs it as a small network, or samples its masks.

  >>> import flax.linen as nn, jax, jax.numpy as jnp, kdropout_jax as kd
  >>> model = nn.Dropout(0.5, deterministic=False)
  >>> y = kd.linen.apply(model, {}, jnp.ones((4, 8)), step=0,
  ...   schedule=kd.Sequential(k=97, m=1), key=jax.random.key(0))
  >>> bool((y == y[:1]).all())
  True
  """
  _subnet_visitor.refuse("kd.linen.apply")
  follower = interception.ScheduleInterceptor(
    schedule, step, key, pattern, batch_size
  )
  mutable = kwargs.pop("mutable", False)
  rngs = _linen_streams.as_rngs(kwargs.pop("rngs", None))

  def run(streams):
    filters = _linen_streams.distinct(mutable)
    return model.apply(
      variables, *args, rngs={**rngs, **streams}, mutable=filters, **kwargs
    )

  with _following(follower):
    out = run(follower.given(run, args, kwargs, variables))
  return out[0] if mutable is False else out


@contextlib.contextmanager
def intercept(
  *,
  schedule: config.Schedule,
  step: Step,
  key: Key,
  pattern: _dropout_rules.PatternFn | None = None,
  batch_size: int | None = None,
) -> Iterator[None]:
  """Makes the dropouts of linen models called inside follow a schedule.

  Open it INSIDE the jitted function, with a traced step. Masks are tied to
  the names of modules: `nn.remat` changes names that Flax makes up and
  `nn.jit` always does, so name the layers (``nn.Dropout(0.5, name="drop")``)
  if masks are to survive such a change. Attention weights get conventional
  dropout, fresh at each step. Works under `nn.scan`, `nn.remat`, `nn.vmap` and
  `nn.jit` with what the model splits; where such a transform stands around the
  whole model, use `apply`. Bernoulli masks cover every non-batch element that
  `broadcast_dims` leaves apart; other patterns the last axis. A model is
  traced once more than usual, to learn which streams its dropouts name. Under
  `pmap` and `shard_map` each device takes its own rows for the whole batch:
  all of them train the same subnets.

  Args:
    schedule: which subnets train when; with ``per_layer=True`` each dropout
      draws its own.
    step: number of the training step.
    key: the run-long key, the same at every step, of any implementation.
    pattern: from a layer's rate to its pattern; the default is `kd.Bernoulli`.
    batch_size: rows of a full batch; the default is the leading axis of the
      outermost call's first argument.

  Raises:
    ValueError: a wrong setting; a step that would be compiled in; or no
      dropout was called inside.
    UnsupportedError: a module that is neither dropout nor attention reads the
      dropout stream; or opened where `kd.subnets` runs a small network.
  """
  _subnet_visitor.refuse("kd.linen.intercept")
  with _following(
    interception.ScheduleInterceptor(schedule, step, key, pattern, batch_size)
  ):
    yield


@contextlib.contextmanager
def _following(follower: interception.ScheduleInterceptor) -> Iterator[None]:
  with nn.intercept_methods(follower):
    yield
  if not follower.seen:
    raise ValueError(
      "no dropout was called inside kd.linen.intercept: either the model has"
      " none, or the context stands around a function that was compiled"
      " before; open it inside the jitted function"
    )
