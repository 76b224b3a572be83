"""Modules for flax.nnx, public as ``kd.nnx``; imported on first use."""

from kdropout_jax.nn._nnx_dense import DropConnectDense
from kdropout_jax.nn._nnx_dense import MaskedDense
from kdropout_jax.nn._nnx_dropout import Dropout
from kdropout_jax.nn._nnx_dropout import SpatialDropout

__all__ = (
  "DropConnectDense",
  "Dropout",
  "MaskedDense",
  "SpatialDropout",
)
