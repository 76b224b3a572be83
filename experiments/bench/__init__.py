"""Timed programs of the op, of steps and iterations, and their tables."""
