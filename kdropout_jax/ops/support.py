"""What each implementation can serve, and the reason where it cannot."""

import dataclasses
import functools
import importlib.util

import jax

from kdropout_jax.ops import problems
from kdropout_jax.ops.kernels import launches
from kdropout_jax.ops.kernels import trial

__all__ = ()

MIN_CAPABILITY = 80
_TRITON_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Target:
  """The CUDA device that programs are lowered for: 90 is capability 9.0."""

  compute_capability: int


def unsupported(
  implementation: str, problem: problems.Problem, target: Target | None
) -> str | None:
  """Returns why an implementation cannot serve a problem, or None if it can."""
  if problem.is_explicit and implementation != "dense":
    return (
      f"{implementation} does not say how its parts are sharded, which a mesh"
      " with explicit axes asks for; use 'dense', or axes of type Auto"
    )
  if implementation == "compact":
    return _why_not_compact(problem)
  if implementation == "triton":
    return _why_not_triton(problem, target)
  return None


def missing(target: Target) -> str | None:
  """Returns what keeps the kernels from running at all, whatever the problem.

  Args:
    target: the CUDA device.
  """
  for module in ("triton", "jax_triton"):
    if not _installed(module):
      return (
        f"triton needs the package {module}, which is not installed;"
        " pip install 'kdropout-jax[gpu]'"
      )
  broken = trial.failure(target.compute_capability)
  return None if broken is None else f"triton cannot run here: {broken}"


def _why_not_compact(problem: problems.Problem) -> str | None:
  for name, side in (("in", problem.inputs), ("out", problem.outputs)):
    if side.masked and side.num_kept is None:
      return (
        f"compact needs masks that keep an exact count, but {name}_mask has"
        " none (bool masks and Bernoulli patterns vary); use Masks of an"
        " exact pattern, or implementation='dense'"
      )
  return None


def _why_not_triton(
  problem: problems.Problem, target: Target | None
) -> str | None:
  if problem.dtype not in _TRITON_DTYPES:
    return (
      f"triton has no {problem.dtype} product here, only"
      f" {', '.join(_TRITON_DTYPES)}; use 'dense'"
    )
  if problem.out not in (problem.dtype, "float32"):
    return (
      f"triton stores {' or '.join(sorted({problem.dtype, 'float32'}))}, but"
      f" preferred_element_type is {problem.out}; use 'dense'"
    )
  if launches.precision(problem) is None:
    return (
      f"triton has no product of precision {problem.precision}; use 'dense'"
    )
  for name, side in (("in", problem.inputs), ("out", problem.outputs)):
    if side.masked and side.block_size & (side.block_size - 1):
      return (
        "triton needs a block size that is a power of two, but"
        f" {name}_mask has block_size={side.block_size}"
      )
  if target is None:
    return (
      "triton needs a CUDA device, but the backends here are"
      f" {_backend_names()}; use 'auto' or 'dense'"
    )
  if target.compute_capability < MIN_CAPABILITY:
    major, minor = divmod(target.compute_capability, 10)
    return (
      f"triton needs compute capability 8.0, the device has {major}.{minor}"
    )
  return missing(target)


@functools.cache
def _installed(module: str) -> bool:
  return importlib.util.find_spec(module) is not None


def _backend_names() -> str:
  return ", ".join(sorted({d.platform for d in jax.devices()}))
