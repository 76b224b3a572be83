"""Judges again, by the rules of today, what was measured before them.

A results file holds each finding's differences, one a seed, and most hold the
rows themselves: so a rule that changes needs no new run. The old verdict stays
in the file, dated, with the reason.
"""

import dataclasses
import datetime
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.judge import contrasts
from experiments.judge import verdicts as verdicts_lib
from experiments.report import rows as rows_lib
from experiments.report import tables
from experiments.report import verdict_table
from kdropout_jax.training import files

Numbers = Mapping[str, Any]
"""What an experiment's JSON holds."""

_SECTION = re.compile(
  r"\n(?P<heading>^## Verdicts[^\n]*\n\n(?:(?!\||#|No verdicts)[^\n]+\n\n)*)"
  r"(?:(?:^\|[^\n]*(?:\n|\Z))+|^No verdicts[^\n]*(?:\n|\Z))",
  re.MULTILINE,
)
"""The heading, sentences and table of verdicts on an experiment's page."""

_SAME = 1e-9


class Source(NamedTuple):
  """What an experiment's numbers can tell today.

  Attributes:
    claims: names of its claims.
    rows: what they read, from the numbers.
    void: {setting: reason} of what cannot be told of any; default nothing.
  """

  claims: Sequence[str]
  rows: Callable[[Numbers], Sequence[rows_lib.Row]]
  void: Callable[[Numbers], Mapping[str, str]] = lambda numbers: {}


def judged(
  numbers: Numbers,
  claims: Mapping[str, contrasts.Claim],
  source: Source | None = None,
) -> list[verdicts_lib.Verdict]:
  """Returns the verdicts of today on an experiment's numbers.

  Args:
    numbers: of the experiment.
    claims: {name: claim} of today.
    source: whose claims are judged from rows; default: the claims that were
      judged then and are there today, from their differences.
  """
  scale, old = numbers.get("scale"), numbers.get("verdicts", ())
  kept = {verdict["claim"]["name"]: verdict for verdict in old}
  found: dict[str, Mapping[str, Any]] = {}
  if source is None:
    found = {
      n: _differences(v, claims[n]) for n, v in kept.items() if n in claims
    }
  elif source.claims:
    rows = source.rows(numbers)
    found = {n: contrasts.differences(claims[n], rows) for n in source.claims}
  verdicts = []
  for name, differences in found.items():
    verdict = verdicts_lib.judge(
      claims[name],
      differences,
      at_paper_scale=scale == "paper",
      void=source.void(numbers) if source else None,
      resample=False,
    )
    verdicts.append(_with_bootstrap(verdict, kept.get(name)))
  return verdicts


def changes(
  numbers: Numbers,
  verdicts: Sequence[verdicts_lib.Verdict],
  why: Mapping[str, str],
  until: str | None = None,
) -> list[dict[str, str]]:
  """Returns each old verdict that today's do not repeat, dated, and why.

  Args:
    numbers: of the experiment, with its old verdicts.
    verdicts: of today.
    why: {name of the experiment or of a claim: reason}; "" is for all others.
    until: the last day of the old ones; default today.
  """
  today = {v.claim.name: v for v in verdicts}
  experiment = why.get(numbers.get("name", ""))
  found = []
  for old in numbers.get("verdicts", ()):
    claim = old["claim"]
    new = today.get(claim["name"])
    if new is not None and new.outcome == old["outcome"]:
      continue
    found.append(
      {
        "until": until or datetime.date.today().isoformat(),
        "claim": claim["name"],
        "text": claim["text"],
        "outcome": old["outcome"],
        "reason": old["reason"],
        "why": experiment or why.get(claim["name"], why.get("", "")),
      }
    )
  return found


def write(
  file: pathlib.Path,
  claims: Mapping[str, contrasts.Claim],
  source: Source | None,
  why: Mapping[str, str],
) -> list[dict[str, str]]:
  """Rewrites the verdicts of a results file and of the page beside it.

  Returns:
    The old verdicts that are given otherwise now; they stay in the file.
  """
  numbers = files.read_object(file)
  if numbers is None or "verdicts" not in numbers:
    return []
  verdicts = judged(numbers, claims, source)
  revised = changes(numbers, verdicts, why)
  numbers["verdicts"] = [verdict.as_json() for verdict in verdicts]
  if revised:
    numbers["revised"] = [*numbers.get("revised", ()), *revised]
  tables.write_json(file, files.plain(numbers))
  page = file.with_suffix(".md")
  if page.exists():
    text = with_verdicts(page.read_text(), verdicts)
    files.write_atomically(page, text)
  return revised


def with_verdicts(page: str, verdicts: Sequence[verdicts_lib.Verdict]) -> str:
  """Returns an experiment's page with these verdicts in the place of its own.

  What stands below its table of verdicts stays.
  """
  if not verdicts:
    return _SECTION.sub("\n", page, count=1)
  table = verdict_table.text(verdicts)
  if _SECTION.search(page):
    return _SECTION.sub(
      lambda found: f"\n{found['heading']}{table}\n", page, count=1
    )
  return f"{page.rstrip()}\n\n## Verdicts\n\n{table}\n"


def _differences(
  verdict: Mapping[str, Any], claim: contrasts.Claim
) -> dict[str, Any]:
  """Returns {single setting: differences} of a verdict of then."""
  singles = verdict.get("details") or verdict["findings"]
  return {
    name: np.array(finding["differences"])
    for name, finding in singles.items()
    if finding["differences"] and contrasts.asked(claim, name)
  }


def _with_bootstrap(
  verdict: verdicts_lib.Verdict, old: Mapping[str, Any] | None
) -> verdicts_lib.Verdict:
  """Returns it with the intervals over images that were computed then.

  Hits do not lie in a results file: a mean over settings has no such interval.
  """
  known = {} if old is None else {**old["findings"], **old.get("details", {})}

  def one(name: str, finding: verdicts_lib.Finding) -> verdicts_lib.Finding:
    before = known.get(name, {"differences": ()})
    same = len(before["differences"]) == len(finding.differences)
    if same and np.allclose(
      before["differences"], finding.differences, rtol=0, atol=_SAME
    ):
      bounds = before["bootstrap"] and tuple(before["bootstrap"])
      return dataclasses.replace(finding, bootstrap=bounds)
    return finding

  findings, details = (
    {name: one(name, f) for name, f in found.items()}
    for found in (verdict.findings, verdict.details)
  )
  return verdicts_lib.Verdict(
    verdict.claim, verdict.outcome, verdict.reason, findings, details
  )
