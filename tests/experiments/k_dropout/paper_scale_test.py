"""The page at the paper's scale says what its runs say, and no more."""

import json
import pathlib

import numpy as np
import pytest

from experiments.judge import statistics
from experiments.k_dropout import claims
from experiments.k_dropout import paper_scale
from experiments.k_dropout import paper_scale_words
from experiments.report import study

PAGE = pathlib.Path("docs/results/k-dropout/paper_scale.json")


@pytest.fixture(scope="module")
def committed():
  return json.loads(PAGE.read_text())


@pytest.fixture
def rows(committed):
  return [dict(row) for row in committed["numbers"]["rows"]]


@pytest.fixture(autouse=True)
def no_bootstrap(monkeypatch):
  """The sentences read t intervals alone."""
  nothing = statistics.Interval(0.0, 0.0, 0.0)
  monkeypatch.setattr(statistics, "bootstrap", lambda values: nothing)


def said(rows):
  seen = paper_scale_words.afterwards(rows, hits=None)
  return " ".join(paper_scale_words.summary(rows, seen))


def chosen(rows, **fields):
  return [r for r in rows if all(r.get(k) == v for k, v in fields.items())]


def test_the_committed_sentences_are_those_of_the_committed_rows(
  committed, rows
):
  assert said(rows) == " ".join(committed["numbers"]["summary"])
  once, free = (
    chosen(rows, method="sequential", k=29_100, m=512, shuffle=order)
    for order in ("once", "rows")
  )
  gap = np.mean([b["accuracy"] - a["accuracy"] for a, b in zip(once, free)])
  assert f"{gap:+.2f} [" in said(rows)


def test_no_cause_is_named_where_nothing_is_lost(rows):
  for row in chosen(rows, method="sequential", m=512, shuffle="once"):
    row["accuracy"] += 12
  assert "is not reproduced" in said(rows)
  assert "tie of an image" not in said(rows)


def test_no_cause_is_named_where_other_masks_do_not_help(rows):
  for row in chosen(rows, shuffle="rows"):
    row["accuracy"] -= 9
  assert "is reproduced" in said(rows) and "tie" not in said(rows)


def test_equality_needs_its_interval(rows):
  assert "equal standard dropout to 1 point" in said(rows)
  for row in chosen(rows, k=29_100, m=512, shuffle="every_epoch"):
    row["accuracy"] += 0.9
  assert "equal standard" not in said(rows)


def test_a_loss_is_told_where_there_is_one(rows):
  many = chosen(rows, k=29_100, m=512, shuffle="every_epoch")
  standard = chosen(rows, method="standard", shuffle="every_epoch")
  lost = np.mean(
    [a["test_loss"] - b["test_loss"] for a, b in zip(many, standard)]
  )
  assert f"In test loss they do not: {lost:+.2f} [" in said(rows)
  for row, other in zip(many, standard):
    row["test_loss"] = other["test_loss"]
  assert "In test loss" not in said(rows)


def test_the_table_says_what_was_not_run_and_what_was_chosen_first(rows):
  header, lines = paper_scale.table(rows, 512)
  table = {line[0]: dict(zip(header, line)) for line in lines}
  none = table["none"]
  assert none["frozen, rows permuted"] == "not run"
  assert none["reshuffled each epoch"].startswith("55.50 [")
  starred = [line for line in lines if "*" in line[2]]
  assert len(starred) == 4
  # 29,100 steps of 512 rows at 1.68 million a second, five times.
  assert float(none["minutes of five runs"]) == pytest.approx(0.74, abs=0.01)


def test_verdicts_are_the_rules_own(committed, rows):
  judged = study.judge(
    claims.named(*claims.TOLD["paper_scale"]), rows, scale="paper"
  )
  assert [v.outcome for v in judged] == [
    v["outcome"] for v in committed["verdicts"]
  ]
