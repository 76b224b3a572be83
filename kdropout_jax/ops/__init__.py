"""The masked product: one op, three implementations, one dispatcher."""
