"""Experiments: a folder a paper, over what all of them share."""
