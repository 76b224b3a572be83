"""Numbers decide: probes of a model, a loss and an optimizer, in float64."""

__all__ = (
  "losses",
  "optimizers",
)
