"""Windowed training: k steps of one subnet on the extracted network.

Masks come first, then sizes where they vary in their count, then the trainer;
`WindowTrainer` shows a whole run.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from kdropout_jax import _checks
from kdropout_jax import _pytrees
from kdropout_jax import blocks
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network
from kdropout_jax.subnets import replay
from kdropout_jax.subnets.probing import losses
from kdropout_jax.subnets.probing import optimizers

__all__ = (
  "Window",
  "WindowTrainer",
)

DroppedWeights = Literal["caught_up", "frozen"]


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
  """A window under way: a pytree, so that it can be saved in the middle.

  Attributes:
    params: the full parameters, as they were when the window began.
    opt_state: the full optimizer state of that time.
    small_params: the subnet's parameters, now.
    small_opt_state: the subnet's optimizer state, now.
    tables: {layer: `Table`}.
    num_updates: int32, steps done in this window.
  """

  params: Any
  opt_state: Any
  small_params: Any
  small_opt_state: Any
  tables: dict[str, indexing.Table]
  num_updates: Int[Array, ""]


_pytrees.register(
  Window, tuple(field.name for field in dataclasses.fields(Window))
)


@dataclasses.dataclass(frozen=True)
class WindowTrainer:
  """Trains windows of steps that share one subnet on a small network.

  With "caught_up" it is masked training to rounding errors, for elementwise
  optimizers and clipping by the norm of the raw gradient: while the small
  network trains, dropped weights see zero gradients, which are replayed at the
  window's end. With "frozen", a variant, dropped weights and their state rest
  (`kd.optim.kept_only` is the same in full size).

  Before it come the layout (`kd.subnets.layout`), the masks of all subnets of
  the run (`kd.subnets.sample_masks` of the loss, with all its ids) and, where
  these vary in their count, the sizes (`kd.subnets.max_sizes` of them). Call
  `check` once before training, then `train` for each window with the masks of
  its one subnet; or `begin`, `step` and `end`, its parts. All methods are
  pure: jit them, scan over `step`, and donate what `begin` and `end` are given.

  Args:
    loss_fn: ``loss_fn(params, *args)``, a scalar or, with `has_aux`, a scalar
      and anything; it applies a linen model, or a `kd.subnets.visitable` nnx
      model, to its `args`, as in masked training (ids of subnets among them).
    optimizer: an optax transformation.
    layout: which parameter axes follow which layer.
    dropped_weights: "caught_up" or "frozen".
    sizes: static sizes where masks vary in their count; see `extract`.
    has_aux: whether `loss_fn` returns more than the loss.
    reduce_grads: what is done to gradients first: their mean over devices.

  Raises:
    ValueError: a wrong option.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd, optax
  >>> drop = kd.linen.Dropout(0.5, deterministic=False, name="h")
  >>> def loss_fn(params, x, ids):
  ...   hidden, rngs = x * params["w"], {"subnets": jax.random.key(0)}
  ...   return drop.apply({}, hidden, subnets=ids, rngs=rngs).sum()
  >>> params, x = {"w": jnp.zeros((1, 6))}, jnp.ones((2, 1))
  >>> layout, opt = kd.subnets.Layout({"w": {1: "h"}}), optax.sgd(1.0)
  >>> all_ids = jnp.arange(2)  # two windows of one subnet each
  >>> masks = kd.subnets.sample_masks(loss_fn, params, x, all_ids)
  >>> sizes = kd.subnets.max_sizes(masks)
  >>> trainer = kd.subnets.WindowTrainer(loss_fn, opt, layout, sizes=sizes)
  >>> state, steps = opt.init(params), jnp.stack([x] * 3)
  >>> for i in all_ids:
  ...   own = kd.subnets.sample_masks(loss_fn, params, x, i[None])
  ...   params, state, losses = trainer.train(
  ...     params, state, own, steps, jnp.tile(i, (3, 1)))
  >>> params["w"][0].tolist() == (-12.0 * masks["h"].dense().sum(0)).tolist()
  True
  """

  loss_fn: Callable[..., Any]
  optimizer: optax.GradientTransformation
  layout: layouts.Layout
  dropped_weights: DroppedWeights = "caught_up"
  sizes: Mapping[str, int] | None = None
  has_aux: bool = False
  reduce_grads: Callable[[Any], Any] | None = None

  def __post_init__(self):
    _checks.check_option(
      "dropped_weights", self.dropped_weights, DroppedWeights
    )
    _checks.check_callable("loss_fn", self.loss_fn)
    layouts.check_types(self.optimizer, self.layout)
    if self.sizes is not None:
      _checks.check_type("sizes", self.sizes, Mapping, "{layer: units} or None")
    _checks.check_flag("has_aux", self.has_aux)
    if self.reduce_grads is not None:
      _checks.check_callable("reduce_grads", self.reduce_grads)

  def check(self, params: Any, *args: Any) -> None:
    """Refuses what would not be masked training, decided by numbers.

    Args:
      params: full parameters.
      *args: arguments of the loss, such as those of the first step.

    Raises:
      UnsupportedError: the optimizer's update of a weight depends on others
        ("caught_up" only), or the loss reads dropped weights.
    """
    losses.check_loss(self._scalar_loss, params, self.layout, self.sizes, *args)
    if self.dropped_weights == "caught_up":
      optimizers.check_optimizer(self.optimizer, params, self.layout)

  def sample_masks(self, params: Any, *args: Any) -> dict[str, blocks.Masks]:
    """Returns the masks that the loss applies; as a function.

    Args:
      params: parameters; their shapes count.
      *args: arguments of the loss, ids of subnets among them.
    """
    return network.sample_masks(self.loss_fn, params, *args)

  def begin(
    self, params: Any, opt_state: Any, masks: Mapping[str, blocks.Masks]
  ) -> Window:
    """Extracts the subnet of `masks` (T = 1) at the window's first step.

    Args:
      params: full parameters.
      opt_state: full optimizer state.
      masks: {layer: `Masks`, T = 1} of the window.
    """
    tables = indexing.make_tables(masks, self.sizes)
    return Window(
      params,
      opt_state,
      extraction.take(params, self.layout, tables),
      extraction.take(opt_state, self.layout, tables),
      tables,
      jnp.zeros((), jnp.int32),
    )

  def step(self, window: Window, *args: Any) -> tuple[Window, Any]:
    """Trains the small network for one step.

    Args:
      window: what `begin` or the step before returned.
      *args: arguments of the loss at this step.

    Returns:
      The window, and what `loss_fn` returned.
    """
    with network.small_network(window.tables):
      value, grads = jax.value_and_grad(self.loss_fn, has_aux=self.has_aux)(
        window.small_params, *args
      )
    if self.reduce_grads is not None:
      grads = self.reduce_grads(grads)
    updates, opt_state = self.optimizer.update(
      grads, window.small_opt_state, window.small_params
    )
    window = dataclasses.replace(
      window,
      small_params=optax.apply_updates(window.small_params, updates),
      small_opt_state=opt_state,
      num_updates=window.num_updates + 1,
    )
    return window, value

  def end(self, window: Window) -> tuple[Any, Any]:
    """Returns full parameters and state: catches up, then inserts.

    Args:
      window: the window, after its last step.
    """
    params, opt_state = window.params, window.opt_state
    if self.dropped_weights == "caught_up":
      params, opt_state = replay.catch_up(
        self.optimizer, params, opt_state, self.layout, window.num_updates
      )
    put = extraction.put
    params = put(params, window.small_params, self.layout, window.tables)
    opt_state = put(
      opt_state, window.small_opt_state, self.layout, window.tables
    )
    return params, opt_state

  def train(
    self,
    params: Any,
    opt_state: Any,
    masks: Mapping[str, blocks.Masks],
    *args: Any,
  ) -> tuple[Any, Any, Any]:
    """Trains one whole window.

    Args:
      params: full parameters.
      opt_state: full optimizer state.
      masks: {layer: `Masks`, T = 1} of the window.
      *args: arguments of the loss with a leading axis over the steps.

    Returns:
      Parameters, state, and what `loss_fn` returned at each step.
    """
    window = self.begin(params, opt_state, masks)
    window, values = jax.lax.scan(
      lambda window, step_args: self.step(window, *step_args), window, args
    )
    return *self.end(window), values

  def _scalar_loss(self, params, *args):
    value = self.loss_fn(params, *args)
    return value[0] if self.has_aux else value
