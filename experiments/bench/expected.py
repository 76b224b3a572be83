"""What a step may take on an H200, from launches: a model, not a measurement.

Conventional dropout's step and the small network alone were timed
(docs/results/gpu.md). Masks add or spare launches to the first; small networks
add launches to the second, and the update of the weights that it lacks.
"""

from collections.abc import Mapping
from typing import Any

from experiments.bench import steps

LAUNCH_MS = 0.0035
"""A launch took 3 to 4 microseconds."""
CONVENTIONAL_MS = {"float32": 0.27, "bfloat16": 0.213, "wide": 1.37}
SMALL_MS = {"float32": 0.157, "bfloat16": 0.125, "wide": 0.585}
"""{the k-dropout network's dtype, or the wide one: milliseconds, timed}."""
_BYTES_PER_MS = 4.3e9
_ADAM_BYTES = 7 * 4  # Reads gradient, weight, two moments; writes three.


def milliseconds(
  net: steps.Network, row: Mapping[str, Any], base: Mapping[str, Any]
) -> float | None:
  """Returns what a step may take; None for what the model does not reach.

  Args:
    net: the network.
    row: launches of the method.
    base: launches of conventional dropout, or of the small network alone
      where subnets run as small networks.
  """
  key = net.dtype if net.name == "kdropout" else net.name
  more = (row["launches"] - base["launches"]) * LAUNCH_MS
  if row["method"] == "small T=1":
    left = _weights(net, 1.0) - _weights(net, 1 - net.rate)
    return SMALL_MS[key] + more + left * _ADAM_BYTES / _BYTES_PER_MS
  apart = ("small", "extracted", "compact", "disjoint")
  if any(word in row["method"] for word in apart):
    return None
  return CONVENTIONAL_MS[key] + more


def speedup(net: steps.Network, value: float | None) -> str:
  """Returns ``0.26 (1.04)``: milliseconds, and times conventional dropout."""
  if value is None:
    return "-"
  key = net.dtype if net.name == "kdropout" else net.name
  return f"{value:.3g} ({CONVENTIONAL_MS[key] / value:.2f})"


def _weights(net: steps.Network, share: float) -> float:
  hidden = net.hidden * share
  return net.inputs * hidden + (net.num_hidden - 1) * hidden**2 + 10 * hidden
