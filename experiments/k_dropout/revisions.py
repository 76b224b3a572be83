"""What each experiment's numbers tell today, and why verdicts changed.

A rule is written down before new runs; where it is changed afterwards, the
numbers that are there are judged again, and the old verdict stays in the
results file beside the new one, dated.
"""

from typing import NamedTuple

from experiments.k_dropout import arms
from experiments.k_dropout import claims
from experiments.k_dropout import lines_words
from experiments.k_dropout import seen
from experiments.report import again
from experiments.report import page as page_lib
from experiments.report import rows as rows_lib
from experiments.report import tables

CLAIMS = {claim.name: claim for claim in claims.CLAIMS}

REPLACED = {"u_shape": arms.CLAIMS}
"""{name of a claim that is no more: those in its place}."""

WHY = {
  "restarts": "its runs are cells of the sweeps, with their seeds, so that one"
  " run stood under two verdicts; it is judged there alone",
  "u_shape": "one number pooled both ends, so that recency alone made it hold;"
  " two claims now, at figure 3's shares of the run (T / 12 and T / 6), on the"
  " runs that were there",
  "sequential_is_like_pooled": "k = T against P = 1 is one run, not two;"
  " p values are Holm's over the settings that are left",
  "m_does_not_matter_to_pools": "m copies of one subnet are one, so that P = 1"
  " tells nothing; p values are Holm's over the settings that are left",
  "transition_at_485": "the grid of the order `rows` starts at k = 40, and no"
  " transition can be told where the first k is behind already",
  "": "one claim, one test: the mean over m, seed by seed, and Holm over the"
  " settings that are left",
}
"""{name of an experiment or a claim: why its verdict changed}."""


def _rows(numbers: again.Numbers) -> list[rows_lib.Row]:
  own = numbers["numbers"]
  return [*own["rows"], *own.get("derived", ())]


def _dynamics(numbers: again.Numbers) -> list[rows_lib.Row]:
  own = [row for row in _rows(numbers) if not {*arms.CLAIMS} & row.keys()]
  return [*own, *arms.of_numbers(numbers)]


SOURCES = {
  "sequential": again.Source(claims.TOLD["sequential"], _rows),
  "pooled": again.Source(claims.TOLD["pooled"], _rows),
  "rate": again.Source(claims.TOLD["rate"], _rows),
  "restarts": again.Source((), _rows),
  "subnet_dynamics": again.Source(claims.TOLD["subnet_dynamics"], _dynamics),
  "ensembles": again.Source(claims.TOLD["ensembles"], seen.ensembles),
  "interference": again.Source(claims.TOLD["interference"], seen.interference),
  "interference_once": again.Source(
    claims.TOLD["interference"], seen.interference
  ),
  "connectivity": again.Source(
    claims.TOLD["connectivity"], lines_words.of_numbers
  ),
  "paper_scale": again.Source(claims.TOLD["paper_scale"], _rows),
}
"""{name of the files: its claims, and the rows that they read}."""


class Revision(NamedTuple):
  """A finding in words, no claim, that is given otherwise now.

  Attributes:
    until: the last day of the old one.
    what: in words.
    old: what was said.
    now: what is said.
    why: the reason.
  """

  until: str
  what: str
  old: str
  now: str
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
)


def section(found: page_lib.Found) -> list[str]:
  """Returns what was said in words and is said otherwise now."""
  if not any(found.values()):
    return []
  header = ("until", "what", "said then", "said now", "because")
  return [
    "## Words that were changed",
    tables.text(header, [tuple(revision) for revision in REVISIONS]),
  ]
