"""The masked product: one op, three implementations, one dispatcher."""

__all__ = (
  "explain",
  "matmul",
)
