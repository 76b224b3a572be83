"""Verdicts of today on numbers of then."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from experiments.foundations import page as foundations
from experiments.gyro import page as gyro
from experiments.judge import contrasts
from experiments.judge import verdicts
from experiments.k_dropout import page as k_dropout
from experiments.report import again

CLAIM = contrasts.Claim(
  name="planted",
  paper="k-dropout",
  source="here",
  text="a beats nothing",
  measure="accuracy",
  a={"method": "a"},
  where=(("m", "<", 8),),
  settings=("m", "size"),
)
TODAY = dataclasses.replace(CLAIM, average=("m",))
NOISE = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])


def of_then():
  """Judged one by one; m = 8, which the claim of today leaves out, fails."""
  old = dataclasses.replace(CLAIM, where=())
  found = {f"m={m} size=9": 1.0 + m * NOISE for m in (1, 2)}
  found["m=8 size=9"] = -1.0 + NOISE
  verdict = verdicts.judge(old, found, at_paper_scale=False)
  assert verdict.outcome == "does not hold"
  numbers = {"name": "x", "scale": "cpu", "verdicts": [verdict.as_json()]}
  return json.loads(json.dumps(numbers))


def test_differences_are_enough_to_judge_again():
  (verdict,) = again.judged(of_then(), {"planted": TODAY})
  assert verdict.outcome == "holds"
  (finding,) = verdict.findings.values()
  np.testing.assert_allclose(finding.differences, 1.0 + 1.5 * NOISE)
  assert list(verdict.details) == ["m=1 size=9", "m=2 size=9"]
  # What was resampled then stays; the mean was not.
  assert verdict.details["m=2 size=9"].bootstrap and finding.bootstrap is None
  # And judged again from what that leaves, it is the same.
  numbers = {"scale": "cpu", "verdicts": [verdict.as_json()]}
  assert again.judged(numbers, {"planted": TODAY}) == [verdict]


def test_the_old_verdict_stays_dated_with_its_reason(tmp_path):
  file = tmp_path / "x.json"
  file.write_text(json.dumps(of_then()))
  page = (
    "# X\n\nwords\n\n## Verdicts on this\n\nMore words.\n\n| old |\n\nend\n"
  )
  file.with_suffix(".md").write_text(page)
  revised = again.write(file, {"planted": TODAY}, None, {"planted": "so"})
  (old,) = json.loads(file.read_text())["revised"]
  assert [old] == revised and old["outcome"] == "does not hold"
  assert old["why"] == "so" and old["until"].count("-") == 2
  text = file.with_suffix(".md").read_text()
  assert "| old |" not in text and "**holds**" not in text and "holds" in text
  assert "## Verdicts on this\n\nMore words.\n\n| claim" in text
  assert text.endswith("\nend\n")
  assert again.write(file, {"planted": TODAY}, None, {}) == []
  assert file.with_suffix(".md").read_text() == text


def test_rows_where_nothing_can_be_told_leave_the_correction():
  weak = 1.0 + 4 * NOISE  # p = .024 alone, .048 of two, .07 of three
  found = {"x": weak, "y": weak, "void": weak}
  judged = verdicts.judge(
    CLAIM, found, at_paper_scale=True, void={"void": "no dropout helps"}
  )
  assert judged.findings["void"].reason == "no dropout helps"
  assert judged.findings["x"].outcome == "holds"
  without = verdicts.judge(CLAIM, found, at_paper_scale=True)
  assert without.findings["x"].outcome == "cannot be told"
  assert judged.outcome == "cannot be told"


@pytest.mark.parametrize(
  ("paper", "folder"),
  [
    (k_dropout.PAPER, "k-dropout"),
    (gyro.PAPER, "gyro"),
    (foundations.PAPER, "foundations"),
  ],
)
def test_what_is_published_is_what_the_rules_of_today_say(paper, folder):
  num_judged = 0
  for name in paper.experiments:
    file = pathlib.Path(f"docs/results/{folder}/{name}.json")
    numbers = json.loads(file.read_text()) if file.exists() else {}
    if "verdicts" not in numbers:
      continue
    today = again.judged(numbers, paper.claims, paper.sources.get(name))
    outcomes = [(v.claim.name, v.outcome) for v in today]
    assert outcomes == [
      (v["claim"]["name"], v["outcome"]) for v in numbers["verdicts"]
    ], name
    num_judged += len(today)
  assert num_judged > 15
