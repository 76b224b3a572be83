"""Verdicts on claims, by rules that are fixed before any run.

d is the mean over seeds of the paired difference a - b, and stands for the
claim where it is positive. The rules, tried in this order:

  superior    holds: the 95 % t interval lies above 0. Does not hold: its
              upper end is below half the paper's difference.
  equivalent  holds: the 90 % interval lies inside (-margin, margin), which
              is TOST at 5 %. Does not hold: the 95 % interval lies outside.
  not_worse   holds: the 90 % interval lies above -margin. Does not hold: the
              95 % interval lies below it.

Else, and with fewer than 5 seeds, and for a claim about an absolute setting
at another scale than the paper's: cannot be told.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from experiments.judge import contrasts
from experiments.judge import power
from experiments.judge import statistics

Outcome = Literal["holds", "does not hold", "cannot be told"]
HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told"

MIN_SEEDS = 5
_LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Finding:
  """What the seeds say about one setting of a claim.

  Attributes:
    outcome: by the rules.
    reason: in words.
    num_seeds: number of pairs.
    mean: d; None without seeds, like the intervals.
    interval_95: Student's t.
    interval_90: Student's t.
    bootstrap: over seeds and test images where hits were given, else over
      seeds alone.
    p: two-sided against d = 0, or of TOST; Holm-adjusted in an "any" family.
    differences: one a seed.
  """

  outcome: Outcome
  reason: str
  num_seeds: int
  mean: float | None = None
  interval_95: tuple[float, float] | None = None
  interval_90: tuple[float, float] | None = None
  bootstrap: tuple[float, float] | None = None
  p: float | None = None
  differences: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A claim, what became of it, and the finding of each setting."""

  claim: contrasts.Claim
  outcome: Outcome
  reason: str
  findings: Mapping[str, Finding]

  def as_json(self) -> dict[str, Any]:
    """Returns plain data for a results file."""
    return dataclasses.asdict(self)


def judge(
  claim: contrasts.Claim,
  found: Mapping[str, Float[np.ndarray, "S"]],
  *,
  at_paper_scale: bool,
  hits: Mapping[str, Float[np.ndarray, "S N"]] | None = None,
) -> Verdict:
  """Applies the rules.

  Args:
    claim: the claim.
    found: {label: paired differences [S]}, see `contrasts.differences`.
    at_paper_scale: whether the run has the paper's own scale.
    hits: {label: [S, N]}, differences on each test image in the unit of
      `found`, for the bootstrap.
  """
  findings = {
    name: _judge_one(claim, name, np.asarray(values), (hits or {}).get(name))
    for name, values in found.items()
  }
  if claim.family == "any":
    findings = _correct(findings)
  if claim.absolute and not at_paper_scale:
    reason = "about an absolute setting: told at the paper's scale only"
    findings = {
      name: dataclasses.replace(f, outcome=UNKNOWN, reason=reason)
      for name, f in findings.items()
    }
    return Verdict(claim, UNKNOWN, reason, findings)
  return Verdict(claim, *_combine(claim, findings), findings)


def _judge_one(claim: contrasts.Claim, name: str, values, hits) -> Finding:
  if values.size < MIN_SEEDS:
    reason = f"{values.size} seeds, fewer than {MIN_SEEDS}"
    mean = float(values.mean()) if values.size else None
    return Finding(
      UNKNOWN, reason, values.size, mean, differences=tuple(values.tolist())
    )
  wide = statistics.t_interval(values, 0.95)
  narrow = statistics.t_interval(values, 0.90)
  outcome, reason, p = _RULES[claim.rule](claim, name, values, wide, narrow)
  resampled = statistics.bootstrap(values[:, None] if hits is None else hits)[
    1:
  ]
  return Finding(
    outcome,
    reason,
    values.size,
    wide.estimate,
    wide[1:],
    narrow[1:],
    resampled,
    p,
    tuple(values.tolist()),
  )


def _superior(claim: contrasts.Claim, name: str, values, wide, narrow):
  del narrow
  half = claim.expected(name) / 2
  above = statistics.p_above(values)
  p = 2 * min(above, 1 - above)
  if wide.low > 0:
    return HOLDS, "the 95 % interval lies above 0", p
  if wide.high < half:
    return FAILS, f"the 95 % interval ends below {half:.2f}", p
  return UNKNOWN, _seeds_hint(claim.expected(name), values, wide), p


def _equivalent(claim: contrasts.Claim, name: str, values, wide, narrow):
  del name
  margin = claim.margin
  assert margin is not None
  p = statistics.p_equivalent(values, margin)
  if -margin < narrow.low and narrow.high < margin:
    return HOLDS, f"the 90 % interval lies within {margin:g}", p
  if wide.low > margin or wide.high < -margin:
    return FAILS, f"the 95 % interval lies beyond {margin:g}", p
  return UNKNOWN, f"the interval crosses the margin of {margin:g}", p


def _not_worse(claim: contrasts.Claim, name: str, values, wide, narrow):
  del name
  margin = claim.margin
  assert margin is not None
  p = statistics.p_above(values, -margin)
  if narrow.low > -margin:
    return HOLDS, f"the 90 % interval lies above -{margin:g}", p
  if wide.high < -margin:
    return FAILS, f"the 95 % interval lies below -{margin:g}", p
  return UNKNOWN, f"the interval crosses -{margin:g}", p


_RULES = {
  "superior": _superior,
  "equivalent": _equivalent,
  "not_worse": _not_worse,
}


def _seeds_hint(expected: float, values, wide: statistics.Interval) -> str:
  """Says how many seeds the paper's difference would need."""
  sd = float(values.std(ddof=1))
  if wide.high < 0:
    return f"the 95 % interval lies below 0, not below {expected / 2:.2f}"
  if expected <= 0 or sd == 0:
    return "the 95 % interval reaches 0"
  needed = power.seeds_needed(expected, sd)
  return (
    f"a difference of {expected:.2f} at this sd of {sd:.2f} needs about"
    f" {needed} seeds"
  )


def _correct(findings: Mapping[str, Finding]) -> dict[str, Finding]:
  """Holds an existence claim's settings to Holm's p values."""
  judged = [name for name, f in findings.items() if f.p is not None]
  adjusted = statistics.holm([findings[name].p or 0.0 for name in judged])
  corrected = dict(findings)
  for name, p in zip(judged, adjusted):
    finding = dataclasses.replace(findings[name], p=float(p))
    if finding.outcome == HOLDS and p > _LEVEL:
      reason = f"p = {p:.3f} after Holm's correction"
      finding = dataclasses.replace(finding, outcome=UNKNOWN, reason=reason)
    corrected[name] = finding
  return corrected


def _combine(claim: contrasts.Claim, findings: Mapping[str, Finding]):
  """Returns the outcome over all settings, and why."""
  outcomes = [f.outcome for f in findings.values()]
  total = len(outcomes)
  if total == 0:
    return UNKNOWN, "not run"
  holding, failing = outcomes.count(HOLDS), outcomes.count(FAILS)
  share = {"all": 1.0, "any": 0.0}.get(claim.family, claim.family)  # pyright: ignore[reportCallIssue, reportArgumentType]
  needed = max(1, math.ceil(share * total - 1e-9))
  if total == 1:
    reason = next(iter(findings.values())).reason
  else:
    unknown = total - holding - failing
    reason = (
      f"of {total} settings {holding} hold, {failing} do not, {unknown} cannot"
      f" be told; {needed} must hold"
    )
  if holding >= needed:
    return HOLDS, reason
  return (FAILS if failing > total - needed else UNKNOWN), reason
