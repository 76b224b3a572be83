"""Modules for flax.linen, public as ``kd.linen``."""

from kdropout_jax.nn._linen_apply import apply
from kdropout_jax.nn._linen_apply import intercept
from kdropout_jax.nn._linen_dense import DropConnectDense
from kdropout_jax.nn._linen_dense import MaskedDense
from kdropout_jax.nn._linen_dropout import Dropout
from kdropout_jax.nn._linen_dropout import SpatialDropout
from kdropout_jax.nn._linen_keys import layer_keys

__all__ = (
  "DropConnectDense",
  "Dropout",
  "MaskedDense",
  "SpatialDropout",
  "apply",
  "intercept",
  "layer_keys",
)
