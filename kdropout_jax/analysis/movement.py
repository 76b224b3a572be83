"""How far weights and mean activations have moved, by L2 norm.

The k-dropout paper, section 3.2, last paragraph. For a subnet's own weights,
give what `kd.subnets.extract` takes out before and after.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kdropout_jax import _checks
from kdropout_jax.analysis import _shapes
from kdropout_jax.analysis import connectivity

__all__ = (
  "Movement",
  "of_activations",
  "of_weights",
)


class Movement(NamedTuple):
  """A distance, and the same in units of where it began, float32 scalars.

  Attributes:
    absolute: L2 norm of the difference.
    relative: that, divided by the L2 norm of what was before; NaN where that
      is 0.
  """

  absolute: Float[Array, ""]
  relative: Float[Array, ""]


def of_weights(before: Any, after: Any) -> Movement:
  """Returns the L2 movement over all leaves of a tree.

  Args:
    before: parameters.
    after: parameters of the same structure and shapes.

  Raises:
    ValueError: the trees differ in structure or shape.

  >>> of_weights({"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([3.0, 3.0])})
  Movement(absolute=Array(1., ...), relative=Array(0.2, ...))
  """
  connectivity.check_alike(before, after, ("before", "after"))
  return _movement(
    jax.tree.map(lambda a, b: _float32(b) - _float32(a), before, after), before
  )


def of_activations(
  before: Float[Array, "B F"],
  after: Float[Array, "B F"],
  keep: Bool[Array, "F"] | None = None,
) -> Movement:
  """Returns the L2 movement of the mean activation over rows.

  Args:
    before: [B, F], a layer's activations.
    after: [B, F], those on the same rows later.
    keep: bool [F], the units that count; the default is all.

  Raises:
    ValueError: shapes differ.

  >>> of_activations(jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [3.0]]))
  Movement(absolute=Array(1., ...), relative=Array(1., ...))
  """
  _checks.check_array("before", before, "B F", "number")
  _checks.check_array("after", after, "B F", "number")
  _shapes.check_same(("before", "after"), (before, after))
  start = jnp.mean(_float32(before), axis=0)
  end = jnp.mean(_float32(after), axis=0)
  if keep is not None:
    _checks.check_array("keep", keep, "F", "bool")
    _shapes.check_same(("keep", "units"), (keep, start))
    start, end = (jnp.where(keep, x, 0.0) for x in (start, end))
  return _movement(end - start, start)


def _movement(difference: Any, before: Any) -> Movement:
  moved, size = _norm(difference), _norm(before)
  relative = jnp.where(size > 0, moved / size, jnp.nan)
  return Movement(moved, relative)


def _norm(tree: Any) -> Float[Array, ""]:
  squares = [jnp.sum(_float32(x) ** 2) for x in jax.tree.leaves(tree)]
  return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))


def _float32(x) -> Float[Array, "..."]:
  return jnp.asarray(x).astype(jnp.float32)
