"""Where a run trains: what its bits depend on beside its configuration."""

import platform
from typing import Any

from experiments.report import passport
from experiments.run import footprint


def here() -> dict[str, Any]:
  """Returns processor or card, threads and versions, as plain data."""
  found = passport.of_this_machine()
  versions = {name: found["versions"][name] for name in ("jax", "jaxlib")}
  return {
    "device": found["device"],
    "processor": platform.machine(),
    "threads": footprint.threads(),
    **versions,
  }
