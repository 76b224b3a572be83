"""Kernels for CUDA devices, reached through the dispatcher alone."""

__all__ = ()
