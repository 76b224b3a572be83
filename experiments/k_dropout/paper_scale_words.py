"""What the runs at the paper's scale say, each sentence where it is true."""

from collections.abc import Sequence

import numpy as np

from experiments.judge import contrasts
from experiments.judge import statistics
from experiments.judge import verdicts as verdicts_lib
from experiments.k_dropout import claims
from experiments.report import columns
from experiments.report import rows as rows_lib
from experiments.report import study
from experiments.report import tables

_CLAIMS = ("large_m_hurts_at_large_k_once", "large_m_is_below_none_once")

_MANY = {"method": "sequential", "m": 512}


def _contrast(
  name: str, text: str, a, b, same=(), settings=()
) -> contrasts.Claim:
  return contrasts.Claim(
    name=name,
    paper="k-dropout",
    source="after the runs",
    text=text,
    measure="accuracy",
    a=a,
    b=b,
    same=same,
    settings=settings,
  )


AFTERWARDS = (
  _contrast(
    "tie",
    "512 subnets: rows permuted minus frozen (each image tied to its mask)",
    _MANY | {"shuffle": "rows"},
    _MANY | {"shuffle": "once"},
    ("k",),
  ),
  _contrast(
    "batch",
    "512 subnets: reshuffled minus rows permuted (the batch frozen alone)",
    _MANY | {"shuffle": "every_epoch"},
    _MANY | {"shuffle": "rows"},
    ("k",),
  ),
  _contrast(
    "reuse",
    "512 subnets minus standard dropout, reshuffled",
    _MANY | {"shuffle": "every_epoch"},
    {"method": "standard", "shuffle": "every_epoch"},
    settings=("k",),
  ),
  _contrast(
    "order",
    "frozen minus reshuffled",
    {"shuffle": "once"},
    {"shuffle": "every_epoch"},
    ("method", "k", "m"),
  ),
)
"""Contrasts that nobody fixed before the runs; they get no verdict."""

_EQUAL = 1.0
"""Points; the margin of the claim on pools of 200."""


def afterwards(
  rows: Sequence[rows_lib.Row], hits
) -> list[verdicts_lib.Verdict]:
  """Returns intervals of the contrasts that were seen after the runs."""
  return study.judge(AFTERWARDS, rows, scale="paper", hits=hits)


def summary(
  rows: Sequence[rows_lib.Row], seen: Sequence[verdicts_lib.Verdict]
) -> list[str]:
  """Returns the main findings in sentences, each where its interval says so."""
  judged = study.judge(claims.named(*_CLAIMS), rows, scale="paper")
  found = {verdict.claim.name: verdict.findings for verdict in seen}
  reproduced = all(one.outcome == verdicts_lib.HOLDS for one in judged)
  tie = all((f.interval_95 or (0, 0))[0] > 0 for f in found["tie"].values())
  sentences = [
    "Under the authors' frozen batches 512 subnets at large k are"
    + ("" if reproduced else " not")
    + " below one subnet and below no dropout: that result of the paper is"
    + ("" if reproduced else " not")
    + " reproduced."
  ]
  if reproduced and tie:
    sentences.append(
      "It is gone when the rows of the same frozen batches meet other masks:"
      f" {_ranges(found['tie'].values())} points better. So it is the tie of an"
      " image to its mask, by which each of 512 subnets sees 97 images, not the"
      " reuse of masks." + _fit(rows)
    )
  whole, *shorter = sorted(found["reuse"], key=_k_of, reverse=True)
  if _equal(found["reuse"][whole]):
    others = _ranges(found["reuse"][setting] for setting in shorter)
    own = _ranges([found["reuse"][whole]])
    sentences.append(
      "In accuracy, with reshuffled batches, 512 subnets for the whole run"
      f" equal standard dropout to {_EQUAL:g} point: {own} points;"
      f" {', '.join(shorter)}: {others}." + _loss(rows, _k_of(whole))
    )
  return sentences


def _ranges(findings) -> str:
  """Returns the means of all settings with their intervals."""
  return ", ".join(
    columns.interval(statistics.t_interval(np.array(f.differences)))
    for f in findings
  )


def _k_of(setting: str) -> int:
  return int(setting.removeprefix("k="))


def _equal(finding: verdicts_lib.Finding) -> bool:
  values = np.array(finding.differences)
  return statistics.p_equivalent(values, _EQUAL) < 0.05


def _fit(rows: Sequence[rows_lib.Row]) -> str:
  """Says how much of its own training set the whole network gets right."""
  means = rows_lib.means(
    [r for r in rows if r["method"] == "sequential"],
    *("shuffle", "k", "m"),
    measure="train_accuracy",
  )
  last = max(k for _, k, _ in means)
  frozen, free = (means[order, last, 512] for order in ("once", "rows"))
  return (
    f" At k = {last:,} the whole network is right on {frozen:.0f} % of its own"
    f" training images, on {free:.0f} % with rows permuted."
  )


def _loss(rows: Sequence[rows_lib.Row], k: int) -> str:
  """Says what reusing masks costs in log loss, where it costs."""
  free = [r for r in rows if r["shuffle"] == "every_epoch"]
  standard = [r for r in free if r["method"] == "standard"]
  many = [r for r in free if (r.get("k"), r.get("m")) == (k, 512)]
  lost = rows_lib.differences(many, standard, "test_loss")
  if statistics.t_interval(lost).low <= 0:
    return ""
  pools = [
    f"a pool of {size} {columns.paired(differences)}"
    for (size,), same in sorted(
      rows_lib.group(
        [r for r in free if r["method"] == "pooled"], "pool_size"
      ).items()
    )
    if (differences := rows_lib.differences(same, standard, "test_loss")).size
  ]
  return (
    f" In test loss they do not: {columns.paired(lost)} nats;"
    f" {', '.join(pools)}."
  )


_AFTER_WORDS = (
  "Contrasts that were written down after the runs were seen, without"
  " verdicts. The first two are those that the runs at the cpu scale suggested;"
  " they were made on data of their own."
)


def contrasts_in_words(seen: Sequence[verdicts_lib.Verdict]) -> list[str]:
  """Returns a sentence and a table of the contrasts."""
  return [_AFTER_WORDS, _table(seen)]


def _table(seen: Sequence[verdicts_lib.Verdict]) -> str:
  header = ("a minus b", "setting", "seeds", "d", "95 % t", "seeds and images")
  return tables.text(
    header,
    [
      [
        verdict.claim.text,
        setting,
        str(f.num_seeds),
        f"{f.mean:+.2f}",
        *(
          f"[{low:+.2f}, {high:+.2f}]"
          for low, high in filter(None, (f.interval_95, f.bootstrap))
        ),
      ]
      for verdict in seen
      for setting, f in verdict.findings.items()
    ],
  )
