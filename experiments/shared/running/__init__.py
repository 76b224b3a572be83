"""One run, from its configuration to a trained network and its curve."""
