"""Linear mode connectivity: loss along the line between two networks.

The k-dropout paper, section 3.2, last paragraph, proposes it for an early
subnet right after its window and the same subnet later, after Frankle et al.
2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis".
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdropout_jax import _checks
from kdropout_jax.analysis import _shapes

__all__ = (
  "along_line",
  "barrier",
  "check_alike",
  "interpolate",
)

Baseline = Literal["line", "mean"]


def interpolate(start: Any, end: Any, alpha: Float[Array, ""] | float) -> Any:
  """Returns ``(1 - alpha) * start + alpha * end``, leaf by leaf.

  Exactly `start` at alpha = 0 and `end` at alpha = 1, for finite leaves.
  Integer leaves (counters) are taken from `start`.

  Args:
    start: parameters.
    end: parameters of the same structure and shapes.
    alpha: position on the line; may be traced.

  Raises:
    ValueError: the trees differ in structure or shape.

  >>> interpolate({"w": jnp.array([0.0])}, {"w": jnp.array([4.0])}, 0.25)
  {'w': Array([1.], dtype=float32)}
  """
  check_alike(start, end)
  _check_number("alpha", alpha)

  def between(a, b):
    if not jnp.issubdtype(jnp.result_type(a), jnp.inexact):
      return a
    weight = jnp.asarray(alpha, jnp.result_type(a))
    return (1 - weight) * a + weight * b

  return jax.tree.map(between, start, end)


def along_line(
  fn: Callable[[Any], Any], start: Any, end: Any, alphas: Float[Array, "n"]
) -> Any:
  """Returns what `fn` gives at each point of the line, stacked.

  Point by point, so that memory is that of one network.

  Args:
    fn: function of parameters, such as loss and accuracy on a fixed set.
    start: parameters.
    end: parameters.
    alphas: float [n], positions.

  Returns:
    What `fn` returns, each leaf with a leading axis of n.

  Raises:
    ValueError: trees that differ in structure or shapes, or no numbers.

  >>> alphas = jnp.array([0.0, 0.5, 1.0])
  >>> along_line(jnp.sum, jnp.array([0.0]), jnp.array([2.0]), alphas).tolist()
  [0.0, 1.0, 2.0]
  """
  _checks.check_callable("fn", fn)
  check_alike(start, end)
  alphas = _as_numbers("alphas", alphas)
  return jax.lax.map(lambda a: fn(interpolate(start, end, a)), alphas)


def barrier(
  values: Float[Array, "n"],
  alphas: Float[Array, "n"],
  baseline: Baseline = "line",
) -> Float[Array, ""]:
  """Returns how far `values` rise above their ends on the way.

  For accuracy, give errors, ``1 - accuracy``. The ends themselves belong to
  the line, so with "line" a barrier is never negative: 0 says connected.

  Args:
    values: float [n], losses or errors; the first is at alpha = 0, the last
      at alpha = 1.
    alphas: float [n], ascending from 0 to 1.
    baseline: "line" subtracts the straight line between the ends' values
      (Entezari et al. 2021), under which a mere change of value is no
      barrier; "mean" subtracts their mean (Frankle et al. 2020).

  Raises:
    ValueError: shapes differ, or an option is wrong.

  >>> barrier(jnp.array([1.0, 4.0, 3.0]), jnp.array([0.0, 0.5, 1.0])).tolist()
  2.0
  """
  _checks.check_option("baseline", baseline, Baseline)
  values, alphas = _as_numbers("values", values), _as_numbers("alphas", alphas)
  _shapes.check_same(("values", "alphas"), (values, alphas))
  if baseline == "mean":
    level = (values[0] + values[-1]) / 2
    return jnp.max(values) - level
  line = (1 - alphas) * values[0] + alphas * values[-1]
  return jnp.max(values - line)


def check_alike(
  start: Any, end: Any, names: tuple[str, str] = ("start", "end")
) -> None:
  """Raises a ValueError unless two trees have one structure and shapes.

  Args:
    start: a tree of arrays.
    end: another one.
    names: what the message calls them.

  Raises:
    ValueError: they have not.

  >>> check_alike({"w": jnp.zeros(2)}, {"w": jnp.ones(2)})
  """
  if not isinstance(names, tuple) or [type(n) for n in names] != [str, str]:
    raise ValueError(f"names must be two texts, got {_checks.shown(names)}")
  first, second = names
  _checks.check_tree(first, start)
  _checks.check_tree(second, end)
  ours, theirs = jax.tree.structure(start), jax.tree.structure(end)
  if ours != theirs:
    raise ValueError(
      f"{first} and {second} must have the same structure, got {ours} and"
      f" {theirs}"
    )
  for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(end)):
    if jnp.shape(a) != jnp.shape(b):
      raise ValueError(
        f"leaves of {first} and of {second} must have the same shape, got"
        f" {list(jnp.shape(a))} and {list(jnp.shape(b))}"
      )


def _check_number(name: str, value) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    _checks.check_array(name, value, "", "number")


def _as_numbers(name: str, values) -> Float[Array, "n"]:
  """Returns numbers [n], at least one, as an array."""
  if isinstance(values, (list, tuple)):
    for value in values:
      _check_number(f"{name}' elements", value)
    values = jnp.asarray(values)
  _checks.check_array(name, values, "n", "number")
  if not values.size:
    raise ValueError(f"{name} must hold at least one number, got none")
  return jnp.asarray(values)
