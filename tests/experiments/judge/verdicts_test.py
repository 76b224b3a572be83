"""Verdict rules on planted data, and the claims' own consistency."""

import collections
import dataclasses
import json

import numpy as np
import pytest

from experiments.data import registry
from experiments.foundations import claims as foundations_claims
from experiments.gyro import claims as gyro_claims
from experiments.judge import contrasts
from experiments.judge import verdicts
from experiments.k_dropout import claims
from experiments.report import verdict_table

CLAIMS = (
  *claims.CLAIMS,
  *gyro_claims.CLAIMS,
  *foundations_claims.CLAIMS,
)

SUPERIOR = contrasts.Claim(
  name="planted",
  paper="k-dropout",
  source="here",
  text="a beats b",
  measure="accuracy",
  a={"method": "a"},
  b={"method": "b"},
  paper_difference=2.0,
)
EQUIVALENT = dataclasses.replace(
  SUPERIOR, rule="equivalent", margin=1.0, paper_difference=0.0
)
NOT_WORSE = dataclasses.replace(EQUIVALENT, rule="not_worse")


def seeds(mean, half, count=5):
  """Differences whose 95 % interval is mean +- half; the 90 % is narrower."""
  unit = np.linspace(-1, 1, count)
  standard_error = unit.std(ddof=1) / np.sqrt(count)
  quantile = {5: 2.776445, 4: 3.182446}[count]
  return mean + unit * half / (standard_error * quantile)


def outcome(claim, values, **kwargs):
  kwargs = {"at_paper_scale": True} | kwargs
  verdict = verdicts.judge(claim, {"all": values}, **kwargs)
  assert verdict.findings["all"].outcome == verdict.outcome
  return verdict.outcome


def test_planted_intervals_are_what_they_say():
  finding = verdicts.judge(
    SUPERIOR, {"all": seeds(1.0, 0.5)}, at_paper_scale=True
  ).findings["all"]
  np.testing.assert_allclose(finding.interval_95, [0.5, 1.5], atol=1e-5)
  # 0.5 * 2.131847 / 2.776445
  np.testing.assert_allclose(finding.interval_90, [0.61608, 1.38392], atol=1e-4)


@pytest.mark.parametrize(
  ("mean", "half", "expected"),
  [
    (1.0, 0.9, "holds"),
    (1.0, 1.1, "cannot be told"),
    (0.5, 0.49, "holds"),  # above 0, though far below the paper's 2
    (0.2, 0.4, "does not hold"),  # below half of 2
    (0.2, 0.9, "cannot be told"),
    (-3.0, 0.5, "does not hold"),
  ],
)
def test_superiority(mean, half, expected):
  assert outcome(SUPERIOR, seeds(mean, half)) == expected


def test_superiority_without_a_paper_difference_fails_below_zero_only():
  claim = dataclasses.replace(SUPERIOR, paper_difference=0.0)
  assert outcome(claim, seeds(-0.5, 0.6)) == "cannot be told"
  assert outcome(claim, seeds(-0.5, 0.4)) == "does not hold"


@pytest.mark.parametrize(
  ("mean", "half", "expected"),
  [
    (0.0, 0.9, "holds"),
    (0.0, 1.2, "holds"),  # the 90 % interval is inside: 1.2 * .768 = .92
    (0.0, 1.4, "cannot be told"),
    (0.6, 0.6, "cannot be told"),
    (1.5, 0.4, "does not hold"),
    (-1.5, 0.4, "does not hold"),
    (1.5, 0.6, "cannot be told"),  # the 95 % interval decides the other side
    (1.4, 0.45, "cannot be told"),  # 90 %: beyond 1.05; 95 %: not
  ],
)
def test_equivalence(mean, half, expected):
  assert outcome(EQUIVALENT, seeds(mean, half)) == expected


@pytest.mark.parametrize(
  ("mean", "half", "expected"),
  [
    (5.0, 0.5, "holds"),
    (0.0, 1.2, "holds"),
    (-0.9, 0.5, "cannot be told"),
    (-1.5, 0.4, "does not hold"),
  ],
)
def test_not_worse(mean, half, expected):
  assert outcome(NOT_WORSE, seeds(mean, half)) == expected


def test_fewer_than_five_seeds_cannot_be_told():
  for claim, mean in ((SUPERIOR, 9.0), (SUPERIOR, -9.0), (EQUIVALENT, 0.0)):
    verdict = verdicts.judge(
      claim, {"all": seeds(mean, 0.1, 4)}, at_paper_scale=True
    )
    assert verdict.outcome == "cannot be told"
    assert verdict.reason == "4 seeds, fewer than 5"


def test_absolute_settings_are_told_at_paper_scale_only():
  claim = dataclasses.replace(SUPERIOR, absolute=True)
  values = seeds(3.0, 0.5)
  assert outcome(claim, values) == "holds"
  assert outcome(claim, values, at_paper_scale=False) == "cannot be told"


def test_all_settings_must_hold():
  good, bad, vague = seeds(3, 0.5), seeds(-3, 0.5), seeds(0.5, 3)

  def judge(**found):
    return verdicts.judge(SUPERIOR, found, at_paper_scale=True).outcome

  assert judge(x=good, y=good) == "holds"
  assert judge(x=good, y=vague) == "cannot be told"
  assert judge(x=good, y=vague, z=bad) == "does not hold"
  assert judge() == "cannot be told"


def test_a_share_of_settings_must_hold():
  claim = dataclasses.replace(SUPERIOR, family=0.8)
  good, bad, vague = seeds(3, 0.5), seeds(-3, 0.5), seeds(0.5, 3)

  def judge(*arms):
    found = {str(i): arm for i, arm in enumerate(arms)}
    return verdicts.judge(claim, found, at_paper_scale=True).outcome

  # Of 10, 8 must hold.
  assert judge(*[good] * 8, *[bad] * 2) == "holds"
  assert judge(*[good] * 7, *[bad] * 3) == "does not hold"
  assert judge(*[good] * 7, bad, bad, vague) == "cannot be told"


def test_existence_is_corrected_by_holm():
  claim = dataclasses.replace(SUPERIOR, family="any")
  weak = seeds(1.0, 0.9)  # p = .037 alone
  alone = verdicts.judge(claim, {"x": weak}, at_paper_scale=True)
  assert alone.outcome == "holds" and 0.03 < alone.findings["x"].p < 0.05
  many = {str(i): seeds(0.0, 2.0) for i in range(9)} | {"x": weak}
  verdict = verdicts.judge(claim, many, at_paper_scale=True)
  assert verdict.outcome == "cannot be told"
  assert "after Holm" in verdict.findings["x"].reason
  np.testing.assert_allclose(
    verdict.findings["x"].p, 10 * alone.findings["x"].p
  )
  strong = many | {"x": seeds(3.0, 0.1)}
  assert verdicts.judge(claim, strong, at_paper_scale=True).outcome == "holds"
  none = {str(i): seeds(-3.0, 0.5) for i in range(4)}
  verdict = verdicts.judge(claim, none, at_paper_scale=True)
  assert verdict.outcome == "does not hold"


AVERAGED = dataclasses.replace(
  SUPERIOR, settings=("m", "pool_size"), average=("m",)
)


def test_a_claim_that_averages_is_one_test_a_setting_that_is_left():
  rng = np.random.default_rng(0)
  noise = rng.normal(size=(4, 5))
  found = {
    f"m={m} pool_size={size}": 1.0 + noise[2 * i + j]
    for i, size in enumerate((10, 50))
    for j, m in enumerate((1, 8))
  }
  verdict = verdicts.judge(AVERAGED, found, at_paper_scale=True)
  assert list(verdict.findings) == ["pool_size=10", "pool_size=50"]
  np.testing.assert_allclose(
    verdict.findings["pool_size=50"].differences,
    1.0 + (noise[2] + noise[3]) / 2,
  )
  # The single settings are there, and Holm's over all four.
  alone = verdicts.judge(
    dataclasses.replace(AVERAGED, average=()), found, at_paper_scale=True
  )
  assert verdict.details == alone.findings and alone.details == {}
  everything = dataclasses.replace(AVERAGED, average=("m", "pool_size"))
  whole = verdicts.judge(everything, found, at_paper_scale=True)
  assert list(whole.findings) == ["all"]


def test_a_mean_over_settings_needs_the_same_seeds():
  found = {"m=1 pool_size=10": np.ones(5), "m=8 pool_size=10": np.ones(4)}
  with pytest.raises(ValueError, match="must have the same seeds, got .5, 4."):
    verdicts.judge(AVERAGED, found, at_paper_scale=True)
  with pytest.raises(ValueError, match="among its settings.*got .'k'"):
    dataclasses.replace(AVERAGED, average=("k",))


def test_holm_corrects_what_fails_too():
  weak = seeds(0.0, 0.9)  # ends below half of 2, at p = .037
  assert outcome(SUPERIOR, weak) == "does not hold"
  many = {str(i): seeds(3.0, 0.5) for i in range(3)} | {"x": weak}
  verdict = verdicts.judge(SUPERIOR, many, at_paper_scale=True)
  assert verdict.outcome == "cannot be told"
  assert "after Holm" in verdict.findings["x"].reason


def test_a_label_is_held_to_the_conditions_of_its_claim():
  claim = dataclasses.replace(
    SUPERIOR, where=(("k_over_T", "<", 1), ("dataset", "!=", "svhn"))
  )
  assert contrasts.asked(claim, "k_over_T=0.01667 shuffle=once")
  assert not contrasts.asked(claim, "k_over_T=1 shuffle=once")
  assert not contrasts.asked(claim, "dataset=svhn")
  assert contrasts.asked(claim, "all")


def test_what_cannot_be_told_says_how_many_seeds_would():
  finding = verdicts.judge(
    dataclasses.replace(SUPERIOR, paper_difference=0.2),
    {"all": 0.05 + 0.25 * np.array([-1, -1, 1, 1, 0])},
    at_paper_scale=True,
  ).findings["all"]
  assert finding.outcome == "cannot be told"
  assert "sd of 0.25 needs about 19 seeds" in finding.reason


@pytest.mark.parametrize(
  ("mean", "words"),
  [(-0.1, "the 95 % interval reaches 0"), (-0.5, "lies below 0, not below -1")],
)
def test_an_interval_reaches_0_only_where_it_does(mean, words):
  claim = dataclasses.replace(SUPERIOR, paper_difference=-2.0)
  verdict = verdicts.judge(
    claim, {"all": seeds(mean, 0.3)}, at_paper_scale=True
  )
  assert verdict.outcome == "cannot be told" and words in verdict.reason


def test_the_bootstrap_stands_beside():
  hits = np.random.default_rng(0).normal(1.0, 0.1, size=(5, 50))
  verdict = verdicts.judge(
    SUPERIOR, {"x": hits.mean(axis=1)}, at_paper_scale=True, hits={"x": hits}
  )
  low, high = verdict.findings["x"].bootstrap
  assert low < hits.mean() < high


def test_without_images_the_bootstrap_is_over_seeds():
  values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
  finding = verdicts.judge(SUPERIOR, {"x": values}, at_paper_scale=True)
  low, high = finding.findings["x"].bootstrap
  # Means of five draws: sd sqrt(2 / 5), about normal.
  assert 1.0 <= low < 3.0 - 1.5 * np.sqrt(2 / 5)
  assert 3.0 + 1.5 * np.sqrt(2 / 5) < high <= 5.0


def rows_of(values, **fields):
  return [{"seed": s, "accuracy": v, **fields} for s, v in enumerate(values)]


def test_differences_are_paired_by_seed_and_by_what_is_the_same():
  claim = dataclasses.replace(
    SUPERIOR,
    where=(("m", ">", 1),),
    settings=("m",),
    same=("shuffle",),
  )
  rows = [
    *rows_of([1.0, 2.0, 3.0], method="b", shuffle="once"),
    *rows_of([10.0, 20.0], method="b", shuffle="rows"),
    *rows_of([5.0, 5.0, 5.0], method="a", shuffle="once", m=8)[::-1],
    *rows_of([5.0, 5.0, 5.0], method="a", shuffle="rows", m=8),
    *rows_of([0.0, 0.0, 0.0], method="a", shuffle="once", m=1),
    *rows_of([0.0, 0.0, 0.0], method="c", shuffle="once", m=8),
    {"seed": 0, "method": "a", "shuffle": "once", "m": 8, "other": 1.0},
  ]
  found = contrasts.differences(claim, rows)
  assert {name: values.tolist() for name, values in found.items()} == {
    "m=8 shuffle=once": [4.0, 3.0, 2.0],
    "m=8 shuffle=rows": [-5.0, -15.0],  # seed 2 has no partner
  }
  turned = contrasts.differences(dataclasses.replace(claim, reverse=True), rows)
  assert turned["m=8 shuffle=once"].tolist() == [-4.0, -3.0, -2.0]


def test_a_claim_without_a_second_arm_is_compared_with_zero():
  claim = dataclasses.replace(SUPERIOR, b={})
  found = contrasts.differences(claim, rows_of([1.0, 2.0], method="a"))
  assert found["all"].tolist() == [1.0, 2.0]


def test_a_setting_given_twice_is_refused():
  rows = rows_of([1.0], method="a") * 2
  with pytest.raises(ValueError, match="'planted' hold seed 0 twice"):
    contrasts.differences(SUPERIOR, rows)


def test_shares_of_the_run_match_to_rounding():
  claim = dataclasses.replace(SUPERIOR, a={"k_over_T": 1 / 30}, b={})
  rows = rows_of([1.0], k_over_T=80 / 2400) + rows_of([2.0], k_over_T=1 / 29)
  assert contrasts.differences(claim, rows)["all"].tolist() == [1.0]


def test_the_table_and_the_json_hold_every_setting():
  found = {"m=8": seeds(3, 0.5), "m=1": seeds(3, 0.5, 4)}
  verdict = verdicts.judge(SUPERIOR, found, at_paper_scale=True)
  text = verdict_table.text([verdict])
  cells = [[c.strip() for c in row.split("|")] for row in text.splitlines()]
  assert ["m=8", "5", "+3.00", "[+2.50, +3.50]"] in [row[3:7] for row in cells]
  assert "4" in [row[4] for row in cells] and "**cannot be told**" in text
  assert len({line.count("|") for line in text.splitlines()}) == 1
  data = json.loads(json.dumps(verdict.as_json()))
  assert data["findings"]["m=8"]["outcome"] == "holds"
  assert data["claim"]["name"] == "planted"


@pytest.mark.parametrize(("num_seeds", "is_table"), [(4, False), (5, True)])
def test_fewer_than_five_seeds_have_no_table(num_seeds, is_table):
  found = {"m=8": seeds(3, 0.5, num_seeds), "m=1": np.ones(2)}
  verdict = verdicts.judge(SUPERIOR, found, at_paper_scale=True)
  text = verdict_table.text([verdict])
  assert ("|" in text) == is_table
  if not is_table:
    assert text.count("\n") == 0 and "no claim has more than 4" in text


def test_claims_are_named_once_and_found():
  counts = collections.Counter(claim.name for claim in CLAIMS)
  assert set(counts.values()) == {1}
  assert claims.named("recency")[0].measure == "recency"
  with pytest.raises(ValueError, match="claim must be one of .*got 'v_shape'"):
    claims.named("v_shape")


def test_planted_with_the_papers_own_numbers_every_claim_holds():
  num_planted = 0
  for claim in CLAIMS:
    found = {"x": seeds(0.0, 1e-3)}
    if claim.rule == "superior":
      numbers = claim.paper_difference
      numbers = numbers if isinstance(numbers, dict) else {"x": numbers}
      if set(numbers.values()) == {0.0}:
        continue  # the paper gives no number
      found = {name: seeds(d, 1e-3) for name, d in numbers.items()}
    num_planted += 1
    verdict = verdicts.judge(claim, found, at_paper_scale=True)
    assert verdict.outcome == "holds", (claim.name, verdict.reason)
  assert num_planted >= 40


def test_every_dataset_of_a_claim_exists():
  known = set(registry.names())
  for claim in CLAIMS:
    if isinstance(claim.paper_difference, dict):
      for name in claim.paper_difference:
        dataset = name.split()[0].removeprefix("dataset=")
        assert dataset in known, name


def test_own_splits_enter_no_claim():
  (claim,) = gyro_claims.named("gyro_beats_conventional")
  rows = [
    row
    for dataset in ("kddcup99", "unsw_nb15", "nsl_kdd")
    for method in ("gyro", "conventional")
    for row in rows_of([1.0] * 5, dataset=dataset, model="mlp3", method=method)
  ]
  assert list(contrasts.differences(claim, rows)) == [
    "dataset=nsl_kdd model=mlp3"
  ]


def test_large_m_is_compared_with_one_at_the_same_k_and_order():
  (claim,) = claims.named("large_m_hurts_at_large_k_once")
  base = {"method": "sequential", "shuffle": "once"}
  rows = [
    *rows_of([50.0] * 5, **base, m=1, k_over_T=0.5),
    *rows_of([47.0] * 5, **base, m=128, k_over_T=0.5),
    *rows_of([47.0] * 5, **base, m=8, k_over_T=0.5),
    *rows_of([60.0] * 5, **base, m=1, k_over_T=0.01),
    *rows_of([50.0] * 5, **base, m=128, k_over_T=0.01),
    *rows_of([40.0] * 5, **(base | {"shuffle": "rows"}), m=1, k_over_T=0.5),
  ]
  found = contrasts.differences(claim, rows)
  assert {k: v.tolist() for k, v in found.items()} == {
    "k_over_T=0.5 m=128 shuffle=once": [3.0] * 5
  }


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"margin": 1.0}, "margin of 'planted' must be given for equivalent"),
    ({"rule": "not_worse"}, "margin of 'planted' must be given"),
    ({"rule": "equivalent", "margin": -1.0}, "must be > 0: -1.0"),
    ({"where": (("m", "~", 1),)}, "where of 'planted' knows .*got '~'"),
    ({"family": 1.5}, r"all, any or a share in \(0, 1\], got 1.5"),
  ],
)
def test_wrong_claims(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SUPERIOR, **change)
