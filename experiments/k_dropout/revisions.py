"""Verdicts that this project changed: what they said, until when, and why.

A rule is written down before new runs; where it is changed afterwards, the old
verdict stays here beside the new one.
"""

from typing import NamedTuple

from experiments.k_dropout import arms
from experiments.report import page as page_lib
from experiments.report import tables


class Revision(NamedTuple):
  """A verdict that is given otherwise now.

  Attributes:
    until: the last day of the old one.
    what: the claim, in words.
    old: the old verdict.
    now: names of the claims that replace it, or words.
    why: the reason.
  """

  until: str
  what: str
  old: str
  now: tuple[str, ...] | str
  why: str


REVISIONS = (
  Revision(
    "2026-11-26",
    "why large m hurts at large k (cpu scale)",
    "the tie of an image to its mask",
    "no cause at the cpu scale; the tie at the paper's",
    "at the cpu scale frozen m = 128 is above m = 1, so there was nothing to"
    " be caused; the contrast between orders was exploratory, and the paper's"
    " scale has confirmed it",
  ),
  Revision(
    "2026-11-26",
    "subnets trained first and last end better than those between (figure 3;"
    " cpu scale)",
    "holds",
    ("primacy", "recency"),
    "one number pooled both ends, so that recency alone made it hold; two"
    " claims now, at figure 3's shares of the run (T / 12 and T / 6), on"
    " the runs that were there",
  ),
  Revision(
    "2026-11-26",
    "pools of 50 are within 1.5 points; every pool beats no dropout; 60 subnets"
    " suffice (restarts; cpu scale)",
    "cannot be told; holds; cannot be told",
    "not judged a second time",
    "its runs are cells of the sweeps, with their seeds, so that one run stood"
    " under two verdicts",
  ),
)

_JUDGED_ELSEWHERE = "restarts"


def judged(found: page_lib.Found) -> page_lib.Found:
  """Returns the numbers of all experiments with the verdicts of today."""
  again = found.get(_JUDGED_ELSEWHERE)
  if again:
    found = {**found, _JUDGED_ELSEWHERE: {**again, "verdicts": []}}
  return arms.judged(found)


def section(found: page_lib.Found) -> list[str]:
  """Returns the section of a page: old and new, with the reason."""
  return [
    "## Verdicts that were changed",
    tables.text(
      ("until", "claim", "said then", "says now", "because"),
      [(r.until, r.what, r.old, _now(r, found), r.why) for r in REVISIONS],
    ),
  ]


def _now(revision: Revision, found: page_lib.Found) -> str:
  if isinstance(revision.now, str):
    return revision.now
  outcomes = {
    verdict["claim"]["name"]: verdict["outcome"]
    for numbers in found.values()
    for verdict in (numbers or {}).get("verdicts", ())
  }
  return "; ".join(
    f"{name}: {outcomes.get(name, page_lib.NOT_RUN)}" for name in revision.now
  )
