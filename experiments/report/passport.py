"""Where a number was measured, and by what: command, versions, device."""

import pathlib
import platform
import shlex
import sys
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


def command() -> str:
  """Returns the command that was typed."""
  arguments = shlex.join(sys.argv[1:])
  return f"python -m {module()} {arguments}".strip()


def module() -> str:
  """Returns the module that `python -m` was given."""
  if "-m" in sys.orig_argv:
    typed = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if typed.startswith("experiments."):
      return typed
  return f"experiments.{pathlib.Path(sys.argv[0]).stem}"
