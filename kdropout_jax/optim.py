"""Optax transforms: max-norm, late L1, lazy updates, pruned weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax.subnets import layouts

__all__ = (
  "KeptOnlyState",
  "LateL1State",
  "PrunedState",
  "kept_only",
  "late_l1",
  "max_norm",
  "pruned",
)


def max_norm(
  limit: jax.typing.ArrayLike, axes: int | Sequence[int] | None = None
) -> optax.GradientTransformation:
  """Keeps the norm of each unit's incoming weights at most `limit`.

  Srivastava et al. 2014, "Dropout", section 5.1: after an update, w becomes
  ``w * min(1, limit / |w|)``. Put it last in `optax.chain`: it changes the
  updates so that the updated weights lie within the ball.

  Args:
    limit: largest norm, c in the paper; positive and finite.
    axes: axes over which a unit's weights run; the default is all but the
      last: kernels [I, O] and [H, W, I, O]. Parameters with fewer than two
      axes (biases), or without these axes, are left alone.

  Returns:
    A transformation that needs `params` in its update.

  Raises:
    ValueError: a wrong limit or axes; no params in the update.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> project = kd.optim.max_norm(1.0)
  >>> params = {"kernel": jnp.array([[3.0, 0.1], [4.0, 0.1]])}
  >>> zeros = {"kernel": jnp.zeros((2, 2))}
  >>> updates, _ = project.update(zeros, project.init(params), params)
  >>> new = params["kernel"] + updates["kernel"]
  >>> [round(float(norm), 4) for norm in jnp.linalg.norm(new, axis=0)]
  [1.0, 0.1414]
  """
  _check_limit(limit)
  axes = _check_axes(axes)

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("max_norm needs params: optimizer.update(g, s, params)")

    def leaf(u, p):
      over = tuple(range(p.ndim - 1)) if axes is None else axes
      if p.ndim < 2 or any(not -p.ndim <= axis < p.ndim for axis in over):
        return u
      new = p + u
      scale = _norm_scale(new, over, limit)
      return jnp.where(scale < 1.0, new * scale - p, u)

    return jax.tree.map(leaf, updates, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class LateL1State(NamedTuple):
  """State of `late_l1`.

  Attributes:
    count: int32 [], updates so far.
  """

  count: Any


def late_l1(strength: float, start: int = 0) -> optax.GradientTransformation:
  """Adds the gradient of an L1 penalty on weights, from a step on.

  Srivastava et al. 2014, table 9: L1 applied towards the end of training. The
  penalty is ``strength * sum |w|`` over parameters with two axes or more, as
  those of `max_norm`; biases are left alone. Put it first in `optax.chain`:
  it belongs to the gradient. Its slope at 0 is 0.

  Args:
    strength: of the penalty; not negative, finite.
    start: updates before it sets in.

  Returns:
    A transformation that needs `params` in its update.

  Raises:
    ValueError: a wrong strength or start; no params in the update.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> late = kd.optim.late_l1(0.5, start=1)
  >>> params, zeros = jnp.array([[2.0, -3.0]]), jnp.zeros((1, 2))
  >>> _, state = late.update(zeros, late.init(params), params)
  >>> late.update(zeros, state, params)[0].tolist()
  [[0.5, -0.5]]
  """
  _checks.check_numbers(
    "strength",
    strength,
    lambda v: np.isfinite(v) & (v >= 0),
    "a finite number >= 0",
  )
  _checks.check_integer("start", start, 0)

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("late_l1 needs params: optimizer.update(g, s, params)")
    slope = jnp.where(state.count >= start, strength, 0.0)

    def leaf(u, p):
      return u if p.ndim < 2 else u + (slope * jnp.sign(p)).astype(u.dtype)

    updates = jax.tree.map(leaf, updates, params)
    return updates, LateL1State(optax.safe_increment(state.count))

  return optax.GradientTransformation(
    lambda params: LateL1State(jnp.zeros((), jnp.int32)), update
  )


class KeptOnlyState(NamedTuple):
  """State of `kept_only`.

  Attributes:
    inner: state of the wrapped optimizer.
  """

  inner: Any


def kept_only(
  optimizer: optax.GradientTransformation, layout: layouts.Layout
) -> optax.GradientTransformationExtraArgs:
  """Updates the weights of the subnets at hand; all others rest.

  A lazily-updated variant, NOT the wrapped optimizer: without it momentum and
  decay move dropped weights, too. Here a weight, and its moments, change only
  at steps at which some subnet keeps it; counters of the optimizer count every
  step. It equals extraction with ``dropped_weights="frozen"``.

  Args:
    optimizer: any optax transformation.
    layout: which parameter axes follow which layer.

  Returns:
    A transformation whose update takes ``masks={layer: Masks}``, of any T.

  Raises:
    ValueError: a wrong optimizer or layout; no masks in the update.

  >>> import jax.numpy as jnp, kdropout_jax as kd, optax
  >>> layout = kd.subnets.Layout({"w": {0: "h"}})
  >>> opt = kd.optim.kept_only(optax.sgd(1.0, momentum=0.9), layout)
  >>> masks = {"h": kd.Masks(jnp.array([[True, False]]), 2)}
  >>> params, ones = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
  >>> updates, _ = opt.update(ones, opt.init(params), params, masks=masks)
  >>> updates["w"].tolist()
  [-1.0, 0.0]
  """
  layouts.check_types(optimizer, layout)
  inner = optax.with_extra_args_support(optimizer)

  def init(params):
    return KeptOnlyState(inner.init(params))

  def update(updates, state, params=None, *, masks=None, **extra):
    if masks is None:
      raise ValueError(
        "kept_only needs masks: optimizer.update(g, s, params, masks=masks)"
      )
    new, new_inner = inner.update(updates, state.inner, params, **extra)
    select = _selector(updates, layout, masks)
    zeros = jax.tree.map(jnp.zeros_like, new)
    return select(new, zeros), KeptOnlyState(select(new_inner, state.inner))

  return optax.GradientTransformationExtraArgs(init, update)


class PrunedState(NamedTuple):
  """State of `pruned`.

  Attributes:
    inner: state of the wrapped optimizer.
    masks: a tree of bool like the parameters; True is left.
  """

  inner: Any
  masks: Any


def pruned(
  optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Keeps pruned weights at zero for a whole training.

  Frankle and Carbin 2018, "The Lottery Ticket Hypothesis". Gradients are
  masked before the wrapped optimizer and weights after it, so that neither
  momentum, decay nor a projection revives a weight: the rest trains as a
  network without the pruned weights would. The masks are in the state, so
  that one compiled step serves all rounds of pruning; `init` leaves every
  weight, and ``state._replace(masks=masks)`` prunes.

  Args:
    optimizer: any optax transformation.

  Returns:
    A transformation that needs `params` in its update.

  Raises:
    ValueError: no params in the update.

  >>> import jax.numpy as jnp, kdropout_jax as kd, optax
  >>> opt = kd.optim.pruned(optax.sgd(1.0))
  >>> params, ones = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.ones(2)}
  >>> masks = {"w": jnp.array([True, False])}
  >>> state = opt.init(params)._replace(masks=masks)
  >>> optax.apply_updates(params, opt.update(ones, state, params)[0])["w"]
  Array([2., 0.], dtype=float32)
  """
  layouts.check_optimizer(optimizer)
  inner = optax.with_extra_args_support(optimizer)

  def init(params):
    _checks.check_tree("params", params)
    masks = jax.tree.map(lambda p: jnp.ones(p.shape, jnp.bool_), params)
    return PrunedState(inner.init(params), masks)

  def update(updates, state, params=None, **extra):
    if params is None:
      raise ValueError("pruned needs params: optimizer.update(g, s, params)")
    select = lambda m, a, b: jnp.where(m, a, b).astype(a.dtype)  # noqa: E731
    zeros = jax.tree.map(jnp.zeros_like, updates)
    grads = jax.tree.map(select, state.masks, updates, zeros)
    left = jax.tree.map(select, state.masks, params, zeros)
    new, new_inner = inner.update(grads, state.inner, left, **extra)
    # To zero from wherever the weight is: from zero, in every later step.
    back = jax.tree.map(lambda p: -p, params)
    new = jax.tree.map(select, state.masks, new, back)
    return new, PrunedState(new_inner, state.masks)

  return optax.GradientTransformationExtraArgs(init, update)


def _selector(
  params: Any, layout: layouts.Layout, masks: Mapping[str, blocks.Masks]
) -> Callable[[Any, Any], Any]:
  """Returns a function that takes new leaves where kept, old ones elsewhere."""
  widths = layouts.widths_of(masks)
  layouts.check_params(params, layout)
  layouts.leaf_axes(params, layout, widths)  # layout and masks fit
  owners, owned, _ = layouts.flatten(params)
  axes_of = {tuple(path.split("/")): dict(axes) for path, axes in layout.axes}
  keep = {layer: mask.dense() for layer, mask in masks.items()}
  kept = [
    layouts.selection(jnp.shape(leaf), axes_of[path], keep)
    if path in axes_of
    else None
    for path, leaf in zip(owners, owned)
  ]

  def select(new, old):
    paths, leaves, treedef = layouts.flatten(new)
    old_leaves = jax.tree.leaves(old)
    chosen = []
    for owner, a, b in zip(layouts.mirrored(paths, owners), leaves, old_leaves):
      flags = None if owner is None else kept[owner]
      if flags is not None and jnp.shape(a) == jnp.shape(owned[owner or 0]):
        a = jnp.where(flags, a, b)
      chosen.append(a)
    return treedef.unflatten(chosen)

  return select


def _norm_scale(
  weights, axes: tuple[int, ...], limit: jax.typing.ArrayLike
) -> jax.Array:
  """Returns ``min(1, limit / norm)``; safe at zero, in float32 at least."""
  wide = weights.astype(np.promote_types(weights.dtype, jnp.float32))
  square = jnp.sum(wide * wide, axis=axes, keepdims=True)
  is_over = square > limit * limit
  norm = jnp.sqrt(jnp.where(is_over, square, 1.0))
  return jnp.where(is_over, limit / norm, 1.0).astype(weights.dtype)


def _check_limit(limit) -> None:
  if isinstance(limit, (bool, np.bool_, list, tuple)) or np.ndim(limit):
    raise ValueError(f"limit must be a positive finite number, got {limit!r}")
  _checks.check_numbers(
    "limit",
    limit,
    lambda v: np.isfinite(v) & (v > 0),
    "a positive finite number",
  )


def _check_axes(axes) -> tuple[int, ...] | None:
  if axes is None:
    return None
  is_many = isinstance(axes, (list, tuple))
  axes = tuple(axes) if is_many else (axes,)
  is_integer = lambda a: isinstance(a, (int, np.integer))  # noqa: E731
  if not axes or not all(is_integer(a) and a is not True for a in axes):
    raise ValueError(f"axes must be integers, at least one, got {axes!r}")
  return axes
