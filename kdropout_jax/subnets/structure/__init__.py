"""Layouts read off a model's program, without a number being computed.

`programs` traces a model with its dropouts marked and flattens the result,
`groups` follows the units through it, one rule an operation, and `reading`
makes a layout of that, or says that it cannot.
"""

__all__ = ()
