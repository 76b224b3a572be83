"""What each experiment's numbers tell today, and why verdicts changed."""

from experiments.gyro import claims
from experiments.gyro.accuracy import report as accuracy
from experiments.gyro.accuracy import validity
from experiments.gyro.grid import report as grid
from experiments.report import again
from experiments.report import rows as rows_lib

CLAIMS = {claim.name: claim for claim in claims.CLAIMS}

_GATED = (
  "a row tells kinds of dropout apart only where dropout helps, or trains above"
  " a floor; p values are Holm's over the rows that are left"
)
_AVERAGED = "one claim, one test: the mean over Sigma and tau, seed by seed"

WHY = {
  **dict.fromkeys(accuracy.CLAIMS, _GATED),
  "best_total": "one and four subnets for a whole run lose 17 and 7 points and"
  " decided it alone; Sigma from 16 on",
  "consecutive_beats_random": _AVERAGED,
  "consecutive_is_like_random": "one claim, one test: the mean over tau, seed"
  " by seed, and Holm over Sigma",
  "wide_blocks_cost_nothing": _AVERAGED,
  "gyro_is_as_fast": "to be faster is no failing: not slower than by 5 %, in"
  " place of equal to 5 %",
  "": "p values are Holm's over the settings",
}
"""{name of a claim: why its verdict changed}."""


def _accuracy(numbers: again.Numbers) -> list[rows_lib.Row]:
  return accuracy.with_derived(
    [r for r in numbers["numbers"]["rows"] if accuracy.enters(r)]
  )


def _void(numbers: again.Numbers) -> dict[str, str]:
  return validity.void(numbers["numbers"]["rows"])


def _grid(numbers: again.Numbers) -> list[rows_lib.Row]:
  return grid.judged(numbers["numbers"]["rows"])


SOURCES = {
  **dict.fromkeys(
    ("accuracy_table", "accuracy_table_long"),
    again.Source(accuracy.CLAIMS, _accuracy, _void),
  ),
  "gyro": again.Source(grid.CLAIMS, _grid),
}
"""{name of the files: its claims, and the rows that they read}."""
