"""Registration of frozen dataclasses as pytrees that rebuild unchecked.

`jax.tree_util.register_dataclass` rebuilds through the constructor, so that
`__post_init__` would check placeholders and tracers. Here unflattening sets
the fields directly: a value is checked once, where a user constructs it.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import jax

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
  return cls
