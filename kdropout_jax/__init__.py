"""Dropout that reuses its masks, and skips the work that they drop.

Three questions, three pure functions: which subnets train at this step
(`subnet_ids`), what a subnet looks like in a layer (`subnet_masks`), and who
trains it (`dropout`: rows of the batch).
"""

import importlib
from typing import TYPE_CHECKING

from kdropout_jax import config
from kdropout_jax import optim
from kdropout_jax import subnets
from kdropout_jax._types import UnsupportedError
from kdropout_jax.blocks import Masks
from kdropout_jax.config import Gyro
from kdropout_jax.config import MaskConfig
from kdropout_jax.config import Pooled
from kdropout_jax.config import Sequential
from kdropout_jax.config import Standard
from kdropout_jax.connections import drop_connect
from kdropout_jax.custom import CustomSchedule
from kdropout_jax.custom import ScheduleProtocol
from kdropout_jax.functional import assign_rows
from kdropout_jax.functional import dropout
from kdropout_jax.functional import kl_sparsity
from kdropout_jax.functional import spatial_dropout
from kdropout_jax.masks import guided
from kdropout_jax.masks.guided import Guided
from kdropout_jax.masks.sampling import layer_masks
from kdropout_jax.masks.sampling import masks_for_steps
from kdropout_jax.masks.sampling import subnet_masks
from kdropout_jax.masks.sampling import subnet_noise
from kdropout_jax.masks.schedules import subnet_ids
from kdropout_jax.nn import linen
from kdropout_jax.ops.explain import explain
from kdropout_jax.ops.matmul import masked_matmul
from kdropout_jax.patterns import Bernoulli
from kdropout_jax.patterns import Blocks
from kdropout_jax.patterns import CustomPattern
from kdropout_jax.patterns import ExactCount
from kdropout_jax.patterns import Gaussian

if TYPE_CHECKING:
  from kdropout_jax import analysis
  from kdropout_jax import testing
  from kdropout_jax import training
  from kdropout_jax.nn import nnx

__version__ = "0.2.0"

__all__ = (
  "Bernoulli",
  "Blocks",
  "CustomPattern",
  "CustomSchedule",
  "ExactCount",
  "Gaussian",
  "Guided",
  "Gyro",
  "MaskConfig",
  "Masks",
  "Pooled",
  "ScheduleProtocol",
  "Sequential",
  "Standard",
  "UnsupportedError",
  "analysis",
  "assign_rows",
  "config",
  "drop_connect",
  "dropout",
  "explain",
  "guided",
  "kl_sparsity",
  "layer_masks",
  "linen",
  "masked_matmul",
  "masks_for_steps",
  "nnx",
  "optim",
  "spatial_dropout",
  "subnet_ids",
  "subnet_masks",
  "subnet_noise",
  "subnets",
  "testing",
  "training",
)

_LAZY = {
  "analysis": "kdropout_jax.analysis",
  "nnx": "kdropout_jax.nn.nnx",
  "testing": "kdropout_jax.testing",
  "training": "kdropout_jax.training",
}


def __dir__() -> list[str]:
  """Lists the public names."""
  return [*__all__, "__version__"]


if not TYPE_CHECKING:  # A type checker would take any name for a good one.

  def __getattr__(name: str):
    """Imports what is heavy, such as flax.nnx, only for those who use it."""
    if name in _LAZY:
      return importlib.import_module(_LAZY[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
