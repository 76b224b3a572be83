"""Devices by pmap: the only file that says it. `sharded` has them by jit.

State is the same on every device and the rows of a batch are split over them.
Ids of subnets are global: each device takes those that its rows train, so the
number of devices never changes a mask.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import subnets
from kdropout_jax.training import task as task_lib

__all__ = (
  "AXIS",
  "Compiled",
  "Devices",
  "check_split",
  "mean",
  "subnets_on_device",
  "total",
)

AXIS = "batch"
"""Name of the axis over devices; batch norm reduces its statistics over it."""


class Devices:
  """The devices of a run, in this process and in others.

  Args:
    num_devices: devices to use; None uses all. In a run of several processes
      it must be all of them.

  Raises:
    ValueError: more devices than there are, or none.
  """

  def __init__(self, num_devices: int | None = None):
    found = jax.device_count()
    num_devices = found if num_devices is None else num_devices
    _checks.check_positive("num_devices", num_devices)
    if num_devices > found:
      raise ValueError(
        f"num_devices must be <= {found}, the devices at hand, got"
        f" {num_devices}"
      )
    if jax.process_count() > 1 and num_devices != found:
      raise ValueError(
        f"num_devices must be {found}, the devices of all processes, got"
        f" {num_devices}"
      )
    self._devices = jax.devices()[:num_devices]
    mesh = jax.sharding.Mesh(np.array(self._devices), (AXIS,))
    self._replicated = jax.sharding.NamedSharding(
      mesh, jax.sharding.PartitionSpec()
    )

  @property
  def count(self) -> int:
    """Number D of devices in all processes."""
    return len(self._devices)

  @property
  def platform(self) -> str:
    """What the devices are: "cpu", "gpu", "tpu"."""
    return self._devices[0].platform

  @property
  def local(self) -> list[int]:
    """The numbers of this process' devices among all."""
    process = jax.process_index()
    return [
      i for i, d in enumerate(self._devices) if d.process_index == process
    ]

  def shards(self, batch_size: int) -> task_lib.Shard:
    """Returns the shards of this process' devices, with a leading axis.

    Args:
      batch_size: rows B of a global batch.
    """
    rows = np.arange(batch_size, dtype=np.int32).reshape(self.count, -1)
    return task_lib.Shard(
      device=np.array(self.local, np.int32),  # pyright: ignore[reportArgumentType]
      rows=rows[self.local],  # pyright: ignore[reportArgumentType]
    )

  def split(self, batch: Any) -> Any:
    """Returns this process' rows of a global batch, [D, B / D, ...].

    Args:
      batch: arrays [B, ...].
    """
    return jax.tree.map(
      lambda x: np.reshape(x, (self.count, -1, *x.shape[1:]))[self.local],
      batch,
    )

  def replicate(self, tree: Any) -> Any:
    """Returns a copy of `tree` on every device, the form that pmap returns.

    Args:
      tree: arrays, the same in every process.
    """

    def put(leaf):
      # A fresh host copy: device_put may alias its input, and state is donated.
      leaf = np.array(leaf)
      return jax.make_array_from_callback(
        leaf.shape, self._replicated, lambda index: leaf[index]
      )

    return jax.tree.map(put, tree)

  def compile(self, fn: Callable, *, donate: bool) -> "Compiled":
    """Returns `fn(state, sharded, shared)` compiled for the devices.

    Args:
      fn: returns (state, metrics), equal on every device by `mean` or `total`.
      donate: whether the state's memory is reused.

    Returns:
      A function of (replicated state, arrays with a leading axis over this
      process' devices, replicated rest), which returns state and metrics.
    """
    traces = []

    def traced(state, sharded, shared):
      traces.append(fn)
      return fn(state, sharded, shared)

    mapped = jax.pmap(
      traced,
      axis_name=AXIS,
      in_axes=(None, 0, None),
      out_axes=(None, 0),
      devices=self._devices if jax.process_count() == 1 else None,
      donate_argnums=(0,) if donate else (),
    )

    def call(state, sharded, shared):
      state, metrics = mapped(state, sharded, shared)
      return state, jax.tree.map(_first_of_this_process, metrics)

    return Compiled(call, mapped.lower, traces)


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A compiled function that knows how often it was traced.

  Attributes:
    fn: the function.
    lower: takes its arguments, returns what `jax.jit(...).lower` does.
    traces: one entry a trace.
  """

  fn: Callable
  lower: Callable
  traces: list

  def __call__(self, state: Any, sharded: Any, shared: Any) -> Any:
    """Calls the function; see `Devices.compile`."""
    return self.fn(state, sharded, shared)

  @property
  def num_traces(self) -> int:
    """How often Python ran through the function."""
    return len(self.traces)


def mean(tree: Any) -> Any:
  """Returns the mean over devices, inside what `Devices` compile.

  Args:
    tree: arrays of this device.
  """
  return jax.lax.pmean(tree, AXIS)


def total(tree: Any) -> Any:
  """Returns the sum over devices, inside what `Devices` compile.

  Args:
    tree: arrays of this device.
  """
  return jax.lax.psum(tree, AXIS)


def gather(tree: Any) -> Any:
  """Returns the arrays of all devices, with a leading axis over them.

  Args:
    tree: arrays of this device.
  """
  return jax.lax.all_gather(tree, AXIS)


def least(tree: Any) -> Any:
  """Returns the minimum over devices, inside what `Devices` compile.

  Args:
    tree: arrays of this device.
  """
  return jax.lax.pmin(tree, AXIS)


def mean_of_groups(tree: Any, size: int, num_devices: int) -> Any:
  """Returns the mean over each `size` consecutive devices.

  Args:
    tree: arrays of this device.
    size: devices of a group.
    num_devices: devices D.
  """
  if size == 1:
    return tree
  devices = np.arange(num_devices).reshape(-1, size).tolist()
  return jax.lax.pmean(tree, AXIS, axis_index_groups=devices)


def exchange(
  num_subnets: int, num_devices: int, device: Int[Array, ""]
) -> subnets.Exchange:
  """Returns how the devices of disjoint subnets tell each other.

  Args:
    num_subnets: P, which divides the devices, or is divided by them.
    num_devices: devices D.
    device: the number of this one.
  """
  each = max(num_devices // num_subnets, 1)  # devices a subnet

  def all_subnets(x):
    return gather(x)[::each].reshape(num_subnets, *x.shape[1:])

  return subnets.Exchange(
    num_subnets=num_subnets,
    num_local=max(num_subnets // num_devices, 1),
    first=device * num_subnets // num_devices,
    mean=mean,
    mean_of_subnet=lambda x: mean_of_groups(x, each, num_devices),
    gather=all_subnets,
  )


def check_split(num_subnets: int, batch_size: int, num_devices: int) -> None:
  """Raises a ValueError unless rows and subnets can be split over devices.

  Args:
    num_subnets: subnets T of one step; 1 where there are none.
    batch_size: rows B of the global batch.
    num_devices: devices D.

  >>> check_split(4, batch_size=64, num_devices=2)
  """
  if batch_size % num_devices:
    raise ValueError(
      f"batch_size must be divisible by num_devices={num_devices}, got"
      f" {batch_size}"
    )
  if num_subnets % num_devices and num_devices % num_subnets:
    raise ValueError(
      f"the {num_subnets} subnets of a step must divide, or be divided by,"
      f" num_devices={num_devices}"
    )


def subnets_on_device(
  ids: Integer[Array, "*layers T"],
  shard: task_lib.Shard,
  *,
  batch_size: int,
  num_devices: int,
  row_layout: functional.RowLayout = "contiguous",
  rescale: functional.Rescale = "expected",
) -> task_lib.Subnets:
  """Returns the subnets that a device's rows train, and who trains which.

  Args:
    ids: uint32 [..., T], of the whole batch.
    shard: the device's share.
    batch_size: rows B of the global batch.
    num_devices: devices D.
    row_layout: how rows of the global batch map to subnets.
    rescale: "realised" needs the masks of all T subnets on every device.

  Returns:
    ids [..., T'], and slots in [0, T'), or None where the local rule of
    `row_layout` gives the same.
  """
  num_subnets = ids.shape[-1]
  num_rows = batch_size // num_devices
  if num_devices == 1 or num_subnets == 1:
    return task_lib.Subnets(ids)
  if row_layout == "tiled":
    if num_rows % num_subnets == 0:
      return task_lib.Subnets(ids)
    return task_lib.Subnets(ids, shard.rows % num_subnets)
  if rescale == "realised":
    slots = jnp.asarray(blocks.row_slots(batch_size, num_subnets))
    return task_lib.Subnets(ids, slots[shard.rows])
  first = shard.device * num_subnets // num_devices
  size = max(num_subnets // num_devices, 1)
  own = jax.lax.dynamic_slice_in_dim(ids, first, size, axis=-1)
  return task_lib.Subnets(own)


def _first_of_this_process(leaf: jax.Array) -> jax.Array:
  return leaf.addressable_shards[0].data[0]
