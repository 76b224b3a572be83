"""Gradients of masked training, by T small networks side by side.

The rows of a step are cut into the groups of its T subnets; each group runs
the physically small network of its subnet, small from input to output. So no
activation is gathered and no product is masked: a step gathers each parameter
once before, and each gradient once after.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax.subnets import extraction
from kdropout_jax.subnets import indexing
from kdropout_jax.subnets import layouts
from kdropout_jax.subnets import network

__all__ = ("value_and_grad",)


def value_and_grad(
  loss_fn: Callable[..., Any],
  layout: layouts.Layout,
  *,
  has_aux: bool = False,
  row_layout: functional.RowLayout = "contiguous",
  sizes: indexing.Sizes | None = None,
) -> Callable[..., tuple[Any, Any]]:
  """Returns a function like `jax.value_and_grad` of masked training's loss.

  It gives the same value and the same full-size gradients, zero where every
  subnet drops, so that any optimizer may follow: clipping, decay, trust ratios
  and projections see what they see in masked training. The work is that of T
  small networks. Call it inside the jitted step; masks are traced, sizes are
  static.

  Args:
    loss_fn: ``loss_fn(params, *rows)`` applies a linen model, or a
      `kd.subnets.visitable` nnx model, to any number of rows, and returns the
      losses of the rows, float [R]; with `has_aux` also a tree of arrays with
      a leading axis over the rows. It says nothing of subnets or masks: its
      dropouts scale as in training, whatever they are told.
    layout: which parameter axes follow which layer.
    has_aux: whether `loss_fn` returns more than losses.
    row_layout: which rows train which subnet, as for `kd.dropout`. Groups may
      differ by a row.
    sizes: static sizes where masks vary in their count; see `extract`.

  Returns:
    ``fn(params, masks, *rows)``, where masks are {layer: `Masks` of the T
    subnets} and rows are arrays (or trees of them) with a leading axis B. It
    returns the mean of the losses, with `has_aux` a pair of it and the rest,
    [B, ...], and the gradients.

  Raises:
    ValueError: a wrong option; in the call, masks, rows, layout and parameters
      that do not fit each other.
    UnsupportedError: in the call, masks that vary in their count without
      `sizes`, or that keep nothing.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> layout = kd.subnets.Layout({"w": {0: "h"}})
  >>> drop = kd.linen.Dropout(0.5, name="h")
  >>> def losses(params, x):
  ...   return drop.apply({}, x[:, None] * params["w"][None], True).sum(1)
  >>> masks = {"h": kd.Masks(jnp.eye(2, dtype=bool), 2, num_kept=1)}
  >>> step = kd.subnets.value_and_grad(losses, layout)
  >>> value, grads = step({"w": jnp.ones(2)}, masks, jnp.array([1.0, 3.0]))
  >>> float(value), grads["w"].tolist()
  (4.0, [1.0, 3.0])
  """
  _checks.check_option("row_layout", row_layout, functional.RowLayout)
  _checks.check_callable("loss_fn", loss_fn)
  _checks.check_flag("has_aux", has_aux)
  layouts.check_layout(layout)

  def run(params: Any, masks: Mapping[str, blocks.Masks], *rows: Any):
    if _num_rows(rows) == 0:
      return _of_no_rows(run, params, masks, rows, has_aux)
    groups = _Groups.of(rows, masks, row_layout)
    tables = groups.used(indexing.make_tables(masks, sizes))
    small, mapped = extraction.take_groups(params, layout, tables)

    def total(small):
      found = run_groups(loss_fn, tables, small, mapped, groups.split(rows))
      losses, aux = found if has_aux else (found, ())
      _check_losses(losses, groups)
      return groups.mean(losses), jax.tree.map(groups.merge, aux)

    (value, aux), grads = jax.value_and_grad(total, has_aux=True)(small)
    grads = extraction.sum_groups(params, grads, layout, tables)
    return ((value, aux) if has_aux else value), grads

  return run


def _of_no_rows(run, params, masks, rows, has_aux):
  """Returns what masked training gives of no rows: no mean, zeros."""
  each = (layouts.num_subnets(masks),)
  some = jax.tree.map(lambda x: jnp.zeros(each + x.shape[1:], x.dtype), rows)
  found, grads = jax.eval_shape(run, params, masks, *some)
  value, aux = found if has_aux else (found, ())
  value = jnp.full(value.shape, jnp.nan, value.dtype)
  aux = jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), aux)
  grads = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), grads)
  return ((value, aux) if has_aux else value), grads


def run_groups(loss_fn, tables, small, mapped, rows):
  """Runs every group on its small network; returns results [T, R, ...]."""
  count = next(iter(tables.values())).num_subnets

  def one(slot_tables, small, rows):
    with network.small_network(
      {
        # The scale of training may count the masks of all subnets.
        layer: dataclasses.replace(table, masks=tables[layer].masks)
        for layer, table in slot_tables.items()
      }
    ):
      return loss_fn(small, *rows)

  if count == 1:
    first = lambda x, axis: x if axis is None else x[0]  # noqa: E731
    small = jax.tree.map(
      first, small, mapped, is_leaf=lambda leaf: leaf is None
    )
    found = one(tables, small, jax.tree.map(lambda x: x[0], rows))
    return jax.tree.map(lambda x: x[None], found)
  parts = {
    layer: jax.tree.map(
      lambda x: x[:, None],
      dataclasses.replace(table, masks=None),  # pyright: ignore[reportArgumentType]
    )
    for layer, table in tables.items()
  }
  return jax.vmap(one, (0, mapped, 0))(parts, small, rows)


@dataclasses.dataclass(frozen=True)
class _Groups:
  """Which rows train which subnet.

  Attributes:
    row_of: int32 [T, R], the rows of each group; filled up where a group has
      fewer, with rows that it has.
    is_real: bool [T, R], False for what was filled up.
    slots: int32 [T], the subnets that have rows.
    is_even: whether the groups are equal and in the order of the rows, or
      tiled.
    row_layout: "contiguous" or "tiled".
  """

  row_of: np.ndarray
  is_real: np.ndarray
  slots: np.ndarray
  is_even: bool
  row_layout: functional.RowLayout

  @classmethod
  def of(cls, rows, masks, row_layout) -> "_Groups":
    """Returns the groups of a step's rows."""
    num_rows = _num_rows(rows)
    num_subnets = layouts.num_subnets(masks)
    if row_layout == "tiled":
      slot_of = np.arange(num_rows, dtype=np.int32) % num_subnets
    else:
      slot_of = blocks.row_slots(num_rows, num_subnets)
    slots = np.unique(slot_of)
    members = [np.flatnonzero(slot_of == slot) for slot in slots]
    size = max(len(rows) for rows in members)
    row_of = np.stack([np.resize(rows, size) for rows in members])
    is_real = np.stack([np.arange(size) < len(rows) for rows in members])
    is_even = bool(is_real.all())
    return cls(row_of.astype(np.int32), is_real, slots, is_even, row_layout)

  def used(self, tables: dict[str, indexing.Table]):
    """Returns the tables of the subnets that have rows."""
    if all(t.num_subnets == len(self.slots) for t in tables.values()):
      return tables
    return {layer: table.take(self.slots) for layer, table in tables.items()}

  def split(self, rows: Any) -> Any:
    """Returns rows [T, R, ...] from rows [B, ...]."""
    count, size = self.row_of.shape

    def split(x):
      if not self.is_even:
        return jnp.take(x, self.row_of, axis=0)
      if self.row_layout == "tiled":
        return jnp.swapaxes(x.reshape(size, count, *x.shape[1:]), 0, 1)
      return x.reshape(count, size, *x.shape[1:])

    return jax.tree.map(split, rows)

  def merge(self, x: Any) -> Any:
    """Undoes `split`."""
    flat = x.reshape(-1, *x.shape[2:])
    order = np.argsort(self.row_of[self.is_real], kind="stable")
    return jnp.take(flat, np.flatnonzero(self.is_real)[order], axis=0)

  def mean(self, losses: Any) -> Any:
    """Returns the mean over the rows of losses [T, R]."""
    if self.is_even:
      return jnp.mean(losses)
    zero = jnp.zeros((), losses.dtype)
    return jnp.sum(jnp.where(self.is_real, losses, zero)) / self.is_real.sum()


def _num_rows(rows) -> int:
  counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(rows)}
  if len(counts) != 1 or () in counts:
    raise ValueError(
      "rows must be arrays with one leading axis B, got shapes"
      f" {[jnp.shape(leaf) for leaf in jax.tree.leaves(rows)]}"
    )
  return next(iter(counts))[0]


def _check_losses(losses, groups: _Groups) -> None:
  if jnp.shape(losses) != groups.row_of.shape:
    raise ValueError(
      "loss_fn must return the loss of each row, [R] for"
      f" R = {groups.row_of.shape[1]}, got shape {jnp.shape(losses)[1:]}"
    )
