"""Run-long keys in the scopes of a linen model that is being applied.

Flax copies the key streams of a scope when it opens a child, so a stream must
stand in the root before the first child is opened; children that `setup` has
opened already are caught up.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax.core import scope as flax_scope

from kdropout_jax import _checks
from kdropout_jax._types import Key
from kdropout_jax.nn import _paired_keys

_serial = itertools.count()


def add_streams(module: nn.Module, streams: Mapping[str, Key]) -> None:
  """Puts keys under their names into the root scope of a bound module."""
  root = root_of(module)
  for name, key in streams.items():
    root.rngs[name] = flax_scope.LazyRng.create(key)
    root.rng_counters.setdefault(name, 0)
  for child in _bound_children(module):
    _inherit(child, streams)


def given(root) -> set[str]:
  """Returns the streams that the user gave a root scope keys for."""
  return {
    name
    for name, rng in root.rngs.items()
    if not _paired_keys.is_paired(rng.as_jax_rng())
  }


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


def check_variables(variables) -> None:
  """Raises a ValueError unless `variables` is ``{collection: {name: ...}}``."""
  _checks.check_type("variables", variables, Mapping, "a dict of collections")
  for collection, held in variables.items():
    if not isinstance(collection, str) or not isinstance(held, Mapping):
      raise ValueError(
        "variables must be a dict of collections, got"
        f" {_checks.shown(held)} for {collection!r}"
      )


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


def is_same(model: nn.Module, other: nn.Module) -> bool:
  """Returns whether two bound modules are one model: class and fields."""
  if type(model) is not type(other):
    return False
  names = {field.name for field in dataclasses.fields(model)}
  for name in names - {"parent", "name"}:
    a, b = getattr(model, name, None), getattr(other, name, None)
    try:
      if a is not b and not bool(a == b):
        return False
    except (TypeError, ValueError):  # Arrays, and what cannot be compared.
      return False
  return True


def is_nnx(module: nn.Module) -> bool:
  """Returns whether a module wraps a model of flax.nnx."""
  kind = type(module)
  return kind.__name__ == "ToLinen" and kind.__module__.startswith("flax.nnx")


def not_passed_on(module: str, stream: str) -> ValueError:
  """Returns the error of a module whose stream a transform holds back."""
  return ValueError(
    f"{module} reads the stream {stream!r}, which a transform around it does"
    f" not pass on: name it in split_rngs={{{stream!r}: True}}"
  )


def path(module: nn.Module) -> str:
  """Returns a module's path, as in ``encoder/Dropout_0``; empty if unbound."""
  return "" if module.scope is None else "/".join(module.path)


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
