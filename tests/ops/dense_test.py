"""The laws of the masked product, held by the dense implementation."""

from tests.ops import conformance


class TestDense(conformance.Conformance):
  implementation = "dense"
