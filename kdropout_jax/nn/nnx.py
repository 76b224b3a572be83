"""Modules for flax.nnx, public as ``kd.nnx``; imported on first use."""

from kdropout_jax.nn._nnx_dense import DropConnectDense
from kdropout_jax.nn._nnx_dense import MaskedDense
from kdropout_jax.nn._nnx_dropout import Dropout
from kdropout_jax.nn._nnx_dropout import SpatialDropout
from kdropout_jax.nn._nnx_retrofit import layer_keys
from kdropout_jax.nn._nnx_retrofit import retrofit
from kdropout_jax.nn._nnx_retrofit import set_step
from kdropout_jax.nn._nnx_retrofit import set_subnets

__all__ = (
  "DropConnectDense",
  "Dropout",
  "MaskedDense",
  "SpatialDropout",
  "layer_keys",
  "retrofit",
  "set_step",
  "set_subnets",
)
