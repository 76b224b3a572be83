"""The page over all results of a paper, from the numbers that lie beside it."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.judge import contrasts
from experiments.report import again
from experiments.report import tables
from kdropout_jax.training import files

NOT_RUN = "not run"
AFTERWARDS = "after the runs"
"""Source of claims that the runs suggested on which they are judged first."""

Found = Mapping[str, Any]
"""{name of the files: their JSON, or None}."""


@dataclasses.dataclass(frozen=True)
class Paper:
  """What there is to say of a paper.

  Attributes:
    introduction: the heading and what follows it.
    experiments: {name of the files: (binary with flags, what of the paper)}.
    before: sections between what was run and the verdicts.
    after: sections below the verdicts.
    further: names of files whose numbers the sections read, too.
    claims: {name: claim} of today, by which all numbers are judged again.
    sources: {name of the files: what its numbers can tell today}.
    why: reasons of verdicts that changed, see `again.changes`.
    replaced: {name of a claim that is no more: those in its place}.
    first: (name of the files, claim) of the most important verdicts, which
      stand in words before the others.
  """

  introduction: str
  experiments: Mapping[str, tuple[str, str]]
  before: Callable[[Found], Sequence[str]]
  after: Callable[[Found], Sequence[str]]
  further: Sequence[str] = ()
  claims: Mapping[str, contrasts.Claim] = dataclasses.field(
    default_factory=dict
  )
  sources: Mapping[str, again.Source] = dataclasses.field(default_factory=dict)
  why: Mapping[str, str] = dataclasses.field(default_factory=dict)
  replaced: Mapping[str, Sequence[str]] = dataclasses.field(
    default_factory=dict
  )
  first: Sequence[tuple[str, str]] = ()


def text(paper: Paper, folder: pathlib.Path) -> str:
  """Returns the page over what lies in `folder`."""
  names = (*paper.experiments, *paper.further)
  found = _judged(paper, {name: read(folder, name) for name in names})
  ours = {name: found[name] for name in paper.experiments}
  parts = [
    paper.introduction,
    "## What was run",
    tables.text(
      ("experiment", "paper", "result", "scale", "seeds", "minutes", "device"),
      [
        _line(name, command, found[name], folder)
        for name, command in paper.experiments.items()
      ],
    ),
    "Minutes are the sum over the processes that shared an experiment, one a"
    " core where there were two.",
    *paper.before(found),
    "## Verdicts",
    _counts(ours),
    *_first(paper, ours),
    tables.text(
      ("claim", "verdict", "scale", "told by", "because"), _verdicts(ours)
    ),
    *_unclaimed(ours),
    *_changed(paper, found),
    *paper.after(found),
  ]
  return "\n\n".join(parts) + "\n"


def _judged(paper: Paper, found: Found) -> Found:
  """Returns all numbers with the verdicts of today."""
  return {
    name: numbers
    if numbers is None or "verdicts" not in numbers
    else {**numbers, "verdicts": _again(paper, name, numbers)}
    for name, numbers in found.items()
  }


def _again(paper: Paper, name: str, numbers: again.Numbers) -> list[Any]:
  verdicts = again.judged(numbers, paper.claims, paper.sources.get(name))
  return [verdict.as_json() for verdict in verdicts]


def _first(paper: Paper, found: Found) -> list[str]:
  """Returns the most important verdicts in words."""
  lines = []
  for name, claim in paper.first:
    numbers = found.get(name) or {}
    lines += [
      f"{len(lines) + 1}. {_sentence(verdict)} ({_scale(numbers)}, {name})"
      for verdict in numbers.get("verdicts", ())
      if verdict["claim"]["name"] == claim
    ]
  return ["The most important first:", "\n".join(lines)] if lines else []


def _sentence(verdict: Mapping[str, Any]) -> str:
  text = verdict["claim"]["text"]
  told = _intervals(verdict["findings"])
  return f"*{text}*: **{verdict['outcome']}**{told}."


def _unclaimed(found: Found) -> list[str]:
  """Returns the section on what the runs showed before it was a claim."""
  lines = [
    f"- {verdict['claim']['text']} ({_scale(numbers)}, {name}):"
    f" {verdict['outcome']}{_intervals(verdict['findings'])}."
    for name, numbers in found.items()
    for verdict in (numbers or {}).get("verdicts", ())
    if verdict["claim"]["source"] == AFTERWARDS
  ]
  if not lines:
    return []
  return ["## What nobody had claimed", _UNCLAIMED, "\n".join(lines)]


def _intervals(findings: Mapping[str, Any]) -> str:
  """Returns the means with their intervals, the range of many."""
  told = [f for f in findings.values() if f["interval_95"]]
  if len(told) > _MAX_INTERVALS:
    means = [f["mean"] for f in told]
    return f"; {min(means):+.2f} to {max(means):+.2f} over {len(told)} settings"
  return "".join(
    "; {:+.2f} [{:+.2f}, {:+.2f}]".format(f["mean"], *f["interval_95"])
    for f in told
  )


_UNCLAIMED = (
  "Written down after the runs that are judged here: it describes them, and"
  " waits for fresh seeds. Mean paired differences with 95 % t intervals."
)
_MAX_INTERVALS = 4


def _changed(paper: Paper, found: Found) -> list[str]:
  """Returns the section on verdicts that were given otherwise, if there are."""
  lines = [
    [
      old["until"],
      f"{old['text']} ({name})",
      old["outcome"],
      _now(paper, old["claim"], numbers),
      old["why"],
    ]
    for name, numbers in found.items()
    for old in (numbers or {}).get("revised", ())
  ]
  if not lines:
    return []
  header = ("until", "claim", "said then", "says now", "because")
  return ["## Verdicts that were changed", tables.text(header, lines)]


def _now(paper: Paper, name: str, numbers: again.Numbers) -> str:
  outcomes = {v["claim"]["name"]: v["outcome"] for v in numbers["verdicts"]}
  if name in outcomes:
    return outcomes[name]
  return (
    "; ".join(
      f"{other}: {outcomes.get(other, NOT_RUN)}"
      for other in paper.replaced.get(name, ())
    )
    or "not judged here"
  )


def read(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
  """Returns the numbers of an experiment, or None.

  Raises:
    ValueError: the file holds no JSON object.
  """
  file = folder / f"{name}.json"
  found = files.read_object(file)
  if found is None and files.is_there(file):
    raise ValueError(f"{file} is damaged: run its experiment again")
  return found


def rows(found: Found, name: str, **fields: Any) -> list[dict[str, Any]]:
  """Returns an experiment's measured rows that have these fields."""
  numbers = (found.get(name) or {}).get("numbers", {})
  return [
    row
    for row in numbers.get("rows", ())
    if all(row.get(k) == v for k, v in fields.items())
  ]


def without_paper_scale(
  paper_experiments: Mapping[str, tuple[str, str]],
  found: Found,
  but: Sequence[str] = (),
) -> str:
  """Returns the commands of what nobody ran at the paper's scale."""
  return "\n".join(
    f"    python -m experiments.{command} --scale=paper"
    for name, (command, _) in paper_experiments.items()
    if (found[name] or {}).get("scale") != "paper" and name not in but
  )


def _line(
  name: str, command: tuple[str, str], found: Any, folder: pathlib.Path
) -> list[str]:
  binary, what = command
  binary = f"`experiments.{binary}`"
  if found is None:
    return [binary, what, NOT_RUN, "", "", "", ""]
  page_file = folder / f"{name}.md"
  link = f"[{page_file.name}]({page_file.name})" if page_file.exists() else name
  seeds = found.get("seeds", "")
  count = str(len(seeds)) if isinstance(seeds, list) else str(seeds)
  facts = [str(found.get(key, "")) for key in ("scale", "minutes", "device")]
  return [binary, what, link, facts[0], count, *facts[1:]]


def _counts(found: Found) -> str:
  """Returns how many verdicts of each kind there are, scale by scale."""
  counts: dict[str, collections.Counter[str]] = {}
  for numbers in found.values():
    for verdict in (numbers or {}).get("verdicts", ()):
      own = counts.setdefault(_scale(numbers), collections.Counter())
      own[verdict["outcome"]] += 1
  return "\n".join(
    f"- {scale}: "
    + ", ".join(f"{count} {outcome}" for outcome, count in own.most_common())
    for scale, own in counts.items()
  )


def _verdicts(found: Found) -> list[list[str]]:
  lines = []
  for name, numbers in found.items():
    for verdict in (numbers or {}).get("verdicts", ()):
      claim = verdict["claim"]
      words = f"{claim['text']} ({claim['source']})"
      outcome = f"**{verdict['outcome']}**"
      reason = verdict["reason"]
      lines.append([words, outcome, _scale(numbers), name, reason])
  return lines or [["none yet", "", "", "", ""]]


def _scale(numbers: Mapping[str, Any]) -> str:
  """Returns the scale; what is timed has none, and its own page says what."""
  return numbers.get("scale", "timed")
