"""Devices by jit and NamedSharding: rows and columns of a mesh, no pmap.

`parallel.Devices` compiles what one device does. Here the same function is
mapped over the shards of a batch, as if one device had them all; shardings say
where each shard lies, and XLA splits the program and adds the sums over
devices. So the masks, the noise and the losses are the same, but the columns
of matrices can lie on several devices, too.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import numpy as np

from kdropout_jax import _checks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.training import parallel as parallel_lib

__all__ = (
  "COLUMNS",
  "Devices",
  "Parallel",
  "make_devices",
)

Parallel = Literal["pmap", "jit"]
"""How a program is spread over devices."""

COLUMNS = "columns"
"""Name of the mesh's axis over the columns of matrices."""


class Devices(parallel_lib.Devices):
  """The devices of a run, as a mesh of D shards of rows and M of columns.

  Every array of rank 3 or more in a state (a matrix, and the members' axis
  before it) has its last axis split over M devices where M divides it; the
  rest is the same on every device. XLA decides from there on: for a
  `MaskedDense` each device computes its own columns.

  A kernel that XLA cannot split (triton's) runs for all rows on every device:
  train with pmap what depends on one.

  Args:
    num_devices: devices to use, D * M; None uses all.
    num_column_devices: devices M for the columns.

  Raises:
    ValueError: what `parallel.Devices` refuses, or M does not divide
      `num_devices`.
    UnsupportedError: columns over devices of several processes.
  """

  def __init__(
    self, num_devices: int | None = None, num_column_devices: int = 1
  ):
    super().__init__(num_devices)
    _checks.check_positive("num_column_devices", num_column_devices)
    total, self._num_columns = len(self._devices), num_column_devices
    if total % num_column_devices:
      raise ValueError(
        f"num_column_devices must divide num_devices={total}, got"
        f" {num_column_devices}"
      )
    if num_column_devices > 1 and jax.process_count() > 1:
      raise UnsupportedError(
        "num_column_devices > 1 trains in one process: each process writes"
        " and reads whole states"
      )
    grid = np.array(self._devices).reshape(-1, num_column_devices)
    mesh = jax.sharding.Mesh(grid, (parallel_lib.AXIS, COLUMNS))
    self._replicated = _on(mesh)
    self._by_shard = _on(mesh, parallel_lib.AXIS)
    self._mesh = mesh

  @property
  def count(self) -> int:
    """Number D of shards of a batch, in all processes."""
    return len(self._devices) // self._num_columns

  @property
  def local(self) -> list[int]:
    """The numbers of this process' shards among all."""
    return sorted({i // self._num_columns for i in super().local})

  def compile(self, fn: Callable, *, donate: bool) -> parallel_lib.Compiled:
    """Returns `fn(state, sharded, shared)` compiled for the devices.

    As `parallel.Devices.compile`; the state comes back with its columns split.

    Args:
      fn: from (state, sharded, shared) to (state, metrics).
      donate: whether the state's memory is given to the result.
    """
    traces = []

    def traced(state, sharded, shared):
      traces.append(fn)
      state, metrics = jax.vmap(
        fn,
        in_axes=(None, 0, None),
        out_axes=None,
        axis_name=parallel_lib.AXIS,
        spmd_axis_name=parallel_lib.AXIS,
      )(state, sharded, shared)
      state = jax.lax.with_sharding_constraint(state, self._columns(state))
      return state, jax.lax.with_sharding_constraint(metrics, self._replicated)

    jitted = jax.jit(traced, donate_argnums=(0,) if donate else ())

    def place(state, sharded, shared):
      # Nothing moves where the state comes from the call before.
      state = jax.device_put(state, self._columns(state))
      return state, jax.tree.map(self._put_shards, sharded), shared

    return parallel_lib.Compiled(
      lambda *args: jitted(*place(*args)),
      lambda *args: jitted.lower(*place(*args)),
      traces,
    )

  def _columns(self, state: Any) -> Any:
    """Returns the sharding of each leaf of a state."""

    def of(leaf):
      if leaf.ndim < 3 or leaf.shape[-1] % self._num_columns:
        return self._replicated
      return _on(self._mesh, *[None] * (leaf.ndim - 1), COLUMNS)

    return jax.tree.map(of, state)

  def _put_shards(self, leaf: Any) -> jax.Array:
    return jax.make_array_from_process_local_data(
      self._by_shard, np.asarray(leaf)
    )


def make_devices(
  parallel: Parallel,
  num_devices: int | None = None,
  num_column_devices: int = 1,
) -> parallel_lib.Devices:
  """Returns devices for programs that are spread by pmap or by jit.

  Args:
    parallel: "pmap" or "jit".
    num_devices: devices to use; None uses all.
    num_column_devices: how many of them share the columns of a matrix.

  Raises:
    ValueError: another `parallel`, or what the devices' class refuses.
    UnsupportedError: pmap has no columns.

  >>> make_devices("jit", 1).count
  1
  """
  if parallel not in get_args(Parallel):
    raise ValueError(
      f"parallel must be one of {get_args(Parallel)}, got {parallel!r}"
    )
  if parallel == "jit":
    return Devices(num_devices, num_column_devices)
  if num_column_devices != 1:
    raise UnsupportedError(
      "pmap splits rows alone: num_column_devices needs parallel='jit', got"
      f" {num_column_devices}"
    )
  return parallel_lib.Devices(num_devices)


def _on(mesh: jax.sharding.Mesh, *axes: Any) -> jax.sharding.NamedSharding:
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
