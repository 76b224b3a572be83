"""A training loop over devices, seeds and steps that never changes masks.

`rng` owns the key streams, `state` and `task` what is trained and on what,
`batches` the rows of a step, `step` one step of one member (`guided` and
`windows` train it in ways of their own), `parallel` and `sharded` the devices,
`program` what is compiled for them, `loop` the run, `metrics` and `checkpoint`
what it leaves on disk, by way of `files` and `digests`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from kdropout_jax.training import ahead
  from kdropout_jax.training import batches
  from kdropout_jax.training import checkpoint
  from kdropout_jax.training import digests
  from kdropout_jax.training import disjoint
  from kdropout_jax.training import files
  from kdropout_jax.training import guided
  from kdropout_jax.training import loop
  from kdropout_jax.training import metrics
  from kdropout_jax.training import parallel
  from kdropout_jax.training import permuted
  from kdropout_jax.training import program
  from kdropout_jax.training import rng
  from kdropout_jax.training import sharded
  from kdropout_jax.training import small
  from kdropout_jax.training import state
  from kdropout_jax.training import step
  from kdropout_jax.training import task
  from kdropout_jax.training import windows

__all__ = (
  "ahead",
  "batches",
  "checkpoint",
  "digests",
  "disjoint",
  "files",
  "guided",
  "loop",
  "metrics",
  "parallel",
  "permuted",
  "program",
  "rng",
  "sharded",
  "small",
  "state",
  "step",
  "task",
  "windows",
)


def __dir__() -> list[str]:
  """Lists the public names."""
  return list(__all__)


if not TYPE_CHECKING:

  def __getattr__(name: str):
    """Imports a module on first use: few need orbax, or all of them."""
    if name in __all__:
      return importlib.import_module(f"kdropout_jax.training.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
