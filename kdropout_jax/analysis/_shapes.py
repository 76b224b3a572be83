"""Checks of the shapes and dtypes that analysis is given."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp


def check_rank(name: str, value: Any, axes: str) -> None:
  """Raises a ValueError unless `value` has one axis a letter of `axes`."""
  if jnp.ndim(value) != len(axes.split()):
    raise ValueError(
      f"{name} must have shape [{', '.join(axes.split())}], got"
      f" {list(jnp.shape(value))}"
    )


def check_floating(name: str, value: Any) -> None:
  """Raises a ValueError unless `value` holds floating-point numbers."""
  dtype = jnp.result_type(value)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f"{name} must be floating point, got {dtype}")


def check_logits(logits: Any, labels: Any, axes: str = "B C") -> None:
  """Raises a ValueError unless logits and integer labels fit each other."""
  check_rank("logits", logits, axes)
  check_floating("logits", logits)
  check_rank("labels", labels, "B")
  if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
    raise ValueError(f"labels must be integers, got {jnp.result_type(labels)}")
  rows = jnp.shape(logits)[-2]
  if jnp.shape(labels)[0] != rows or rows == 0:
    raise ValueError(
      f"labels must have one entry for each of the {rows} rows of logits, and"
      f" at least one, got {jnp.shape(labels)[0]}"
    )


def check_same(names: Sequence[str], values: Sequence[Any]) -> None:
  """Raises a ValueError unless all values have one shape."""
  shapes = [jnp.shape(value) for value in values]
  if len(set(shapes)) > 1:
    raise ValueError(
      f"{' and '.join(names)} must have the same shape, got"
      f" {' and '.join(str(list(shape)) for shape in shapes)}"
    )
