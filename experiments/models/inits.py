"""Initialisers by name: of a layer's weights and of its biases."""

import difflib
import math
from typing import Any

import jax
from flax import linen as nn

_KERNELS = {
  "glorot": nn.initializers.glorot_uniform(),
  "he": nn.initializers.he_normal(),
  "lecun": nn.initializers.lecun_normal(),
}

NAMES = ("torch_linear", *_KERNELS)


def layer_inits(name: str, fan_in: int) -> dict[str, Any]:
  """Returns the initialisers of a layer with `fan_in` inputs a unit.

  "torch_linear" is PyTorch's default, U(+-1/sqrt(fan_in)) for weights AND
  biases; the k-dropout paper's results at large k rest on it. The others have
  biases of zero.

  Raises:
    ValueError: an unknown name.
  """
  if name == "torch_linear":
    bound = 1.0 / math.sqrt(fan_in)
    return {"kernel_init": _uniform(bound), "bias_init": _uniform(bound)}
  if name not in _KERNELS:
    near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
      f"init must be one of {', '.join(NAMES)}, got {name!r}{hint}"
    )
  return {
    "kernel_init": _KERNELS[name],
    "bias_init": nn.initializers.zeros_init(),
  }


def _uniform(bound: float) -> nn.initializers.Initializer:
  def init(key, shape, dtype=float, out_sharding=None):
    del out_sharding
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
