"""Verdicts as a table, where there are seeds enough to tell any."""

from collections.abc import Iterator, Sequence

from experiments.judge import verdicts as verdicts_lib
from experiments.report import tables

_DETAIL = "of it: "
_HEADER = (
  *("claim", "rule", "setting", "seeds", "d", "95 % interval", "bootstrap"),
  *("p", "verdict", "because"),
)


def text(verdicts: Sequence[verdicts_lib.Verdict], num_seeds: int = 0) -> str:
  """Formats verdicts in Markdown: a row a claim, and one a test or setting.

  Settings behind a test that averages over them stand below it; they decide
  nothing.

  Where no setting has the seeds that a verdict needs, a line says so instead.

  Args:
    verdicts: of an experiment.
    num_seeds: of the experiment, where none of its claims has any.
  """
  counts = [f.num_seeds for v in verdicts for f in v.findings.values()]
  most = max(counts, default=num_seeds)
  if most < verdicts_lib.MIN_SEEDS:
    return (
      f"No verdicts: one needs {verdicts_lib.MIN_SEEDS} paired seeds, and no"
      f" claim has more than {most} here."
    )
  return tables.text(_HEADER, [line for v in verdicts for line in _lines(v)])


def _lines(verdict: verdicts_lib.Verdict) -> Iterator[Sequence[str]]:
  claim, findings = verdict.claim, verdict.findings
  title = f"{claim.name}: {claim.text}"
  rule = claim.rule
  if claim.margin is not None:
    rule = f"{rule} ({claim.margin:g})"
  if len(findings) != 1:
    outcome = f"**{verdict.outcome}**"
    yield title, rule, "all settings", *[""] * 5, outcome, verdict.reason
    title = ""
  for setting, found in findings.items():
    yield title, rule, setting, *_cells(found)
    title = ""
  for setting, found in verdict.details.items():
    yield "", "", f"{_DETAIL}{setting}", *_cells(found)


def _cells(found: verdicts_lib.Finding) -> Sequence[str]:
  return (
    str(found.num_seeds),
    "" if found.mean is None else f"{found.mean:+.2f}",
    *(_bounds(found.interval_95), _bounds(found.bootstrap)),
    "" if found.p is None else f"{found.p:.3f}",
    *(found.outcome, found.reason),
  )


def _bounds(interval: tuple[float, float] | None) -> str:
  return "" if interval is None else "[{:+.2f}, {:+.2f}]".format(*interval)
