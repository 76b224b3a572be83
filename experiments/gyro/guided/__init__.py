"""Weak subnets more often, and one subnet a task: what the papers suggest."""
