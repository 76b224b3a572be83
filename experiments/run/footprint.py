"""The memory that a run needs at least, before anything is compiled."""

import functools
import math
import os
import pathlib
import resource
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.run import config as config_lib
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib

_CGROUP = pathlib.Path("/sys/fs/cgroup/memory.max")

_LIBRARY_BYTES = 5 * 2**29
_THREAD_BYTES = 2**27
"""Of address space, not of memory: of all libraries, and a thread's."""

_CELL_BYTES = 1850
"""What a configuration in a list costs the host (measured)."""


def check(
  common: config_lib.RunConfig, task: task_lib.Task, example: Any, members: int
) -> None:
  """Raises a ValueError where a run cannot fit the device's memory.

  What is counted is a lower bound: parameters, the optimizer's state and
  gradients of all members, and the ids, masks and padded images of a step.

  Args:
    common: the run.
    task: what its members have in common.
    example: stored inputs of one example, [1, ...].
    members: how many train side by side.
  """
  parts = {
    "parameters, optimizer and gradients": _state_bytes(common, task, example),
    "subnets of a step": _mask_bytes(common),
    "padded images": _padded_bytes(common, example),
  }
  _refuse(
    members * sum(parts.values()),
    device_bytes(),
    f"{members:,} members (--seeds) of "
    + ", ".join(f"{_text(v)} ({k})" for k, v in parts.items() if v),
  )


def check_cells(name: str, count: int) -> None:
  """Raises a ValueError where so many cells do not fit the host's memory."""
  _refuse(count * _CELL_BYTES, host_bytes(), f"{name}={count:,}")


def check_address_space() -> None:
  """Raises a ValueError under a limit that the libraries cannot live with.

  Threads that cannot start make them wait for ever (seen: data and compiler,
  under 0.7 to 2 GB of two cores).
  """
  limit = address_space()
  needed = _LIBRARY_BYTES + threads() * _THREAD_BYTES
  if limit is not None:
    _refuse(needed, limit, "the libraries, under the limit of `ulimit -v`")


def threads() -> int:
  """Returns how many threads a CPU device computes with here."""
  return len(os.sched_getaffinity(0))


def address_space() -> int | None:
  """Returns the limit of the process's address space; None: there is none."""
  limit, _ = resource.getrlimit(resource.RLIMIT_AS)
  return None if limit == resource.RLIM_INFINITY else limit


@functools.cache
def host_bytes() -> int:
  """Returns the memory that a process may use: machine, container, limit."""
  physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  found = [physical, address_space() or physical]
  try:
    found.append(int(_CGROUP.read_text()))
  except (OSError, ValueError):
    pass
  return min(found)


def device_bytes() -> int:
  """Returns the memory of a device; a CPU's is the host's."""
  found = jax.local_devices()[0].memory_stats() or {}
  return found.get("bytes_limit") or host_bytes()


def _state_bytes(common, task: task_lib.Task, example: Any) -> int:
  member = state_lib.Members(
    key_data=jax.ShapeDtypeStruct((2,), jnp.uint32),  # pyright: ignore[reportArgumentType]
    learning_rate=jax.ShapeDtypeStruct((), jnp.float32),  # pyright: ignore[reportArgumentType]
    schedule=common.schedule(num_steps=1),
  )
  init = functools.partial(step_lib.init_state, task)
  try:
    state = jax.eval_shape(init, member, example)
  except OverflowError as error:
    raise ValueError(f"the network is too large: {error}") from error
  return _bytes(state) + _bytes(state.params)


def _mask_bytes(common) -> int:
  """Returns what the ids and one layer's masks take, at least."""
  schedule = common.schedule(num_steps=1)
  if schedule is None:
    return 0
  width = common.hidden or 1
  if common.pattern == "blocks":  # Blocks are repeated before they are cut.
    width = max(width, common.block_size)
  count = schedule.num_concurrent(common.batch_size)
  # A mask is sampled where a row trains it.
  return 4 * count + width * min(count, common.batch_size)


def _padded_bytes(common, example: Any) -> int:
  if not common.pad:
    return 0
  _, height, width, channels = example.shape
  area = (height + 2 * common.pad) * (width + 2 * common.pad)
  return common.batch_size * area * channels * example.dtype.itemsize


def _bytes(tree: Any) -> int:
  # By Python's integers, which do not overflow.
  return sum(
    math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _refuse(needed: int, there: int, what: str) -> None:
  if needed > there:
    raise ValueError(
      f"memory: this needs at least {_text(needed)}, and there are"
      f" {_text(there)}: {what}"
    )


def _text(count: int) -> str:
  return f"{count / 2**30:,.1f} GiB" if count >= 2**28 else f"{count:,} bytes"
