"""A probe of the optimizer: numbers decide, never names."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import replay

__all__ = ("check_optimizer",)

_SEED = 0  # values of probes decide nothing but whether two ways agree
_MAX_SIZE = 256
_SCALES = (1.0, 1e3)
_TOLERANCE = 1e-10
# (Dense updates, masked ones, by how much gradients turn from one to the next.)
# First zero gradients are the first that a dropped weight sees, as a window
# from the start has them; then gradients agree, as those of training do, which
# estimates of a step size need before they move.
_ALWAYS = ((0, 8, 1.0), (16, 8, 0.0))
_UNTIL_IT_MOVES = ((2, 8, 1.0), (16, 16, 1.0), (128, 128, 1.0))


def check_optimizer(
  optimizer: optax.GradientTransformation,
  params: Any,
  layout: layouts.Layout,
  *,
  side_by_side: bool = False,
) -> None:
  """Refuses an optimizer whose update of a weight depends on other weights.

  In float64, on small arrays of the parameters' structure, every leaf cut
  along the layout's axes: dense updates, then some with zero gradients on the
  dropped part, of the whole against the parts, with weights and gradients at
  scales 1 and 1e3. A single cold update would pass clipping after momentum,
  a warm one what makes NaN of zero gradients in its first state, and gradients
  that turn what estimates a step size from gradients that agree.
  More updates follow where no weight moves (warm-up, averaged gradients).

  Args:
    optimizer: any optax transformation.
    params: parameters; only structure and shapes matter.
    layout: which axes follow which layer.
    side_by_side: whether a second subnet, which has the other units, trains
      in the same steps, each without a look at the other's gradients.

  Raises:
    ValueError: a wrong optimizer or layout, or params without what it names.
    UnsupportedError: whole and parts differ, or no weight ever moves.

  >>> import jax.numpy as jnp, kdropout_jax as kd, optax
  >>> layout = kd.subnets.Layout({"w": {0: "h"}})
  >>> kd.subnets.check_optimizer(optax.sgd(0.1), {"w": jnp.ones(4)}, layout)
  """
  layouts.check_types(optimizer, layout)
  _checks.check_flag("side_by_side", side_by_side)
  layouts.check_params(params, layout)
  with jax.enable_x64(True):
    trees = toy(params, layout)
    compare = jax.jit(
      functools.partial(_compare, optimizer, trees, side_by_side),
      static_argnums=0,
    )
    for weight_scale in _SCALES:
      for grad_scale in _SCALES:
        _check_scale(compare, weight_scale, grad_scale, side_by_side)


def toy(params: Any, layout: layouts.Layout) -> tuple[Any, ...]:
  """Returns weights, two gradients, a layout and tables of a small tree."""
  random = np.random.default_rng(_SEED)
  paths, leaves, treedef = layouts.flatten(params)
  shapes = [
    tuple(min(size, _MAX_SIZE) for size in jnp.shape(leaf)) for leaf in leaves
  ]
  trees = [
    treedef.unflatten([jnp.asarray(random.normal(size=s)) for s in shapes])
    for _ in range(3)
  ]
  axes, masks = {}, {}
  shape_of = {"/".join(path): shape for path, shape in zip(paths, shapes)}
  for path, entries in layout.axes:
    axes[path] = {axis: f"{path}:{axis}" for axis, _ in entries}
    for axis, layer in axes[path].items():
      width = shape_of[path][axis]
      count = max(1, width // 2)
      keep = random.permutation(width) < count
      masks[layer] = blocks.Masks(jnp.asarray(keep)[None], width, 1, count)
  return *trees, layouts.Layout(axes), masks


def _check_scale(
  compare, weight_scale: float, grad_scale: float, side_by_side: bool
) -> None:
  for num_dense, num_masked, turn in (*_ALWAYS, *_UNTIL_IT_MOVES):
    try:
      # One program for one `num_masked`: compiling is what a probe costs.
      movement, difference = compare(
        num_masked, num_dense, turn, weight_scale, grad_scale
      )
    except Exception as error:  # whatever an optimizer says to small arrays
      raise UnsupportedError(
        "the optimizer does not run on a part of the weights, as extraction"
        f" needs: {type(error).__name__}: {error}"
      ) from error
    if not difference <= 1.0 and side_by_side:
      raise UnsupportedError(
        "the optimizer's update of a weight depends on weights of other"
        " subnets, so that subnets cannot train apart (weights at scale"
        f" {weight_scale:g}, gradients at {grad_scale:g}): elementwise"
        " transforms are exact; clipping by a norm is not, whose gradients lie"
        " in all subnets"
      )
    if not difference <= 1.0:
      raise UnsupportedError(
        "the optimizer's update of a weight depends on other weights, so"
        " that training a small network is not masked training (weights at"
        f" scale {weight_scale:g}, gradients at {grad_scale:g}): elementwise"
        " transforms are exact, and clipping by the norm of the raw gradient;"
        " clipping after decay or momentum, trust ratios, factored moments and"
        " projections are not"
      )
    if movement > 0 and turn and num_dense:
      return
  raise UnsupportedError(
    "the optimizer cannot be probed: it moves no weight in its first"
    f" {sum(_UNTIL_IT_MOVES[-1][:2]):g} updates"
  )


def _compare(
  optimizer,
  trees,
  side_by_side,
  num_masked,
  num_dense,
  turn,
  weight_scale,
  grad_scale,
):
  """Returns how far weights moved, and the worst difference / tolerance."""
  params, first, second, layout, masks = trees
  others = {layer: _complement(mask) for layer, mask in masks.items()}
  subnets = [
    (
      functools.partial(extraction.take, layout=layout, tables=tables),
      functools.partial(extraction.put, layout=layout, tables=tables),
    )
    for tables in map(
      indexing.make_tables, [masks, others] if side_by_side else [masks]
    )
  ]

  def dense_grads(i):
    a, b = grad_scale * jnp.cos(turn * i), grad_scale * jnp.sin(turn * i)
    return jax.tree.map(lambda x, y: a * x + b * y, first, second)

  def masked_grads(i):
    found = jax.tree.map(jnp.zeros_like, first)
    for take, put in subnets:
      found = put(found, take(dense_grads(i)))
    return found

  params = jax.tree.map(lambda x: x * weight_scale, params)
  state = jax.tree.map(jnp.asarray, optimizer.init(params))
  begin = train(optimizer, dense_grads, 0, num_dense, (params, state))
  span = num_dense, num_dense + num_masked
  whole = train(optimizer, masked_grads, *span, begin)
  parts = replay.catch_up(optimizer, begin[0], begin[1], layout, num_masked)
  for take, put in subnets:
    small = tuple(take(tree) for tree in begin)
    grads_of = lambda i, take=take: take(dense_grads(i))  # noqa: E731
    small = train(optimizer, grads_of, *span, small)
    parts = tuple(put(full, part) for full, part in zip(parts, small))
  movement = largest(jax.tree.map(jnp.subtract, whole[0], begin[0]))
  return movement, difference(whole, parts, movement)


def _complement(mask: blocks.Masks) -> blocks.Masks:
  assert mask.num_kept is not None
  return blocks.Masks(~mask.keep, mask.width, 1, mask.width - mask.num_kept)


def train(optimizer: Any, grads_of: Any, start: int, stop: int, carry: Any):
  """Runs the updates `start` to `stop` on (params, state)."""

  def update(i, carry):
    return replay.updated(optimizer, grads_of(i), carry)

  return jax.lax.fori_loop(start, stop, update, carry)


def difference(whole: Any, parts: Any, movement: Any):
  """Returns the worst difference over what is allowed of (params, state).

  Weights to 1e-10, or a thousandth of a smaller movement; state alike.
  """
  rounding = 16 * jnp.finfo(jnp.float64).eps * largest(whole[0])
  allowed = jnp.maximum(jnp.minimum(_TOLERANCE, 1e-3 * movement), rounding)
  worst = largest(jax.tree.map(jnp.subtract, whole[0], parts[0])) / allowed
  for a, b in zip(jax.tree.leaves(whole[1]), jax.tree.leaves(parts[1])):
    if jnp.issubdtype(a.dtype, jnp.number):
      a, b = a.astype(jnp.float64), b.astype(jnp.float64)
      allowed = _TOLERANCE * jnp.maximum(1.0, largest(a))
      worst = jnp.maximum(worst, largest(a - b) / allowed)
  return worst


def largest(tree: Any):
  """Returns the largest absolute value of a tree."""
  return jnp.stack(
    [jnp.max(jnp.abs(x), initial=0.0) for x in jax.tree.leaves(tree)]
  ).max()
