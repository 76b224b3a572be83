"""Flax modules, thin: fields, a key, and a call into the functional core."""

__all__ = (
  "linen",
  "nnx",
)
