"""The key of every layer of a linen model; public as ``kd.linen``."""

from collections.abc import Mapping

import jax
from flax import linen as nn
from flax import traverse_util
from flax.core import scope as flax_scope

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import config
from kdropout_jax._types import Key
from kdropout_jax._types import UnsupportedError
from kdropout_jax.nn import _linen_streams
from kdropout_jax.nn import _paired_keys
from kdropout_jax.nn import _streams
from kdropout_jax.nn import intercept

_COLLECTION = "_kdropout_keys"
_PREFIX = "_kdropout_key_"


def layer_keys(
  model: nn.Module, variables, *args, key: Key, **kwargs
) -> dict[str, Key]:
  """Returns the key that each dropout's masks come from.

  With it, `kd.subnet_masks` rebuilds any subnet of a run at any time, in the
  widths that the modules use (Bernoulli: all non-batch elements).

  Args:
    model: a linen model that `apply` or `intercept` trained, or that has this
      library's modules and is called with ``subnets=``.
    variables: its variables.
    *args: the arguments of a TRAINING call: dropouts that are off have none.
    key: the run-long key.
    **kwargs: further arguments of the call, such as ``train=True``.

  Returns:
    {path of the dropout: key}; under `nn.scan` and `nn.vmap` an array of keys,
    one a layer. A second call of one module is ``path#1``, and so on.

  Raises:
    ValueError: no dropout is active in this call.
    UnsupportedError: a transform in the model carries no collection that keys
      could leave it by.

  >>> import flax.linen as nn, jax, jax.numpy as jnp, kdropout_jax as kd
  >>> model = nn.Sequential([nn.Dropout(0.5, deterministic=False)])
  >>> list(kd.linen.layer_keys(model, {}, jnp.ones((4, 8)),
  ...                          key=jax.random.key(0)))
  ['layers_0']
  """
  _checks.check_type("model", model, nn.Module, "a linen module")
  _checks.check_type("variables", variables, Mapping, "a dict of variables")
  _checks.check_tree("variables", variables)
  key = _keys.single(key)
  kwargs.pop("mutable", None)
  refused = None
  for carrier in (None, "params", "intermediates", *variables):
    try:
      data = _collect(key, carrier, model, variables, args, kwargs)
      break
    except _NoCarrierError as error:
      refused = refused or error
    except Exception:  # A carrier that all layers share cannot take keys.
      if refused is None:
        raise
  else:
    assert refused is not None
    raise refused
  if not data:
    raise ValueError(
      "no dropout was active in this call: give layer_keys the arguments of a"
      " training call, such as train=True"
    )
  return {name: _keys.as_threefry(words) for name, words in data.items()}


def _collect(key, carrier, model, variables, args, kwargs):
  kwargs = dict(kwargs)
  # Modules of ours that are called with subnets= ask for their stream at once.
  rngs = {_streams.STREAM: key, **(kwargs.pop("rngs", None) or {})}
  mutable = {_COLLECTION}
  if carrier is not None:
    mutable |= {"params", "intermediates", *variables}

  def run(streams):
    return model.apply(
      variables,
      *args,
      rngs={**rngs, **streams},
      mutable=_linen_streams.distinct(mutable),
      **kwargs,
    )

  @jax.jit  # As a whole, so that all but the keys falls away.
  def find(step):
    recorder = _Recorder(key, carrier, step)
    with nn.intercept_methods(recorder):
      streams = recorder.given(run, args, kwargs, rngs)
      _, state = run({**streams, _streams.STREAM: recorder.key})
    leaves = traverse_util.flatten_dict(state)
    return {
      _layer_name(path): leaf
      for path, leaf in leaves.items()
      if path[-1].startswith(_PREFIX)
    }

  return find(0)


class _NoCarrierError(UnsupportedError):
  """A transform around a dropout carries no collection for its key."""


class _Recorder(intercept.ScheduleInterceptor):
  """Leaves each dropout's key in a collection that transforms carry out.

  Attributes:
    carrier: the collection used where a transform does not carry our own.
  """

  def __init__(self, key: Key, carrier: str | None, step):
    super().__init__(config.Sequential(), step, key, batch_size=1)
    self.carrier = carrier

  def dropout(self, next_fun, module, inputs, deterministic=None, rng=None):
    if self.finding:
      return super().dropout(next_fun, module, inputs, deterministic, rng)
    deterministic = nn.merge_param(
      "deterministic", module.deterministic, deterministic
    )
    if not deterministic and module.rate not in (0.0, 1.0):
      self._record(module, self.layer_key(module, module.rng_collection))
    return inputs

  def ours(self, next_fun, args, kwargs, context):
    module, inner = context.module, context.method_name != "__call__"
    if not inner and intercept.is_deterministic(context, args, kwargs):
      return next_fun(*args, **{**kwargs, "rng": self.key})
    streams = {*self.streams, _streams.STREAM}
    before = _linen_streams.counts(module, streams)
    out = super().ours(next_fun, args, kwargs, context)
    for stream, count in _linen_streams.counts(module, streams).items():
      if not self.finding and count == before[stream] + 1:
        rng = flax_scope.LazyRng.create(module.scope.rngs[stream], count)
        self._record(module, _paired_keys.run_half(rng.as_jax_rng()))
    return out

  def _record(self, module: nn.Module, key: Key) -> None:
    for collection in (_COLLECTION, self.carrier):
      if collection and module.is_mutable_collection(collection):
        break
    else:
      raise _NoCarrierError(
        f"the transform around {_linen_streams.path(module)!r} carries no"
        " collection that a key could leave it by; let it carry"
        " 'intermediates', as in variable_axes={'intermediates': 0}"
      )
    number = 0
    while module.has_variable(collection, f"{_PREFIX}{number}"):
      number += 1
    data = jax.random.key_data(key)
    module.put_variable(collection, f"{_PREFIX}{number}", data)


def _layer_name(path: tuple[str, ...]) -> str:
  name, number = "/".join(path[1:-1]), path[-1].removeprefix(_PREFIX)
  return name if number == "0" else f"{name}#{number}"
