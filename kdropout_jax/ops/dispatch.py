"""The only place that chooses an implementation of a product.

Every choice rests on static facts: shapes, dtype, groups, the exact counts,
and the platform that a program is lowered for. One jitted function serves CPU
and GPU, because `jax.lax.platform_dependent` picks at lowering.
"""

import contextlib
import contextvars
import dataclasses
import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import flax
import jax

from kdropout_jax import _types
from kdropout_jax import blocks
from kdropout_jax.ops import batching
from kdropout_jax.ops import compact
from kdropout_jax.ops import dense
from kdropout_jax.ops import measured
from kdropout_jax.ops import parts
from kdropout_jax.ops import problems
from kdropout_jax.ops import support

__all__ = ()

Implementation = Literal["auto", "dense", "compact", "triton"]
IMPLEMENTATIONS = get_args(Implementation)[1:]  # Those that have a name.
PRODUCTS = ("forward", "dx", "dw")
PLATFORMS = ("cpu", "cuda", "tpu")

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one call runs: for each product, the implementation of a platform.

  Attributes:
    choices: {product: ((platform, implementation), ...)} as nested tuples;
      the platform "default" comes last.
    target: the CUDA device, or None where no kernel is part of the plan.
  """

  choices: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
  target: support.Target | None = None

  def of(self, product: str) -> dict[str, str]:
    """Returns {platform: implementation} of one product."""
    return dict(dict(self.choices)[product])


_forced_target: contextvars.ContextVar[support.Target | None] = (
  contextvars.ContextVar("kdropout_jax_cuda_target", default=None)
)


@contextlib.contextmanager
def cuda_target(compute_capability: int = 90) -> Iterator[None]:
  """Traces for a CUDA device that need not be here, to cross-lower.

  Args:
    compute_capability: 90 for capability 9.0.

  A function that was jitted before keeps the choice of its first trace.
  """
  token = _forced_target.set(support.Target(compute_capability))
  try:
    yield
  finally:
    _forced_target.reset(token)


def plan(problem: problems.Problem, implementation: str) -> Plan:
  """Chooses the implementation of all three products of one call.

  Args:
    problem: the static facts.
    implementation: "dense", "compact", "triton" or "auto".

  Raises:
    ValueError: no such implementation.
    UnsupportedError: the named implementation cannot serve this problem. Only
      "auto" falls back.
  """
  if isinstance(implementation, str) and implementation == "auto":
    return _auto_plan(problem)
  is_text = isinstance(implementation, str)
  if not is_text or implementation not in IMPLEMENTATIONS:
    raise ValueError(
      "implementation must be 'auto' or one of"
      f" {', '.join(map(repr, IMPLEMENTATIONS))}, got {implementation!r}"
    )
  target = current_target()
  reason = support.unsupported(implementation, problem, target)
  if reason is not None:
    raise _types.UnsupportedError(reason)
  named = (("default", implementation),)
  choices = tuple((product, named) for product in PRODUCTS)
  return Plan(choices, target if implementation == "triton" else None)


def tables(
  plan: Plan, in_keep: dense.Keep, out_keep: dense.Keep
) -> blocks.Tables | None:
  """Returns the index tables that a plan's kernels share, None without any."""
  return None if plan.target is None else blocks.index_tables(in_keep, out_keep)


def call(
  product: str,
  plan: Plan,
  problem: problems.Problem,
  tables: blocks.Tables | None,
  *arrays,
  **options,
):
  """Runs one product as planned: `dense.forward`, `dense.dx` or `dense.dw`.

  Args:
    product: "forward", "dx" or "dw".
    plan: the choice, made by `plan`.
    problem: the static facts.
    tables: what `tables` made for this plan and these masks.
    *arrays: the arrays of the product, None where one is absent.
    **options: its static options.
  """
  branches = {
    platform: _branch(product, name, plan.target, problem, options)
    for platform, name in plan.of(product).items()
  }
  if len(branches) == 1:
    return branches["default"](tables, *arrays)
  default = branches.pop("default")
  return jax.lax.platform_dependent(
    tables, *arrays, default=default, **branches
  )


def _branch(
  product: str,
  name: str,
  target: support.Target | None,
  problem: problems.Problem,
  options: dict[str, Any],
) -> Callable:
  if name == "triton":
    from kdropout_jax.ops.kernels import triton_matmul  # Lazy: needs triton.

    assert target is not None  # `plan` sees to it.
    capability = target.compute_capability
    kernel = functools.partial(getattr(triton_matmul, product), capability)
    kernel = functools.partial(kernel, **options)
    run = batching.batchable(kernel, product, problem)
  else:
    plain = getattr({"dense": dense, "compact": compact}[name], product)
    run = functools.partial(plain, problem, **options)

  def scoped(tables, *arrays):
    more = (tables,) if name == "triton" else ()
    with jax.named_scope(f"kd_{product}_{name}"):
      return run(*arrays, *more)

  return scoped


def choose(
  product: str,
  problem: problems.Problem,
  platform: str,
  target: support.Target | None,
) -> tuple[str, str]:
  """Returns what "auto" runs on a platform, and why.

  Args:
    product: "forward", "dx" or "dw".
    problem: the static facts.
    platform: "cpu", "cuda" or another.
    target: the CUDA device.

  The regions of `measured` decide; the rest is dense.
  """
  if platform == "cpu":
    return _small_or_dense(problem)
  if platform != "cuda":
    return "dense", f"nothing was timed on {platform}"
  if target is None:
    return "dense", "no CUDA device is here"
  return _kernel_or_dense(product, problem, target)


def _small_or_dense(problem: problems.Problem) -> tuple[str, str]:
  in_order = parts.serves(problem)
  region = measured.CPU_IN_ORDER if in_order else measured.CPU
  misses = region.misses(problem)
  if misses:
    return "dense", f"small products win elsewhere only, not at {misses[0]}"
  reason = support.unsupported("compact", problem, None)
  if reason is not None:
    return "dense", reason
  return "compact", f"{region.reason} ({region.source})"


def _kernel_or_dense(
  product: str, problem: problems.Problem, target: support.Target
) -> tuple[str, str]:
  missed = {
    region.name: region.misses(problem, target.compute_capability)
    for region in measured.CUDA
  }
  for region in measured.CUDA:
    if missed[region.name]:
      continue
    reason = support.unsupported("triton", problem, target)
    if reason is not None:
      _say_once(reason, loudly=reason == support.missing(target))
      return "dense", reason
    name = "triton" if product in region.milliseconds else "dense"
    return name, f"{region.name}: {region.reason} ({region.source})"
  nearest = min(missed, key=lambda name: len(missed[name]))
  why = ", ".join(missed[nearest])
  return "dense", f"no measured win; the nearest ({nearest}) misses: {why}"


def _auto_plan(problem: problems.Problem) -> Plan:
  target = current_target()

  def platforms(product):
    for platform in ("cuda", "cpu"):
      name, _ = choose(product, problem, platform, target)
      if name != "dense":
        yield platform, name
    yield "default", "dense"

  choices = tuple((product, tuple(platforms(product))) for product in PRODUCTS)
  kernels = any("triton" in dict(pairs).values() for _, pairs in choices)
  return Plan(choices, target if kernels else None)


def current_target() -> support.Target | None:
  """Returns the forced target, else the CUDA device here, else None."""
  return _forced_target.get() or _local_target()


@functools.cache
def _local_target() -> support.Target | None:
  try:
    device = jax.local_devices(backend="cuda")[0]
  except RuntimeError:
    return None  # No CUDA backend.
  major, minor = str(device.compute_capability).split(".")
  return support.Target(int(major) * 10 + int(minor))


@functools.cache
def _say_once(reason: str, loudly: bool) -> None:
  """Says why a product that would win is dense: a user can mend packages."""
  message = f"auto leaves the kernels out: {reason}"
  _logger.info(message)
  if loudly:
    warnings.warn(message, skip_file_prefixes=_NOT_THE_USERS)


_NOT_THE_USERS = (
  os.path.dirname(os.path.dirname(__file__)),
  *flax.__path__,
  *jax.__path__,
)
