"""The only place that chooses an implementation of a product.

Every choice rests on static facts: shapes, dtype, groups, the exact counts,
and the platform that a program is lowered for. One jitted function serves CPU
and GPU, because `jax.lax.platform_dependent` picks at lowering.
"""

import contextlib
import contextvars
import dataclasses
import functools
import importlib.util
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from kdropout_jax import _types
from kdropout_jax import blocks
from kdropout_jax.ops import compact
from kdropout_jax.ops import dense
from kdropout_jax.ops import problems

Implementation = Literal["auto", "dense", "compact", "triton"]
IMPLEMENTATIONS = get_args(Implementation)[1:]  # Those that have a name.
PRODUCTS = ("forward", "dx", "dw")
MIN_CAPABILITY = 80
# Where small products on a CPU win: multiplications that a copied weight must
# spare, fewer where a cache may hold all copies; the elements that it holds;
# and units of the narrower side.
_MIN_SPARED = 100
_MIN_SPARED_CACHED = 60
_CACHED = 1 << 22
_MIN_WIDTH = 64

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Target:
  """The CUDA device that programs are lowered for: 90 is capability 9.0."""

  compute_capability: int


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one call runs: for each product, the implementation of a platform.

  Attributes:
    choices: {product: ((platform, implementation), ...)} as nested tuples;
      the platform "default" comes last.
    target: the CUDA device, or None where no kernel is part of the plan.
  """

  choices: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
  target: Target | None = None

  def of(self, product: str) -> dict[str, str]:
    """Returns {platform: implementation} of one product."""
    return dict(dict(self.choices)[product])


_forced_target: contextvars.ContextVar[Target | None] = contextvars.ContextVar(
  "kdropout_jax_cuda_target", default=None
)


@contextlib.contextmanager
def cuda_target(compute_capability: int = 90) -> Iterator[None]:
  """Traces for a CUDA device that need not be here, to cross-lower.

  Args:
    compute_capability: 90 for capability 9.0.

  A function that was jitted before keeps the choice of its first trace.
  """
  token = _forced_target.set(Target(compute_capability))
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
  if implementation == "auto":
    return _auto_plan(problem)
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      "implementation must be 'auto' or one of"
      f" {', '.join(map(repr, IMPLEMENTATIONS))}, got {implementation!r}"
    )
  target = _target()
  reason = unsupported(implementation, problem, target)
  if reason is not None:
    raise _types.UnsupportedError(reason)
  named = (("default", implementation),)
  choices = tuple((product, named) for product in PRODUCTS)
  return Plan(choices, target if implementation == "triton" else None)


def unsupported(
  implementation: str, problem: problems.Problem, target: Target | None
) -> str | None:
  """Returns why an implementation cannot serve a problem, or None if it can."""
  if implementation == "compact":
    return _why_not_compact(problem)
  if implementation == "triton":
    return _why_not_triton(problem, target)
  return None


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
  target: Target | None,
  problem: problems.Problem,
  options: dict[str, Any],
) -> Callable:
  if name == "triton":
    from kdropout_jax.ops.kernels import triton_matmul  # Lazy: needs triton.

    assert target is not None  # `plan` sees to it.
    capability = target.compute_capability
    kernel = functools.partial(getattr(triton_matmul, product), capability)
    kernel = functools.partial(kernel, **options)
    batchable = _batchable(kernel, product, problem)

    def run(tables, *arrays):
      return batchable(*arrays, tables)

  else:
    run = _without_tables(name, product, problem, options)

  def scoped(tables, *arrays):
    with jax.named_scope(f"kd_{product}_{name}"):
      return run(tables, *arrays)

  return scoped


def _without_tables(
  name: str, product: str, problem: problems.Problem, options: dict[str, Any]
) -> Callable:
  plain = getattr({"dense": dense, "compact": compact}[name], product)

  def run(tables, *arrays):
    del tables
    return plain(problem, *arrays, **options)

  return run


def _batchable(
  run: Callable, product: str, problem: problems.Problem
) -> Callable:
  """Gives a kernel, which has no batching rule of its own, one.

  Where only the rows are batched, the batch becomes one more axis of
  positions; anything else runs one after another.
  """
  single = jax.custom_batching.custom_vmap(functools.partial(run, problem))

  @single.def_vmap
  def rule(size, in_batched, *arrays):
    rows_only = in_batched[0] is True and not any(
      jax.tree.leaves(list(in_batched[1:]))
    )
    if product != "dw" and rows_only:
      rows = jnp.moveaxis(arrays[0], 0, 1)  # [B, V, P, W]
      wide = dataclasses.replace(problem, positions=size * problem.positions)
      folded = rows.reshape(rows.shape[0], -1, rows.shape[-1])
      y = _batchable(run, product, wide)(folded, *arrays[1:])
      y = y.reshape(rows.shape[0], size, -1, y.shape[-1])
      return jnp.moveaxis(y, 1, 0), True
    return _one_by_one(single, in_batched, arrays), True

  return single


def _one_by_one(single: Callable, in_batched, arrays):
  leaves, tree = jax.tree.flatten(tuple(arrays))
  flags = jax.tree.leaves(list(in_batched))

  def body(batched):
    given = iter(batched)
    full = [next(given) if flag else a for flag, a in zip(flags, leaves)]
    return single(*jax.tree.unflatten(tree, full))

  return jax.lax.map(body, [a for a, f in zip(leaves, flags) if f])


def _auto_plan(problem: problems.Problem) -> Plan:
  target = _target()
  kernel = target is not None and _kernel_wins(problem)
  if kernel:
    reason = unsupported("triton", problem, target)
    if reason is not None:
      _log_once(f"auto leaves the kernels out: {reason}")
      kernel = False
  cuda = (("cuda", "triton"),) if kernel else ()
  cpu = (("cpu", "compact"),) if _compact_wins(problem) else ()
  choice = (*cuda, *cpu, ("default", "dense"))
  choices = tuple((product, choice) for product in PRODUCTS)
  return Plan(choices, target if kernel else None)


def _compact_wins(problem: problems.Problem) -> bool:
  """Says whether small products beat a dense one on a CPU (two cores measured).

  Each group copies its kept weights, which its rows repay by what they are
  spared; gathered rows are repaid by the width of the other side.
  """
  share, copied = problem.kept_share, problem.copied_share
  if share is None or copied is None or share == 1:
    return False
  inputs, outputs = problem.inputs.width, problem.outputs.width
  if min(inputs, outputs) < _MIN_WIDTH:
    return False
  rows = problem.rows * problem.positions / problem.groups
  cached = problem.groups * share * inputs * outputs <= _CACHED
  need = _MIN_SPARED_CACHED if cached else _MIN_SPARED
  return rows * (1 - share) >= need * copied


def _kernel_wins(problem: problems.Problem) -> bool:
  """Says whether the kernels pay: blocks that fill tiles, and enough dropped.

  Counts that vary are left to the dense product: how much they drop is no
  static fact.
  """
  share = problem.kept_share
  if share is None or share > 0.75:
    return False
  sides = [s for s in (problem.inputs, problem.outputs) if s.masked]
  rows = problem.rows * problem.positions // problem.groups
  return rows >= 64 and all(side.block_size >= 32 for side in sides)


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
  if problem.dtype == "float64":
    return "triton has no float64 product on tensor cores; use 'dense'"
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
  for module in ("triton", "jax_triton"):
    if not _installed(module):
      return (
        f"triton needs the package {module}, which is not installed;"
        " pip install 'kdropout-jax[gpu]'"
      )
  return None


def _target() -> Target | None:
  """Returns the forced target, else the CUDA device here, else None."""
  return _forced_target.get() or _local_target()


@functools.cache
def _local_target() -> Target | None:
  try:
    device = jax.local_devices(backend="cuda")[0]
  except RuntimeError:
    return None  # No CUDA backend.
  major, minor = str(device.compute_capability).split(".")
  return Target(int(major) * 10 + int(minor))


@functools.cache
def _installed(module: str) -> bool:
  return importlib.util.find_spec(module) is not None


def _backend_names() -> str:
  return ", ".join(sorted({d.platform for d in jax.devices()}))


@functools.cache
def _log_once(message: str) -> None:
  _logger.info(message)
