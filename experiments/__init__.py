"""Experiments: thin binaries over `experiments.shared`."""
