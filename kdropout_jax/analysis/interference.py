"""Interference: do subnets that train side by side pull the same way?

The k-dropout paper, section 3.1, explains the harm of large m at large k by
interference between subnets, and does not measure it. Here it is the cosine
between the gradients of the subnets of one step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdropout_jax import _checks
from kdropout_jax import _shardings

__all__ = (
  "Interference",
  "gradient_cosines",
  "measure",
)


class Interference(NamedTuple):
  """How T gradients get along, float32 scalars.

  Attributes:
    mean_cosine: mean over pairs of two different subnets; NaN for T = 1.
    alignment: norm of the summed gradient over the sum of their norms: 1
      where all point the same way, ``1 / sqrt(T)`` where all are orthogonal
      and equally long, 0 where they cancel.
  """

  mean_cosine: Float[Array, ""]
  alignment: Float[Array, ""]


def gradient_cosines(
  loss_fn: Callable[..., Float[Array, ""]], params: Any, args: Any
) -> Float[Array, "T T"]:
  """Returns the cosine between the gradients of every two subnets.

  Holds all T gradients at once; `measure` needs the memory of one.

  Args:
    loss_fn: ``loss_fn(params, arg)``, the loss of one subnet on its rows.
    params: the parameters that they share.
    args: a tree with a leading axis of T: what tells subnet from subnet, such
      as its id and its rows.

  Returns:
    float32 [T, T]; NaN in the row and column of a gradient that is zero.

  Raises:
    ValueError: no parameters, or arguments without one leading axis of T.

  >>> loss = lambda w, direction: jnp.sum(w * direction)
  >>> args = jnp.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
  >>> gradient_cosines(loss, jnp.zeros(2), args)[0].tolist()
  [1.0, 0.0, -1.0]
  """
  _check(loss_fn, params, args)
  grads = jax.vmap(jax.grad(loss_fn), (None, 0))(params, args)
  flat = [g.reshape(g.shape[0], -1) for g in jax.tree.leaves(grads)]
  products = sum(g.astype(jnp.float32) @ g.astype(jnp.float32).T for g in flat)
  norms = jnp.sqrt(jnp.diagonal(products))
  scale = norms[:, None] * norms[None, :]
  return jnp.where(scale > 0, products / scale, jnp.nan)


def measure(
  loss_fn: Callable[..., Float[Array, ""]], params: Any, args: Any
) -> Interference:
  """Returns the mean cosine and the alignment of T subnets' gradients.

  One subnet after the other, in the memory of one gradient: with unit
  gradients u_i the mean cosine is ``(|sum u_i|^2 - T) / (T (T - 1))``; NaN
  where one of them is zero.

  Args:
    loss_fn: as for `gradient_cosines`.
    params: as for `gradient_cosines`.
    args: as for `gradient_cosines`.

  Raises:
    ValueError: as for `gradient_cosines`.

  >>> loss = lambda w, direction: jnp.sum(w * direction)
  >>> measure(loss, jnp.zeros(2), jnp.array([[1.0, 0.0], [-1.0, 0.0]]))
  Interference(mean_cosine=Array(-1., ...), alignment=Array(0., ...))
  """
  num_subnets = _check(loss_fn, params, args)

  def add(carry, arg):
    total, units, lengths = carry
    grad = jax.grad(loss_fn)(params, arg)
    grad = jax.tree.map(lambda g: g.astype(jnp.float32), grad)
    length = _norm(grad)
    total = jax.tree.map(jnp.add, total, grad)
    units = jax.tree.map(lambda u, g: u + g / length, units, grad)
    return (total, units, lengths + length), None

  zeros = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), params)
  start = (zeros, zeros, jnp.zeros((), jnp.float32))
  (total, units, lengths), _ = _shardings.scan(add, start, args)
  # 0 / 0 for one subnet: there is no pair.
  pairs = jnp.float32(num_subnets * (num_subnets - 1))
  cosine = (_norm(units) ** 2 - num_subnets) / pairs
  cosine = jnp.where(pairs > 0, cosine, jnp.nan)
  return Interference(cosine, _norm(total) / lengths)


def _norm(tree: Any) -> Float[Array, ""]:
  return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))


def _check(loss_fn, params, args) -> int:
  """Returns the number of subnets of checked arguments."""
  _checks.check_callable("loss_fn", loss_fn)
  _checks.check_tree("params", params, "floating")
  if not jax.tree.leaves(params):
    raise ValueError("params must hold at least one array, got none")
  _checks.check_tree("args", args)
  return _num_subnets(args)


def _num_subnets(args: Any) -> int:
  leaves = jax.tree.leaves(args)
  if not leaves or any(jnp.ndim(leaf) == 0 for leaf in leaves):
    raise ValueError(
      "args must be a tree of arrays with a leading axis over subnets, got"
      f" shapes {[jnp.shape(leaf) for leaf in leaves]}"
    )
  sizes = sorted({jnp.shape(leaf)[0] for leaf in leaves})
  if len(sizes) > 1 or sizes == [0]:
    raise ValueError(
      f"leading axes of args must have the same shape, not [0], got {sizes}"
    )
  return sizes[0]
