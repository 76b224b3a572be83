"""Numbers decide: probes of a model, a loss and an optimizer, in float64."""
