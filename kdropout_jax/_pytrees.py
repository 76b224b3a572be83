"""Registration of frozen dataclasses as pytrees that rebuild unchecked.

`jax.tree_util.register_dataclass` rebuilds through the constructor, so that
`__post_init__` would check placeholders and tracers. Here unflattening sets
the fields directly: a value is checked once, where a user constructs it.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import jax
from flax import serialization

_T = TypeVar("_T")


def register(cls: type[_T], data_fields: Sequence[str] = ()) -> type[_T]:
  """Registers a frozen dataclass; fields not in `data_fields` are static."""
  data = tuple(data_fields)
  static = tuple(
    f.name
    for f in dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    if f.name not in data
  )

  def flatten_with_keys(obj):
    children = tuple(
      (jax.tree_util.GetAttrKey(name), getattr(obj, name)) for name in data
    )
    return children, tuple(getattr(obj, name) for name in static)

  def flatten(obj):
    children = tuple(getattr(obj, name) for name in data)
    return children, tuple(getattr(obj, name) for name in static)

  def unflatten(aux, children):
    obj = object.__new__(cls)
    for name, value in (*zip(data, children), *zip(static, aux)):
      object.__setattr__(obj, name, value)
    return obj

  jax.tree_util.register_pytree_with_keys(
    cls, flatten_with_keys, unflatten, flatten
  )

  def to_state(obj):
    return {n: serialization.to_state_dict(getattr(obj, n)) for n in data}

  def from_state(obj, state):
    if set(state) != set(data):
      raise ValueError(
        f"the state of {cls.__name__} must hold {sorted(data)}, got"
        f" {sorted(state)}"
      )
    children = tuple(
      serialization.from_state_dict(getattr(obj, n), state[n], name=n)
      for n in data
    )
    return unflatten(flatten(obj)[1], children)

  # So `flax.serialization` keeps the data of a state that holds one.
  serialization.register_serialization_state(cls, to_state, from_state)
  return cls
