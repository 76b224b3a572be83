"""Published parameters in place of random ones, before a run's first step."""

import logging
from typing import Any

import jax
import numpy as np

from experiments.models import bert_weights

_logger = logging.getLogger(__name__)


def of_members(path: str, params: Any) -> Any:
  """Returns the parameters of all members, those of a checkpoint.

  A head that the checkpoint does not have keeps each member's own values.

  Args:
    path: a local .safetensors file of BERT, in the Hugging Face layout.
    params: initialised, each leaf with a leading axis over members.

  Raises:
    ValueError: a checkpoint that is damaged or of another network.
  """
  own = jax.tree.map(np.asarray, params)
  num_members = jax.tree.leaves(own)[0].shape[0]
  loaded = [
    bert_weights.load(path, jax.tree.map(lambda leaf: leaf[i], own))  # noqa: B023
    for i in range(num_members)
  ]
  _logger.info(
    "%s: not used: %s; not there: %s",
    path,
    ", ".join(loaded[0].unused) or "nothing",
    ", ".join(loaded[0].initial) or "nothing",
  )
  trees = [one.params for one in loaded]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
