"""The key streams that modules read, and what they say when one is missing."""

import jax.numpy as jnp

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import blocks
from kdropout_jax import config
from kdropout_jax import custom
from kdropout_jax._types import Ids

STREAM = _keys.SUBNETS


def check_subnets(subnets) -> Ids:
  """Returns subnet ids as an array, or raises a ValueError: integers [T]."""
  subnets = _checks.as_array("subnets", subnets)
  if subnets.ndim != 1 or not jnp.issubdtype(subnets.dtype, jnp.integer):
    raise ValueError(
      "subnets must be the ids of this step's subnets, integers [T] from"
      f" kd.subnet_ids, got {subnets.dtype} {list(subnets.shape)}"
    )
  if not subnets.shape[0]:
    raise ValueError("subnets must hold at least one id, got none")
  return subnets


def schedule_for(schedule, subnets):
  """Returns the schedule of a caller who gave one, or the ids of one step.

  Raises:
    ValueError: both or neither, a wrong schedule, or wrong ids.
  """
  if (schedule is None) == (subnets is None):
    raise ValueError(
      "give schedule, or subnets=, the ids of this step: one of them, got"
      f" schedule={schedule!r}, subnets={subnets!r}"
    )
  if subnets is not None:
    return custom.GivenSubnets(check_subnets(subnets))
  config.check_schedule(schedule)
  return schedule


def source(subnets, masks, assignment):
  """Returns ids and masks, one of them None at least.

  `Masks` that were sampled before, in the place of ids, are masks.

  Raises:
    ValueError: masks come from two places, or from none.
  """
  if subnets is not None and masks is not None:
    raise ValueError("give subnets or masks, not both: each decides the masks")
  if assignment is not None and subnets is None and masks is None:
    raise ValueError(
      "assignment needs subnets or masks: it says which of them a row trains"
    )
  if isinstance(subnets, blocks.Masks):
    return None, subnets
  return subnets, masks


def given_masks(masks: blocks.MasksLike) -> blocks.Masks:
  """Returns masks of whatever width, checked."""
  is_array = not isinstance(masks, blocks.Masks)
  return blocks.as_masks(masks, masks.shape[-1] if is_array else masks.width)


def missing(name: str) -> ValueError:
  """Returns the error of a module that has subnets but no run-long key."""
  return ValueError(
    f"{name} was given subnets, but no key stream named {STREAM!r}. Consider"
    " one of the following options:\n\n"
    "1. Pass the run-long key, the same at every step, beside the per-step"
    " one:\n\n"
    f"  model.apply(variables, x, rngs={{{STREAM!r}: run_key, 'dropout':"
    " step_key})\n\n"
    "2. If a lifted transform (nn.scan, nn.vmap, nn.remat) stands around the"
    f" module, let it pass the stream on: split_rngs={{{STREAM!r}: True}}, with"
    " False where all its layers are to share their masks\n\n"
    "3. With nnx, build the module with rngs that hold it:\n\n"
    f"  nnx.Rngs(params=0, dropout=1, {STREAM}=run_key)\n\n"
    "4. Pass the layer's run-long key in the call: rng=layer_key (linen) or"
    " rngs=layer_key (nnx).\n"
  )
