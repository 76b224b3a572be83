"""Programs for one H100, compiled on a machine without a GPU, and counted.

The CUDA plugin compiles from a description of the card; it needs its runtime
(the wheel jax-cuda13-pjrt, which this checkout's environment leaves out). Small
steps are bounded by their launches, 3 to 4 us each on an H200. What a kernel
takes, and cuBLAS' own choices, do not show.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # Before jax.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import jax
from jax.experimental import topologies

_CARD = """gpu_device_info {
threads_per_block_limit: 1024 threads_per_warp: 32 fpus_per_core: 128
shared_memory_per_block: 49152 shared_memory_per_core: 233472
shared_memory_per_block_optin: 232448 threads_per_core_limit: 2048
core_count: 132 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048
cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3" """

_LAUNCHES = frozenset(
  "fusion copy copy-start sort reduce scatter gather convolution dot transpose"
  " concatenate dynamic-slice dynamic-update-slice rng-bit-generator"
  " select-and-scatter conditional custom-call".split()
)


def why_not() -> str | None:
  """Returns why nothing can be compiled for an H100 here, or None."""
  try:
    found = metadata.version("jax-cuda13-pjrt")
  except metadata.PackageNotFoundError:
    return "jax-cuda13-pjrt is not installed; BUILD_NOTES.md has the command"
  if found != jax.__version__:
    return f"jax-cuda13-pjrt is {found}, but jax is {jax.__version__}"
  return None


def compile_program(fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
  """Returns ``jax.jit(fn, **options)`` compiled for arguments like `args`."""
  device = topologies.get_topology_desc(
    "h100", "cuda", target_config=_CARD, topology="1x1x1"
  ).devices[0]
  sharding = jax.sharding.SingleDeviceSharding(device)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), args
  )
  return jax.jit(fn, **options).lower(*shapes).compile()


@dataclasses.dataclass(frozen=True)
class Body:
  """What one pass of a computation launches.

  Attributes:
    kernels: {name: launches}, inner loops left out.
    loops: its loops.
    trips: passes, where the compiler knows; 1 for a whole program.
  """

  kernels: collections.Counter[str]
  loops: tuple["Body", ...]
  trips: int | None = 1

  @property
  def launches(self) -> int:
    """Launches of one pass, inner loops left out."""
    return sum(self.kernels.values())

  def nested(self) -> Iterator["Body"]:
    """Yields all loops, outer ones first."""
    for loop in self.loops:
      yield loop
      yield from loop.nested()

  def copies(self) -> int:
    """Returns the copies among the launches."""
    return sum(
      n for kernel, n in self.kernels.items() if kernel.startswith("copy")
    )


def read(text: str) -> Body:
  """Counts a compiled program's text, ``compiled.as_text()``.

  >>> text = '''
  ... ENTRY %main.1 (x: f32[2]) -> f32[2] {
  ...   %x = f32[2]{0} parameter(0)
  ...   ROOT %loop_add_fusion.3 = f32[2]{0} fusion(%x), kind=kLoop, calls=%f
  ... }
  ... '''
  >>> read(text).kernels
  Counter({'loop_add_fusion': 1})
  """
  lines, name, entry = {}, None, None
  for line in text.splitlines():
    head = re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\{", line)
    if head:
      name = head.group(2)
      lines[name] = []
      entry = name if head.group(1) else entry
    elif name is not None and line.startswith("  "):
      lines[name].append(line)
  if entry is None:
    raise ValueError("text must be a compiled program's, with an ENTRY")
  return _body(lines, entry)


def _body(lines: dict[str, list[str]], name: str, trips: int | None = 1):
  kernels, loops = collections.Counter(), []
  for line in lines.get(name, ()):
    found = re.search(r"%?([\w.\-]+) = .*?\s([a-z\-]+)\(", line)
    instruction, operation = found.groups() if found else ("", "")
    if operation == "while":
      inner = _called(line, "body")
      known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
      loops.append(_body(lines, inner, int(known.group(1)) if known else None))
    elif operation == "call":
      inner = _body(lines, _called(line, "to_apply"))
      kernels += inner.kernels
      loops += inner.loops
    elif operation in _LAUNCHES:
      kernels[_kernel(line, instruction, operation)] += 1
  return Body(kernels, tuple(loops), trips)


def _called(line: str, how: str) -> str:
  found = re.search(rf"{how}=%?([\w.\-]+)", line)
  assert found is not None, line
  return found.group(1)


def _kernel(line: str, instruction: str, operation: str) -> str:
  """Returns a launch's name, alike for all launches of a kind."""
  if operation == "custom-call":
    found = re.search(r'custom_call_target="([^"]+)"', line)
    return found.group(1) if found else operation
  if operation == "fusion":
    return re.sub(r"(\.clone|[.\d])+$", "", instruction)
  return operation
