"""Barriers along the lines of `lines`, by both definitions that are in use.

How far the error rises between two networks is measured against the mean of
the errors at both ends (Frankle et al. 2020, "Linear mode connectivity and
the lottery ticket hypothesis", who call less than 2 % stable), or against the
straight line between them (Entezari et al. 2022, "The role of permutation
invariance in linear mode connectivity"). They differ where the ends do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.report import rows as rows_lib

NOTE = (
  "A barrier is how far loss, or error (a share of images), rises between two"
  " networks: above the mean of its ends (Frankle et al. 2020), or above the"
  " straight line between them (Entezari et al. 2022), at the point of the line"
  " where that is most. Movement is the L2 norm of the change over that of what"
  " was at the window's end: of the subnet's own weights, and of its mean"
  " activations in the last hidden layer."
)


def over_mean(values: Float[np.ndarray, "A"]) -> float:
  """Returns the largest value minus the mean of both ends, at least 0.

  Args:
    values: loss or error at each point of the line.

  >>> over_mean([0.5, 0.75, 0.25])
  0.375
  """
  values = np.asarray(values, np.float64)
  return max(0.0, float(values.max() - (values[0] + values[-1]) / 2))


def over_line(values: Float[np.ndarray, "A"]) -> float:
  """Returns the largest rise above the straight line of the ends, at least 0.

  >>> over_line([0.5, 0.75, 0.25])
  0.375
  """
  values = np.asarray(values, np.float64)
  straight = np.linspace(values[0], values[-1], len(values))
  return max(0.0, float((values - straight).max()))


def of_numbers(numbers: Mapping[str, Any]) -> list[rows_lib.Row]:
  """Returns what the claims read, of an experiment that left its numbers."""
  own = numbers["numbers"]["rows"]
  rows = claim_rows(own, max(row["step"] for row in own))
  return [*rows, *control_rows(numbers["numbers"].get("control", ()))]


def control_rows(control: Sequence[Mapping[str, Any]]) -> list[rows_lib.Row]:
  """Returns what the positive control's claim reads, in points."""
  return [
    {
      "method": "standard",
      "seed": one["seed"],
      "control_barrier_over_2": 100 * over_line(one["line"]["error"]) - 2.0,
    }
    for one in control
  ]


def control_note(control: Sequence[Mapping[str, Any]]) -> str:
  """Returns what two independent runs have between them."""
  if not control:
    return _NO_CONTROL
  errors = [one["line"]["error"] for one in control]
  means = [
    100 * np.mean([f(e) for e in errors]) for f in (over_line, over_mean)
  ]
  return (
    "Positive control: between whole networks of two independent runs (standard"
    f" dropout) the error rises {means[0]:.1f} points above the straight line,"
    f" {means[1]:.1f} above the mean of the ends, means over {len(errors)}"
    " pairs."
  )


_NO_CONTROL = (
  "Positive control, two independent runs of standard dropout: not run."
)


def claim_rows(
  rows: Sequence[rows_lib.Row], num_steps: int
) -> list[rows_lib.Row]:
  """Returns the first subnet's error barriers to the run's end, in points."""
  return [
    {
      "method": "sequential",
      "m": 1,
      "k": row["k"],
      "k_over_T": row["k"] / num_steps,
      "seed": row["seed"],
      "error_barrier_of_first": 100 * over_line(row["line"]["error"]),
      "error_over_mean_of_first": 100 * over_mean(row["line"]["error"]),
    }
    for row in rows
    if row["subnet"] == 0 and row["step"] == num_steps
  ]
