"""Where a number was measured: versions and device."""

import platform
from importlib import metadata
from typing import Any

import jax

import kdropout_jax as kd

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def of_this_machine() -> dict[str, Any]:
  """Returns {"versions": ..., "device": ...}, for a result."""
  versions = {name: metadata.version(name) for name in _PACKAGES}
  versions |= {
    "kdropout_jax": kd.__version__,
    "python": platform.python_version(),
  }
  device = jax.devices()[0]
  name = f"{device.platform}: {device.device_kind} x {jax.device_count()}"
  return {"versions": versions, "device": name}
