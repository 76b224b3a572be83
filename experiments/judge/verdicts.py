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

One claim, one test: where a claim averages over settings, d is the mean over
them, seed by seed. Where several settings are left, both p values, for the
claim and against it, are Holm's over them, and an outcome that its p value
does not bear out cannot be told.
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
    p: two-sided against d = 0, of TOST, or one-sided against -margin; Holm's.
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
  """A claim and what became of it.

  Attributes:
    claim: the claim.
    outcome: of all tests together.
    reason: in words.
    findings: of the tests.
    details: of the single settings behind a test that averages over some, by
      the same rules and with Holm's p values; they decide nothing.
  """

  claim: contrasts.Claim
  outcome: Outcome
  reason: str
  findings: Mapping[str, Finding]
  details: Mapping[str, Finding] = dataclasses.field(default_factory=dict)

  def as_json(self) -> dict[str, Any]:
    """Returns plain data for a results file."""
    return dataclasses.asdict(self)


def judge(
  claim: contrasts.Claim,
  found: Mapping[str, Float[np.ndarray, "S"]],
  *,
  at_paper_scale: bool,
  hits: Mapping[str, Float[np.ndarray, "S N"]] | None = None,
  void: Mapping[str, str] | None = None,
  resample: bool = True,
) -> Verdict:
  """Applies the rules.

  Args:
    claim: the claim.
    found: {label: paired differences [S]}, see `contrasts.differences`.
    at_paper_scale: whether the run has the paper's own scale.
    hits: {label: [S, N]}, differences on each test image in the unit of
      `found`, for the bootstrap.
    void: {label: reason} of settings in which nothing can be told of any
      claim; their p values enter no correction.
    resample: whether to give bootstrap intervals, which decide nothing.
  """
  images, void = (hits or {}) if resample else None, void or {}
  details: dict[str, Finding] = {}
  if claim.average:
    details = _judge_all(claim, found, images, void)
    found = contrasts.averaged(claim, found)
    images = images and contrasts.averaged(claim, images)
  findings = _judge_all(claim, found, images, void)
  if claim.absolute and not at_paper_scale:
    reason = "about an absolute setting: told at the paper's scale only"
    return unknown(claim, reason, findings, details)
  outcome, reason = _combine(claim, findings)
  return Verdict(claim, outcome, reason, findings, details)


def unknown(
  claim: contrasts.Claim,
  reason: str,
  findings: Mapping[str, Finding],
  details: Mapping[str, Finding],
) -> Verdict:
  """Returns that nothing can be told, of no setting, and why."""
  findings, details = (
    {
      name: dataclasses.replace(f, outcome=UNKNOWN, reason=reason)
      for name, f in found.items()
    }
    for found in (findings, details)
  )
  return Verdict(claim, UNKNOWN, reason, findings, details)


def _judge_all(
  claim: contrasts.Claim, found, images, void
) -> dict[str, Finding]:
  """Judges every setting, and holds what is found to Holm's p values."""
  findings: dict[str, Finding] = {}
  against: dict[str, float] = {}
  for name, values in found.items():
    values = np.asarray(values)
    finding, p_against = _judge_one(claim, name, values)
    if images is not None and values.size >= MIN_SEEDS:
      bounds = statistics.bootstrap(images.get(name, values[:, None]))[1:]
      finding = dataclasses.replace(finding, bootstrap=bounds)
    if name in void:
      finding = dataclasses.replace(finding, outcome=UNKNOWN, reason=void[name])
    elif p_against is not None:
      against[name] = p_against
    findings[name] = finding
  for_it = statistics.holm([findings[name].p or 0.0 for name in against])
  for name, p, p_against in zip(
    against, for_it, statistics.holm(list(against.values()))
  ):
    findings[name] = _held_to(findings[name], float(p), float(p_against))
  return findings


def _held_to(finding: Finding, p: float, p_against: float) -> Finding:
  finding = dataclasses.replace(finding, p=p)
  decisive = {HOLDS: p, FAILS: p_against}.get(finding.outcome, 0.0)
  if decisive <= _LEVEL:
    return finding
  reason = f"{finding.reason}, but p = {decisive:.3f} after Holm's correction"
  return dataclasses.replace(finding, outcome=UNKNOWN, reason=reason)


def _judge_one(
  claim: contrasts.Claim, name: str, values
) -> tuple[Finding, float | None]:
  """Returns the finding, its p not corrected, and the p value against it."""
  if values.size < MIN_SEEDS:
    reason = f"{values.size} seeds, fewer than {MIN_SEEDS}"
    mean = float(values.mean()) if values.size else None
    few = Finding(
      UNKNOWN, reason, values.size, mean, differences=tuple(values.tolist())
    )
    return few, None
  wide = statistics.t_interval(values, 0.95)
  narrow = statistics.t_interval(values, 0.90)
  outcome, reason, p, p_against = _RULES[claim.rule](
    claim, name, values, wide, narrow
  )
  finding = Finding(
    outcome,
    reason,
    values.size,
    wide.estimate,
    wide[1:],
    narrow[1:],
    p=p,
    differences=tuple(values.tolist()),
  )
  return finding, p_against


def _superior(claim: contrasts.Claim, name: str, values, wide, narrow):
  del narrow
  half = claim.expected(name) / 2
  above = statistics.p_above(values)
  p = 2 * min(above, 1 - above)
  against = _twice(statistics.p_above(half - values))
  if wide.low > 0:
    return HOLDS, "the 95 % interval lies above 0", p, against
  if wide.high < half:
    return FAILS, f"the 95 % interval ends below {half:.2f}", p, against
  return UNKNOWN, _seeds_hint(claim.expected(name), values, wide), p, against


def _equivalent(claim: contrasts.Claim, name: str, values, wide, narrow):
  del name
  margin = claim.margin
  assert margin is not None
  p = statistics.p_equivalent(values, margin)
  beyond = min(
    statistics.p_above(values, margin), statistics.p_above(-values, margin)
  )
  against = _twice(beyond)
  if -margin < narrow.low and narrow.high < margin:
    return HOLDS, f"the 90 % interval lies within {margin:g}", p, against
  if wide.low > margin or wide.high < -margin:
    return FAILS, f"the 95 % interval lies beyond {margin:g}", p, against
  crossed = f"the 95 % interval crosses the margin of {margin:g}"
  return UNKNOWN, crossed, p, against


def _not_worse(claim: contrasts.Claim, name: str, values, wide, narrow):
  del name
  margin = claim.margin
  assert margin is not None
  p = statistics.p_above(values, -margin)
  against = _twice(statistics.p_above(-values, margin))
  if narrow.low > -margin:
    return HOLDS, f"the 90 % interval lies above -{margin:g}", p, against
  if wide.high < -margin:
    return FAILS, f"the 95 % interval lies below -{margin:g}", p, against
  return UNKNOWN, f"the 95 % interval crosses -{margin:g}", p, against


def _twice(one_sided: float) -> float:
  """Returns the p value that is below .05 where a 95 % interval is beyond."""
  return min(1.0, 2 * one_sided)


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
    unclear = total - holding - failing
    reason = (
      f"of {total} settings {holding} hold, {failing} do not, {unclear} cannot"
      f" be told; {needed} must hold"
    )
  if holding >= needed:
    return HOLDS, reason
  return (FAILS if failing > total - needed else UNKNOWN), reason
