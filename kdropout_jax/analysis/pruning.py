"""Iterative magnitude pruning with rewinding: winning tickets.

Frankle and Carbin 2018, "The Lottery Ticket Hypothesis"; gyro dropout, figure
6, prunes what gyro and conventional dropout have trained. Masks here are
trees of bool like the parameters: True is left.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kdropout_jax import _checks

__all__ = (
  "Ticket",
  "apply",
  "check_fraction",
  "count_left",
  "find_tickets",
  "fraction_left",
  "full_masks",
  "is_matrix",
  "magnitude_masks",
)

Scope = Literal["global", "layer"]

Prunable = Callable[[Any], bool]
"""Whether a parameter loses weights; the default spares vectors (biases)."""


class Ticket(NamedTuple):
  """A pruned network, trained.

  Attributes:
    fraction_left: share of the prunable weights that it has.
    masks: a tree of bool like the parameters.
    params: its trained parameters, zero where pruned.
  """

  fraction_left: float
  masks: Any
  params: Any


def is_matrix(param: Any) -> bool:
  """Returns whether a parameter has two axes or more: a kernel.

  Args:
    param: an array or a number.

  Raises:
    ValueError: neither.

  >>> is_matrix(jnp.zeros((2, 2))), is_matrix(jnp.zeros(2))
  (True, False)
  """
  if not hasattr(param, "ndim"):
    _checks.check_type("param", param, (int, float, complex), "an array")
  return np.ndim(param) >= 2


def full_masks(params: Any) -> Any:
  """Returns masks that leave every weight.

  Args:
    params: a tree of arrays.

  Raises:
    ValueError: no such tree.

  >>> full_masks({"b": jnp.zeros(2)})
  {'b': Array([ True,  True], dtype=bool)}
  """
  _checks.check_tree("params", params)
  return jax.tree.map(lambda x: jnp.ones(jnp.shape(x), jnp.bool_), params)


def apply(tree: Any, masks: Any) -> Any:
  """Returns the tree with pruned entries zero: parameters or gradients.

  Applied to the initial (or an early) network it is the rewinding.

  Args:
    tree: parameters or gradients.
    masks: a tree of bool like it; True is left.

  Raises:
    ValueError: the trees do not fit.

  >>> apply({"w": jnp.ones(2)}, {"w": jnp.array([True, False])})
  {'w': Array([1., 0.], dtype=float32)}
  """
  _check_masks("tree", tree, masks)
  return _apply(tree, masks)


def fraction_left(
  masks: Any, prunable: Prunable = is_matrix
) -> Float[Array, ""]:
  """Returns the share of prunable weights that masks leave.

  Args:
    masks: a tree of bool; True is left.
    prunable: which of its leaves count.

  Raises:
    ValueError: no masks, or none of them counts.

  >>> fraction_left({"w": jnp.array([[True, False]]), "b": jnp.ones(9, bool)})
  Array(0.5, dtype=float32)
  """
  _checks.check_tree("masks", masks, "bool")
  _checks.check_callable("prunable", prunable)
  leaves = [m for m in jax.tree.leaves(masks) if prunable(m)]
  _check_some(leaves, "masks")
  kept = jnp.stack([jnp.sum(m, dtype=jnp.int32) for m in leaves])
  return jnp.sum(kept) / sum(jnp.size(m) for m in leaves)


def magnitude_masks(
  params: Any,
  fraction: float,
  masks: Any = None,
  *,
  scope: Scope = "layer",
  prunable: Prunable = is_matrix,
) -> Any:
  """Returns masks that leave the largest `fraction` of the weights.

  Exactly ``floor(fraction * n + .5)`` of n, at least one; equal magnitudes
  are taken in order. Weights that `masks` prunes stay pruned.

  Args:
    params: trained parameters.
    fraction: share of ALL prunable weights to leave, in (0, 1].
    masks: masks so far; the default leaves all.
    scope: "layer" prunes each parameter by this share, as Frankle and Carbin
      do for small networks; "global" compares all weights, as they do for
      deep ones.
    prunable: which parameters lose weights.

  Returns:
    A tree of bool like `params`.

  Raises:
    ValueError: a wrong fraction or option, or nothing to prune.

  >>> magnitude_masks({"w": jnp.array([[3.0, -4.0, 1.0, 0.0]])}, 0.5)
  {'w': Array([[ True,  True, False, False]], dtype=bool)}
  """
  check_fraction("fraction", fraction)
  _checks.check_option("scope", scope, Scope)
  _checks.check_arrays("params", params)
  _checks.check_callable("prunable", prunable)
  masks = full_masks(params) if masks is None else masks
  _check_masks("params", params, masks)
  leaves, treedef = jax.tree.flatten(params)
  alive = treedef.flatten_up_to(masks)
  chosen = [i for i, leaf in enumerate(leaves) if prunable(leaf)]
  _check_some(chosen)
  sizes = [
    jnp.where(alive[i], jnp.abs(leaves[i]), -1.0).reshape(-1) for i in chosen
  ]
  if scope == "global":
    kept = _largest(jnp.concatenate(sizes), fraction)
    ends = [sum(s.size for s in sizes[: n + 1]) for n in range(len(sizes) - 1)]
    flags = jnp.split(kept, ends)
  else:
    flags = [_largest(s, fraction) for s in sizes]
  for i, flag in zip(chosen, flags):
    alive[i] = flag.reshape(leaves[i].shape) & alive[i]
  return treedef.unflatten(alive)


def find_tickets(
  train: Callable[[Any, Any], Any],
  rewind_to: Any,
  fractions: Sequence[float],
  *,
  scope: Scope = "layer",
  prunable: Prunable = is_matrix,
) -> list[Ticket]:
  """Trains, prunes and rewinds, round after round.

  Args:
    train: ``train(params, masks)`` returns trained parameters; it starts from
      `params` and keeps pruned weights at zero (mask the gradients by
      `apply`, or the parameters after each update).
    rewind_to: the parameters that each round starts from: the initial ones,
      or those of an early epoch for deep networks.
    fractions: share of the weights left after each round, falling, such as
      ``(.45, .2, .1, .05)``.
    scope: as for `magnitude_masks`.
    prunable: as for `magnitude_masks`.

  Returns:
    The unpruned network first, then one ticket a round.

  Raises:
    ValueError: the fractions do not fall.

  >>> same = lambda params, masks: params
  >>> tickets = find_tickets(same, {"w": jnp.ones((2, 2))}, [0.5, 0.25])
  >>> [float(fraction_left(t.masks)) for t in tickets]
  [1.0, 0.5, 0.25]
  """
  _checks.check_callable("train", train)
  _checks.check_arrays("rewind_to", rewind_to)
  if any(leaf.size == 0 for leaf in jax.tree.leaves(rewind_to)):
    raise ValueError("rewind_to must be a tree of arrays with weights in them")
  _checks.check_option("scope", scope, Scope)
  _checks.check_callable("prunable", prunable)
  if not isinstance(fractions, (list, tuple, np.ndarray)):
    raise ValueError(
      f"fractions must be a list of numbers, got {_checks.shown(fractions)}"
    )
  for before, after in zip((1.0, *fractions), fractions):
    check_fraction("fractions", after)
    if after >= before:
      raise ValueError(
        f"fractions must fall from below 1, got {list(fractions)}"
      )
  _check_some(
    [x for x in jax.tree.leaves(rewind_to) if prunable(x)], "rewind_to"
  )
  masks = full_masks(rewind_to)
  tickets = []
  for fraction in (1.0, *fractions):
    if tickets:
      masks = magnitude_masks(
        tickets[-1].params, fraction, masks, scope=scope, prunable=prunable
      )
    trained = train(_apply(rewind_to, masks), masks)
    tickets.append(Ticket(fraction, masks, _apply(trained, masks)))
  return tickets


def count_left(fraction: float, total: int) -> int:
  """Returns how many of `total` a fraction leaves: rounded, at least one.

  Args:
    fraction: share that is left, in (0, 1].
    total: weights.

  Raises:
    ValueError: a wrong fraction or total.

  >>> count_left(0.25, 10), count_left(0.01, 10)
  (3, 1)
  """
  check_fraction("fraction", fraction)
  _checks.check_positive("total", total)
  return max(1, int(fraction * total + 0.5))


def check_fraction(name: str, fraction: float) -> None:
  """Raises a ValueError unless `fraction` is in (0, 1].

  Args:
    name: what the message calls it.
    fraction: a Python number.

  Raises:
    ValueError: it is not.

  >>> check_fraction("rate", 1.0)
  """
  _checks.check_static_number(name, fraction)
  if not 0 < fraction <= 1:
    raise ValueError(f"{name} must be in (0, 1], got {fraction}")


def _largest(sizes: Float[Array, "n"], fraction: float) -> Bool[Array, "n"]:
  order = jnp.argsort(-sizes, stable=True)
  flags = jnp.arange(sizes.size) < count_left(fraction, sizes.size)
  return jnp.zeros(sizes.shape, jnp.bool_).at[order].set(flags)


def _apply(tree: Any, masks: Any) -> Any:
  return jax.tree.map(
    lambda x, m: jnp.where(m, x, 0).astype(x.dtype), tree, masks
  )


def _check_masks(name: str, tree: Any, masks: Any) -> None:
  """Raises a ValueError unless masks are bool and like the tree."""
  _checks.check_arrays(name, tree)
  _checks.check_tree("masks", masks)
  ours, theirs = (
    jax.tree.map(jnp.shape, t, is_leaf=None) for t in (tree, masks)
  )
  if ours != theirs:
    raise ValueError(
      f"masks and {name} must have the same structure and shapes, got {theirs}"
      f" and {ours}"
    )
  _checks.check_tree("masks", masks, "bool")


def _check_some(found: Sequence[Any], name: str = "params") -> None:
  if not found:
    raise ValueError(f"{name} must hold at least one prunable parameter")
