"""Checks of the shapes and dtypes that analysis is given."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kdropout_jax import _checks


def check_rank(name: str, value: Any, axes: str) -> None:
  """Raises a ValueError unless `value` has one axis a letter of `axes`."""
  _checks.check_array(name, value, axes)


def check_floating(name: str, value: Any) -> None:
  """Raises a ValueError unless `value` holds floating-point numbers."""
  _checks.check_array(name, value, kind="floating")


def check_logits(logits: Any, labels: Any, axes: str = "B C") -> None:
  """Raises a ValueError unless logits and integer labels fit each other."""
  check_rank("logits", logits, axes)
  check_floating("logits", logits)
  _checks.check_array("labels", labels, "B", "integer")
  rows, classes = jnp.shape(logits)[-2:]
  if classes == 0:
    raise ValueError("logits must have at least one class, got [..., 0]")
  if jnp.shape(labels)[0] != rows or rows == 0:
    raise ValueError(
      f"labels must have one entry for each of the {rows} rows of logits, and"
      f" at least one, got {jnp.shape(labels)[0]}"
    )
  if _checks.is_concrete(labels):
    values = np.asarray(labels)
    if values.min() < 0 or values.max() >= classes:
      raise ValueError(
        f"labels must be in [0, {classes}), the classes of logits, got"
        f" {values.min()} to {values.max()}"
      )


def check_same(names: Sequence[str], values: Sequence[Any]) -> None:
  """Raises a ValueError unless all values have one shape."""
  for name, value in zip(names, values):
    _checks.check_array(name, value)
  shapes = [jnp.shape(value) for value in values]
  if len(set(shapes)) > 1:
    raise ValueError(
      f"{' and '.join(names)} must have the same shape, got"
      f" {' and '.join(str(list(shape)) for shape in shapes)}"
    )
