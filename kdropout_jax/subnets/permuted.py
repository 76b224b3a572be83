"""Windows of one group of subnets, with units in the order of their parts.

Subnets of `partition` and `balanced` patterns keep unions of a few parts of
each layer. Where a window lasts, its parameters and their moments are put in
the order of the parts once; its masked products then read runs of adjacent
units, without an index. It is masked training at full size: dropped weights
see their zero gradients at every step, and nothing is caught up.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jaxtyping import Array, Int

from kdropout_jax import _checks
from kdropout_jax import _pytrees
from kdropout_jax import blocks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.masks import grouped
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network
from kdropout_jax.subnets import sites
from kdropout_jax.subnets.probing import permutations

__all__ = (
  "PermutedTrainer",
  "PermutedWindow",
)


@dataclasses.dataclass(frozen=True, eq=False)
class PermutedWindow:
  """A window under way: a pytree, so that it can be saved in the middle.

  Attributes:
    params: the parameters, units in the order of their parts.
    opt_state: the optimizer's state, likewise.
    orders: {layer: int32 [W], its units in that order}.
    masks: {layer: `Masks` of the group, in that order}.
  """

  params: Any
  opt_state: Any
  orders: dict[str, Int[Array, "W"]]
  masks: dict[str, blocks.Masks]


_pytrees.register(
  PermutedWindow, tuple(f.name for f in dataclasses.fields(PermutedWindow))
)


@dataclasses.dataclass(frozen=True)
class PermutedTrainer:
  """Trains windows of steps that share one whole group of subnets.

  It is masked training to rounding errors, for a loss and an optimizer that
  do not ask which unit is which: elementwise ones, and those that look at
  norms. Call `check` once before training, then `begin`, `step` for each step
  of the window, and `end`. All methods are pure: jit them, scan over `step`.
  Parameters are moved twice a window: it pays from some ten steps on.

  Args:
    loss_fn: ``loss_fn(params, *args)``, a scalar or, with `has_aux`, a scalar
      and anything; it applies a linen model with `kd.linen.Dropout` to its
      `args`, as in masked training (ids of subnets among them).
    optimizer: an optax transformation.
    layout: which parameter axes follow which layer.
    has_aux: whether `loss_fn` returns more than the loss.
    reduce_grads: what is done to gradients first: their mean over devices.

  Raises:
    ValueError: a wrong option.

  >>> import functools, jax, jax.numpy as jnp, kdropout_jax as kd, optax
  >>> halves = functools.partial(kd.ExactCount, partition=True)
  >>> drop = kd.linen.Dropout(0.5, (), False, pattern=halves, name="h")
  >>> def loss_fn(params, x, ids):
  ...   hidden, rngs = x * params["w"], {"subnets": jax.random.key(0)}
  ...   return drop.apply({}, hidden, subnets=ids, rngs=rngs).sum()
  >>> params, x = {"w": jnp.zeros((1, 6))}, jnp.ones((2, 1))
  >>> layout, opt = kd.subnets.Layout({"w": {1: "h"}}), optax.sgd(1.0)
  >>> ids = jnp.arange(2)  # a window of two subnets
  >>> masks = kd.subnets.sample_masks(loss_fn, params, x, ids)
  >>> trainer = kd.subnets.PermutedTrainer(loss_fn, opt, layout)
  >>> window = trainer.begin(params, opt.init(params), masks)
  >>> window, loss = trainer.step(window, x, ids)
  >>> trainer.end(window)[0]["w"].tolist()
  [[-2.0, -2.0, -2.0, -2.0, -2.0, -2.0]]
  """

  loss_fn: Callable[..., Any]
  optimizer: optax.GradientTransformation
  layout: layouts.Layout
  has_aux: bool = False
  reduce_grads: Callable[[Any], Any] | None = None

  def __post_init__(self):
    _checks.check_callable("loss_fn", self.loss_fn)
    layouts.check_types(self.optimizer, self.layout)
    _checks.check_flag("has_aux", self.has_aux)
    if self.reduce_grads is not None:
      _checks.check_callable("reduce_grads", self.reduce_grads)

  def check(
    self, params: Any, masks: Mapping[str, blocks.Masks], *args: Any
  ) -> None:
    """Refuses what would not be masked training, decided by numbers.

    Args:
      params: full parameters.
      masks: {layer: `Masks` of one whole group}.
      *args: arguments of the loss, such as those of the first step.

    Raises:
      ValueError: parameters, or masks, that are none of the layout's.
      UnsupportedError: masks of another pattern; a loss or an optimizer that
        asks which unit is which.
    """
    check_groups(masks)
    layouts.check_params(params, self.layout)
    permutations.check_optimizer(self.optimizer, params, self.layout)
    window = self.begin(params, (), masks)
    permutations.check_loss(
      lambda params: self._scalar(self.loss_fn(params, *args)),
      lambda params: self._scalar(self._value(window.masks, params, *args)),
      params,
      self.layout,
      window.orders,
    )

  def sample_masks(self, params: Any, *args: Any) -> dict[str, blocks.Masks]:
    """Returns the masks that the loss applies; as a function.

    Args:
      params: parameters; their shapes count.
      *args: arguments of the loss, ids of subnets among them.
    """
    return network.sample_masks(self.loss_fn, params, *args)

  def begin(
    self, params: Any, opt_state: Any, masks: Mapping[str, blocks.Masks]
  ) -> PermutedWindow:
    """Puts units in the order of their parts, at the window's first step.

    Args:
      params: full parameters.
      opt_state: full optimizer state.
      masks: {layer: `Masks` of all subnets of the window}, whose ids are one
        whole group, in order.

    Raises:
      ValueError: parameters, or masks, that are none of the layout's.
      UnsupportedError: masks of another pattern than `partition` or
        `balanced`, or of parts that are not equal.
    """
    check_groups(masks)
    layouts.check_params(params, self.layout)
    orders = {layer: grouped.order_of(mask) for layer, mask in masks.items()}
    there, _ = permutations.tables(orders)
    params, opt_state = (
      extraction.take(tree, self.layout, there) for tree in (params, opt_state)
    )
    ordered = {
      layer: grouped.in_order(mask.design, mask.width, mask.block_size)  # pyright: ignore[reportArgumentType]
      for layer, mask in masks.items()
    }
    return PermutedWindow(params, opt_state, orders, ordered)

  def step(
    self, window: PermutedWindow, *args: Any
  ) -> tuple[PermutedWindow, Any]:
    """Trains one step, masked as the ids among `args` say.

    Args:
      window: what `begin` or the step before returned.
      *args: arguments of the loss at this step.

    Returns:
      The window, and what `loss_fn` returned.

    Raises:
      ValueError: no window of `begin`.
      UnsupportedError: a dropout that would draw masks of its own.
    """
    _check_window(window)
    loss_fn = lambda params: self._value(window.masks, params, *args)  # noqa: E731
    value, grads = jax.value_and_grad(loss_fn, has_aux=self.has_aux)(
      window.params
    )
    if self.reduce_grads is not None:
      grads = self.reduce_grads(grads)
    updates, opt_state = self.optimizer.update(
      grads, window.opt_state, window.params
    )
    params = optax.apply_updates(window.params, updates)
    window = dataclasses.replace(window, params=params, opt_state=opt_state)
    return window, value

  def end(self, window: PermutedWindow) -> tuple[Any, Any]:
    """Returns parameters and state, their units where they were.

    Args:
      window: the window, after its last step.

    Returns:
      (parameters, optimizer state).

    Raises:
      ValueError: no window of `begin`.
    """
    _check_window(window)
    _, back = permutations.tables(window.orders)
    trees = (window.params, window.opt_state)
    params, opt_state = (
      extraction.take(tree, self.layout, back) for tree in trees
    )
    return params, opt_state

  def _value(self, masks, params, *args):
    """Returns the loss under masks, which every dropout must have taken."""
    with sites.feeding(masks) as fed:
      value = self.loss_fn(params, *args)
    missing = sorted(set(masks) - fed)
    if missing:
      raise UnsupportedError(
        f"{missing[0]!r} did not take the masks of its window, as a"
        " kd.linen.Dropout with subnets=ids does: train it masked"
      )
    return value

  def _scalar(self, value):
    return value[0] if self.has_aux else value


def check_groups(masks: Mapping[str, blocks.Masks]) -> None:
  """Refuses masks that are not those of one group of subnets, in equal parts.

  Args:
    masks: {layer: `Masks`}.

  Raises:
    ValueError: something else than masks.
    UnsupportedError: another pattern, a part of a group, or unequal parts.
  """
  count = layouts.num_subnets(masks)
  for layer, mask in masks.items():
    design = mask.design
    if design is None:
      raise UnsupportedError(
        f"subnets of {layer!r} keep no unions of a few parts: give its dropout"
        " a pattern with partition=True or balanced="
      )
    if design.size != count:
      raise UnsupportedError(
        f"a window trains one whole group, which has {design.size} subnets in"
        f" {layer!r}, got {count}"
      )
    size = design.num_parts * mask.block_size
    if mask.width % size:
      raise UnsupportedError(
        f"the {mask.width} units of {layer!r} must be a multiple of {size}:"
        f" {design.num_parts} equal parts of blocks of {mask.block_size}"
      )


def _check_window(window) -> None:
  _checks.check_type("window", window, PermutedWindow, "a PermutedWindow")
