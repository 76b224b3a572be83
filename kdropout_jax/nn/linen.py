"""Modules for flax.linen, public as ``kd.linen``."""

from kdropout_jax.nn._linen_dropout import Dropout
from kdropout_jax.nn._linen_dropout import SpatialDropout

__all__ = ("Dropout", "SpatialDropout")
