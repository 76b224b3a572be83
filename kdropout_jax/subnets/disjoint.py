"""Windows of P subnets that share no unit, each trained as a small network.

No weight between dropped-out layers belongs to two of them, so that k steps
need neither masks nor an exchange of their gradients. What no mask cuts (the
last layer's bias, scales of a normalisation) belongs to all.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdropout_jax import _checks
from kdropout_jax import _pytrees
from kdropout_jax import blocks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import gradients
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import replay
from kdropout_jax.subnets import window as window_lib

__all__ = (
  "DisjointTrainer",
  "DisjointWindow",
  "Exchange",
  "check_disjoint",
)

SharedParameters = Literal["each_step", "window_end"]


@dataclasses.dataclass(frozen=True)
class Exchange:
  """What the devices of a run tell each other; by default there is one.

  Subnets lie on the devices in their order: several a device, or several
  devices a subnet, whose rows they share out.

  Attributes:
    num_subnets: P, of all devices.
    num_local: subnets of this device.
    first: number of its first subnet.
    mean: the mean over all devices.
    mean_of_subnet: the mean over the devices of one subnet.
    gather: from [num_local, ...] to [P, ...].

  Raises:
    ValueError: a count that is none, or a function that is none.

  >>> import kdropout_jax as kd
  >>> kd.subnets.Exchange(num_subnets=2, num_local=2).first
  0
  """

  num_subnets: int
  num_local: int
  first: Any = 0
  mean: Callable[[Any], Any] = lambda tree: tree
  mean_of_subnet: Callable[[Any], Any] = lambda tree: tree
  gather: Callable[[Any], Any] = lambda tree: tree

  def __post_init__(self):
    _checks.check_int32("num_subnets", self.num_subnets)
    _checks.check_int32("num_local", self.num_local)
    if self.num_local > self.num_subnets:
      raise ValueError(
        f"num_local must be <= num_subnets={self.num_subnets}, got"
        f" {self.num_local}"
      )
    if isinstance(self.first, (int, np.integer)):
      _checks.check_integer("first", int(self.first), 0)
      if self.first > self.num_subnets - self.num_local:
        raise ValueError(
          f"first must be <= {self.num_subnets - self.num_local}, so that"
          f" num_local={self.num_local} subnets follow, got {self.first}"
        )
    else:
      _checks.check_array("first", self.first, "", "integer")
    for name in ("mean", "mean_of_subnet", "gather"):
      _checks.check_callable(name, getattr(self, name))


@dataclasses.dataclass(frozen=True, eq=False)
class DisjointWindow(window_lib.Window):
  """A `Window` of one device's subnets, over which cut leaves have an axis.

  Attributes:
    all_tables: {layer: `Table` of all subnets}; `tables` are this device's.
  """

  all_tables: dict[str, indexing.Table]


_pytrees.register(
  DisjointWindow, tuple(f.name for f in dataclasses.fields(DisjointWindow))
)


@dataclasses.dataclass(frozen=True)
class DisjointTrainer:
  """Trains windows of steps whose subnets partition each dropped-out layer.

  With "each_step" it is masked training to rounding errors, for elementwise
  optimizers. With "window_end", a variant, each subnet trains its own copy of
  the parameters that no mask cuts, and the copies (and their state) are
  averaged at the window's end: nothing is exchanged within the window.

  Args:
    loss_fn: ``loss_fn(params, *rows)``, the losses of any number of rows and a
      tree of arrays beside them, as for `value_and_grad` with `has_aux`.
    optimizer: an optax transformation.
    layout: which parameter axes follow which layer.
    exchange: the devices.
    dropped_weights: "caught_up" or "frozen", as for `WindowTrainer`.
    shared_parameters: "each_step" or "window_end".
    sizes: static sizes where parts are unequal; see `extract`.

  Raises:
    ValueError: a wrong option.
  """

  loss_fn: Callable[..., Any]
  optimizer: optax.GradientTransformation
  layout: layouts.Layout
  exchange: Exchange
  dropped_weights: window_lib.DroppedWeights = "caught_up"
  shared_parameters: SharedParameters = "each_step"
  sizes: Mapping[str, int] | None = None

  def __post_init__(self):
    _checks.check_callable("loss_fn", self.loss_fn)
    layouts.check_types(self.optimizer, self.layout)
    _checks.check_type("exchange", self.exchange, Exchange, "an Exchange")
    if self.sizes is not None:
      _checks.check_type("sizes", self.sizes, Mapping, "{layer: units} or None")
    for name, options in (
      ("dropped_weights", window_lib.DroppedWeights),
      ("shared_parameters", SharedParameters),
    ):
      _checks.check_option(name, getattr(self, name), options)

  def begin(
    self, params: Any, opt_state: Any, masks: Mapping[str, blocks.Masks]
  ) -> DisjointWindow:
    """Takes this device's subnets out at the window's first step.

    Args:
      params: full parameters.
      opt_state: full optimizer state.
      masks: {layer: `Masks` of all P subnets}, whose ids are one whole group.

    Returns:
      The window, before its first step.

    Raises:
      ValueError: parameters, or masks, that are none of the layout's.
      UnsupportedError: a layer whose subnets may share units.
    """
    layouts.check_params(params, self.layout)
    check_disjoint(masks, self.exchange.num_subnets)
    tables = indexing.make_tables(masks, self.sizes)
    count = self.exchange.num_local
    own = self.exchange.first + jnp.arange(count, dtype=jnp.int32)
    local = {layer: table.take(own) for layer, table in tables.items()}
    return DisjointWindow(
      params,
      opt_state,
      self._take(params, local),
      self._take(opt_state, local),
      local,
      jnp.zeros((), jnp.int32),
      tables,
    )

  def step(
    self, window: DisjointWindow, *rows: Any
  ) -> tuple[DisjointWindow, Any]:
    """Trains this device's small networks for one step.

    Args:
      window: the window.
      *rows: arrays [num_local, R, ...], the rows of each subnet.

    Returns:
      The window; this device's losses and what came beside, [num_local, R].

    Raises:
      ValueError: no window of `begin`, or rows that are none of its subnets'.
    """
    _check_window(window)
    for array in jax.tree.leaves(rows):
      if jnp.ndim(array) < 2 or jnp.shape(array)[0] != self.exchange.num_local:
        raise ValueError(
          f"rows must be arrays [{self.exchange.num_local}, R, ...], got"
          f" {_checks.shown(array)}"
        )
    mapped = self._mapped(window.params, window.tables)

    def total(small):
      losses, aux = gradients.run_groups(
        self.loss_fn, window.tables, small, mapped, rows
      )
      return jnp.mean(losses), (losses, aux)

    grads, values = jax.grad(total, has_aux=True)(window.small_params)
    grads = self._reduce(grads, self._cut(window.params, window.tables))
    state_mapped = self._mapped(window.opt_state, window.tables)

    def update(grads, state, params):
      updates, state = self.optimizer.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    params, opt_state = jax.vmap(
      update, (mapped, state_mapped, mapped), (mapped, state_mapped)
    )(grads, window.small_opt_state, window.small_params)
    window = dataclasses.replace(
      window,
      small_params=params,
      small_opt_state=opt_state,
      num_updates=window.num_updates + 1,
    )
    return window, values

  def end(self, window: DisjointWindow) -> tuple[Any, Any]:
    """Returns full parameters and state, the same on every device.

    Args:
      window: the window, after its last step.

    Returns:
      (parameters, optimizer state).

    Raises:
      ValueError: no window of `begin`.
    """
    _check_window(window)
    full = window.params, window.opt_state
    if self.dropped_weights == "caught_up":
      full = replay.catch_up(
        self.optimizer, *full, self.layout, window.num_updates
      )
    small = window.small_params, window.small_opt_state
    tables = window.all_tables
    params, opt_state = (
      extraction.put_groups(
        tree, self._gather(part, tree, tables), self.layout, tables
      )
      for tree, part in zip(full, small)
    )
    return params, opt_state

  def _take(self, tree, tables):
    """Returns a tree's subnets, and own copies of what is averaged later."""
    small, _ = extraction.take_groups(tree, self.layout, tables)
    if self.shared_parameters == "each_step":
      return small
    count = self.exchange.num_local
    return jax.tree.map(
      lambda x, is_cut: x if is_cut else jnp.stack([x] * count),
      small,
      self._cut(tree, tables),
    )

  def _cut(self, tree, tables):
    """Returns a tree of whether a full leaf has an axis that is cut."""
    return extraction.followed(tree, self.layout, tables)

  def _mapped(self, tree, tables):
    """Returns 0 for leaves with an axis over the subnets, None for others."""
    own = self.shared_parameters == "window_end"
    return jax.tree.map(
      lambda is_cut: 0 if is_cut or own else None, self._cut(tree, tables)
    )

  def _reduce(self, grads, cut):
    """Returns the gradients of the mean loss of all rows."""
    there, count = self.exchange, self.exchange.num_local
    own = self.shared_parameters == "window_end"

    def reduce(grad, is_cut):
      if not is_cut and not own:
        return there.mean(grad)
      # Of the mean over this device's subnets, to the mean over all; an own
      # copy takes its subnet's mean for everybody's.
      scale = count / there.num_subnets if is_cut else count
      return there.mean_of_subnet(grad) * scale

    return jax.tree.map(reduce, grads, cut)

  def _gather(self, small, full, tables):
    """Returns the small leaves of all subnets, and one copy of the others."""
    own = self.shared_parameters == "window_end"

    def gather(x, is_cut):
      if is_cut:
        return self.exchange.gather(x)
      if not own:
        return x
      if not jnp.issubdtype(x.dtype, jnp.inexact):
        return x[0]
      return self.exchange.mean(jnp.mean(x, axis=0))

    return jax.tree.map(gather, small, self._cut(full, tables))


def check_disjoint(masks: Mapping[str, blocks.Masks], num_subnets: int) -> None:
  """Refuses masks of subnets that may share a unit.

  Args:
    masks: {layer: `Masks` of P subnets}.
    num_subnets: P, of the whole group.

  Raises:
    ValueError: something else than masks, or no count.
    UnsupportedError: a pattern without ``partition=True``, or parts that are
      not P.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> halves = kd.ExactCount(0.5, partition=True)
  >>> ids = jnp.arange(2, dtype=jnp.uint32)
  >>> masks = kd.subnet_masks(jax.random.key(0), ids, 8, halves)
  >>> kd.subnets.check_disjoint({"hidden": masks}, 2)
  """
  blocks.check_layers(masks)
  _checks.check_int32("num_subnets", num_subnets)
  for layer, mask in masks.items():
    design = mask.design
    if design is None or design.size != design.parts:
      raise UnsupportedError(
        f"subnets of {layer!r} may share units, so that they cannot train"
        " apart: give its dropout a pattern with partition=True"
      )
    if design.parts != num_subnets:
      raise UnsupportedError(
        f"subnets of {layer!r} partition its units in {design.parts}, but"
        f" {num_subnets} train side by side: the rate of every layer must be"
        f" 1 - 1/{num_subnets}"
      )


def _check_window(window) -> None:
  _checks.check_type("window", window, DisjointWindow, "a DisjointWindow")
