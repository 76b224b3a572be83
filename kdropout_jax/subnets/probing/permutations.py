"""Probes: whether a loss and an optimizer ask which unit is which."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdropout_jax._types import UnsupportedError
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets.probing import losses
from kdropout_jax.subnets.probing import optimizers
from kdropout_jax.subnets.probing import precision

__all__ = ()

_SEED = 0  # of the order: its values decide nothing
_NUM_UPDATES = 4


def check_optimizer(
  optimizer: optax.GradientTransformation, params: Any, layout: layouts.Layout
) -> None:
  """Refuses an optimizer that asks where in a layer a unit stands.

  In float64, on small arrays of the parameters' structure: updates, then more
  with all units in another order, and the units put back, against the same
  updates without.

  Args:
    optimizer: an optax transformation.
    params: parameters; only structure and shapes matter.
    layout: which axes follow which layer.

  Raises:
    UnsupportedError: the two differ.
  """
  with jax.enable_x64(True):
    *trees, toy_layout, masks = optimizers.toy(params, layout)
    random = np.random.default_rng(_SEED)
    orders = {
      layer: jnp.asarray(random.permutation(mask.width), jnp.int32)
      for layer, mask in masks.items()
    }
    difference = float(
      jax.jit(
        lambda trees, orders: _moved(optimizer, trees, toy_layout, orders)
      )(trees, orders)
    )
  if not difference <= 1.0:
    raise UnsupportedError(
      "the optimizer's update of a weight depends on where its units stand in"
      " their layers, so that training with units in another order is not"
      " masked training"
    )


def check_loss(
  masked: Callable[[Any], Any],
  permuted: Callable[[Any], Any],
  params: Any,
  layout: layouts.Layout,
  orders: Any,
) -> None:
  """Refuses a loss that asks where in a layer a unit stands.

  Args:
    masked: from parameters to the loss of masked training.
    permuted: the same from parameters with units in another order.
    params: full parameters; they are shaken, so that zeros hide nothing.
    layout: which axes follow which layer.
    orders: {layer: int32 [W], units in that order}.

  Raises:
    UnsupportedError: the gradients differ.
  """
  params = precision.widened(losses.shaken(params), jnp.float32)

  def probe(params, orders):
    there, back = tables(orders)
    with precision.linen_dtype(jnp.float32):
      expected = jax.grad(masked)(params)
      found = jax.grad(permuted)(extraction.take(params, layout, there))
    return precision.difference(expected, extraction.take(found, layout, back))

  difference = jax.jit(probe)(params, orders)
  digits = jnp.finfo(precision.coarsest(probe, params, orders)).eps
  if not difference <= min(0.25, 20 * float(digits) ** 0.5):
    raise UnsupportedError(
      "the gradient with units in the order of their parts is not the masked"
      f" one's (relative difference {float(difference):.2g}): the layout does"
      " not describe the model, or some layer mixes units, or inputs are"
      " dropped, whose order is the data's"
    )


def tables(orders: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns what moves the units of each layer into an order, and back."""
  return tuple(  # pyright: ignore[reportReturnType]
    {layer: indexing.all_of(turn(order)) for layer, order in orders.items()}
    for turn in (lambda order: order, jnp.argsort)
  )


def _moved(optimizer, trees, layout, orders):
  """Returns the difference over what is allowed, as the other probe has it."""
  params, first, second = trees
  there, back = tables(orders)

  def grads(i):
    a, b = jnp.cos(1.0 * i), jnp.sin(1.0 * i)
    return jax.tree.map(lambda x, y: a * x + b * y, first, second)

  span = _NUM_UPDATES, 2 * _NUM_UPDATES
  begin = (params, jax.tree.map(jnp.asarray, optimizer.init(params)))
  begin = optimizers.train(optimizer, grads, 0, span[0], begin)
  whole = optimizers.train(optimizer, grads, *span, begin)
  moved = optimizers.train(
    optimizer,
    lambda i: extraction.take(grads(i), layout, there),
    *span,
    tuple(extraction.take(tree, layout, there) for tree in begin),
  )
  moved = tuple(extraction.take(tree, layout, back) for tree in moved)
  movement = optimizers.largest(jax.tree.map(jnp.subtract, whole[0], begin[0]))
  return optimizers.difference(whole, moved, movement)
