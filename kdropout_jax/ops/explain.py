"""What `auto` would run, in words."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kdropout_jax import _checks
from kdropout_jax import blocks
from kdropout_jax.ops import arguments
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import support

__all__ = ("explain",)


def explain(
  x_shape: tuple[int, ...],
  w_shape: tuple[int, int],
  *,
  in_mask: blocks.MasksLike | None = None,
  out_mask: blocks.MasksLike | None = None,
  dtype: DTypeLike = jnp.float32,
  platform: str | None = None,
) -> str:
  """Says which implementation `kd.masked_matmul` takes by itself, and why.

  Args:
    x_shape: [B, ..., I].
    w_shape: [I, O].
    in_mask: as for `kd.masked_matmul`; the values do not matter.
    out_mask: likewise.
    dtype: of the operands.
    platform: "cpu", "cuda" or "tpu"; the default is JAX's own here. For
      "cuda" where there is none, a device of capability 9.0 is supposed.

  Returns:
    One line for each product: forward, dx and dw.

  Raises:
    ValueError: as `kd.masked_matmul`, or an unknown platform.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> mask = jnp.ones((1, 8), bool)
  >>> print(kd.explain((4, 8), (8, 8), in_mask=mask, platform="tpu"))
  forward: dense; nothing was timed on tpu
  dx: dense; nothing was timed on tpu
  dw: dense; nothing was timed on tpu
  """
  for name, shape in (("x_shape", x_shape), ("w_shape", w_shape)):
    is_shape = isinstance(shape, (tuple, list)) and len(shape) >= 2
    if not is_shape or not all(
      isinstance(n, (int, np.integer)) and 0 <= n < 2**31 for n in shape
    ):
      raise ValueError(f"{name} must be a shape, got {_checks.shown(shape)}")
  platform = jax.default_backend() if platform is None else platform
  _checks.check_type("platform", platform, str, "a platform's name")
  platform = {"gpu": "cuda"}.get(platform, platform)
  if platform not in dispatch.PLATFORMS:
    raise ValueError(
      f"platform must be one of {', '.join(map(repr, dispatch.PLATFORMS))},"
      f" got {platform!r}"
    )
  _checks.check_dtype("dtype", dtype, "floating")
  x, w = (jax.ShapeDtypeStruct(s, dtype) for s in (x_shape, w_shape))
  arguments.check_operands(x, w, None)
  problem = arguments.describe(x, w, *arguments.masks(x, w, in_mask, out_mask))
  target = dispatch.current_target() or support.Target(90)
  lines = []
  for product in dispatch.PRODUCTS:
    name, reason = dispatch.choose(product, problem, platform, target)
    lines.append(f"{product}: {name}; {reason}")
  return "\n".join(lines)
