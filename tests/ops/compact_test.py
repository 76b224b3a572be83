"""The laws of the masked product, held by the compact implementation."""

from tests.ops import conformance


class TestCompact(conformance.Conformance):
  implementation = "compact"
  exact_only = True
