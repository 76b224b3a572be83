"""Modules for flax.linen, public as ``kd.linen``."""

from kdropout_jax.nn._linen_dropout import Dropout

__all__ = ("Dropout",)
