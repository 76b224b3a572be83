"""Run-long keys in the scopes of a linen model that is being applied.

Flax copies the key streams of a scope when it opens a child, so a stream must
stand in the root before the first child is opened; children that `setup` has
opened already are caught up.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import scope as flax_scope
from jax.extend import core as jax_core

from kdropout_jax import _checks
from kdropout_jax._types import Key

_serial = itertools.count()


def add_streams(module: nn.Module, names: Iterable[str], key: Key) -> None:
  """Puts `key` under `names` into the root scope of a bound module."""
  root = root_of(module)
  for name in names:
    root.rngs[name] = flax_scope.LazyRng.create(key)
    root.rng_counters.setdefault(name, 0)
  for child in _bound_children(module):
    _inherit(child, names)


def restart(counters: dict, names: Iterable[str]) -> None:
  """Counts draws from zero again, in a scope and in all below it.

  A model that `bind` has bound keeps its counters from call to call; its keys
  would change with each step, and reuse be lost.
  """
  for name, count in counters.items():
    if isinstance(count, dict):
      restart(count, names)
    elif name in names:
      counters[name] = 0


def root_of(module: nn.Module) -> Any:
  """Returns the root scope of a bound module."""
  assert module.scope is not None
  return module.scope.root


def distinct(mutable):
  """Returns a filter like `mutable` that no other call has.

  `nn.jit` keeps what it compiled for one call, and would serve the masks of
  that call to another one: its cache knows nothing of interceptors. It does
  tell apart which collections are mutable, so each call gets one of its own.
  """
  own = f"_kdropout_{next(_serial)}"
  if mutable is True:
    return flax_scope.DenyList(own)  # All but what nobody has.
  return flax_scope.union_filters(mutable, own)


def is_lifted_root(module: nn.Module) -> bool:
  """Whether a lifted transform stands around the outermost module.

  Its keys have been drawn from already, before the first method is called.
  """
  return any(
    count
    for name, count in root_of(module).rng_counters.items()
    if isinstance(name, str)
  )


def check_concrete(step, args, kwargs, variables) -> None:
  """Raises a ValueError where masks would be baked into a compiled function."""
  if not _checks.is_concrete(step):
    return
  leaves = jax.tree.leaves((args, kwargs, variables))
  try:
    for leaf in leaves:
      if isinstance(leaf, jax.Array):
        _concrete(leaf)
  except jax.errors.ConcretizationTypeError:
    raise ValueError(
      f"step must be traced where the model's inputs are, got {step!r}: under"
      " jit the masks of this one step would be compiled in and stay. Pass the"
      " step as an argument of the jitted function, and open kd.linen.intercept"
      " (or call kd.linen.apply) inside it"
    ) from None


def as_rngs(rngs) -> dict[str, Key]:
  """Returns the ``rngs=`` of ``model.apply`` as Flax reads it."""
  if rngs is None:
    return {}
  return dict(rngs) if isinstance(rngs, Mapping) else {"params": rngs}


def counts(module: nn.Module, names: Iterable[str]) -> dict[str, int]:
  """Returns how often a module has drawn from each stream by itself."""
  if module.scope is None:
    return {}
  return {name: module.scope.rng_counters.get(name, 0) for name in names}


def path(module: nn.Module) -> str:
  """Returns a bound module's path, as in ``encoder/Dropout_0``."""
  return "/".join(module.path)


def rerun(module: nn.Module, method: str, args, kwargs):
  """Returns run(streams): the same call on an unbound twin of `module`."""
  root = root_of(module)
  twin, variables = module.unbind()
  rngs = {name: rng.as_jax_rng() for name, rng in root.rngs.items()}
  call = nn.apply(
    lambda bound: getattr(bound, method)(*args, **kwargs),
    twin,
    mutable=distinct(root.mutable),
  )
  return lambda streams: call(variables, rngs={**rngs, **streams})


def _concrete(leaf: jax.Array) -> None:
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  jax_core.concrete_or_error(None, leaf)


def _bound_children(module: nn.Module) -> Iterable[nn.Module]:
  fields = {k: v for k, v in vars(module).items() if k != "parent"}
  is_module = lambda value: isinstance(value, nn.Module)  # noqa: E731
  for child in jax.tree.leaves(fields, is_leaf=is_module):
    if is_module(child) and child.scope is not None:
      yield child


def _inherit(child: nn.Module, names: Iterable[str]) -> None:
  scope: Any = child.scope
  if scope.parent is None:
    return
  for name in names:
    parent = scope.parent.rngs.get(name)
    if parent is not None:
      scope.rngs[name] = flax_scope.LazyRng.create(parent, scope.name)
      scope.rng_counters.setdefault(name, 0)
