"""Whether kernels can run with the packages at hand, tried on a small one.

jax-triton reaches into parts of JAX that change from version to version, and
its own versions do not say with which ones they break.
"""

import functools
import importlib

import jax
import jax.numpy as jnp

from kdropout_jax import blocks
from kdropout_jax.ops import problems

__all__ = ()

_SIDE = problems.Side(64, 32, 1, masked=True)
_SMALL = problems.Problem(64, 1, 1, _SIDE, _SIDE, "bfloat16")


@functools.cache
def failure(capability: int) -> str | None:
  """Returns why no kernel can run, or None once a small one was lowered.

  A second or two, once a process; nothing is run.

  Args:
    capability: 90 for compute capability 9.0.
  """
  for name in ("triton", "jax_triton"):
    try:
      importlib.import_module(name)
    except Exception as error:  # Whatever a package of another time raises.
      return f"the package {name} cannot be imported ({_in_a_line(error)})"
  try:
    _lower(capability)
  except Exception as error:
    return f"jax_triton breaks with jax {jax.__version__} ({_in_a_line(error)})"
  return None


def _lower(capability: int) -> None:
  """Lowers a kernel in a program that JAX has looked through for dead code."""
  from kdropout_jax.ops.kernels import triton_matmul

  def loss(x, w, keep):
    @jax.checkpoint  # What it recomputes is what is not dead.
    def scaled(x):
      still = jax.lax.stop_gradient(x)
      tables = blocks.index_tables(keep, keep)
      y = triton_matmul.forward(
        capability, _SMALL, still, w, None, keep, keep, tables
      )
      return jnp.sum(y * x)

    return scaled(x)

  rows, weights, keep = (
    jax.ShapeDtypeStruct(shape, dtype)
    for shape, dtype in (
      ((64, 1, 64), jnp.bfloat16),
      ((64, 64), jnp.bfloat16),
      ((1, 2), jnp.bool_),
    )
  )
  traced = jax.jit(jax.grad(loss)).trace(rows, weights, keep)
  traced.lower(lowering_platforms=("cuda",))


def _in_a_line(error: Exception) -> str:
  first = (str(error).strip().splitlines() or [""])[0]
  return f"{type(error).__name__}: {first}"
