"""Statistics against scipy, statsmodels' formulas by hand, and coverage."""

import json
import pathlib

import numpy as np
import pytest
from scipy import stats

from experiments.judge import curves
from experiments.judge import power
from experiments.judge import statistics

VALUES = np.array([0.3, -0.1, 0.5, 0.2, 0.6])


def test_libraries_say_what_our_own_code_said():
  """Values of the code that scipy and statsmodels replaced."""
  golden = json.loads(
    (pathlib.Path(__file__).parent / "golden.json").read_text()
  )
  exact = dict(rtol=1e-12, atol=1e-15)
  for name, call in (
    ("intervals", lambda d, level: statistics.t_interval(np.array(d), level)),
    ("p_above", lambda d, at: statistics.p_above(np.array(d), at)),
    ("p_equivalent", lambda d, m: statistics.p_equivalent(np.array(d), m)),
    ("holm", statistics.holm),
    ("power", power.power),
    ("seeds_needed", power.seeds_needed),
  ):
    for *arguments, old in golden[name]:
      np.testing.assert_allclose(call(*arguments), old, **exact)
  # Ours halved an interval until it was a millionth of a deviation; both are
  # as near as that to the root.
  for sd, num_seeds, wanted, old in golden["smallest_difference"]:
    got = power.smallest_difference(sd, num_seeds, wanted)
    assert abs(got - old) <= 2e-6 * sd
    assert abs(power.power(got, sd, num_seeds) - wanted) <= 1e-6


def test_committed_findings_are_found_again():
  checked = 0
  for file in (pathlib.Path(__file__).parents[3] / "docs/results").rglob(
    "*.json"
  ):
    numbers = json.loads(file.read_text())
    for verdict in (
      numbers.get("verdicts", ()) if isinstance(numbers, dict) else ()
    ):
      for found in verdict["findings"].values():
        if found["interval_95"] is None:
          continue
        values = np.array(found["differences"])
        for level, old in ((0.95, "interval_95"), (0.90, "interval_90")):
          new = statistics.t_interval(values, level)[1:]
          np.testing.assert_allclose(new, found[old], rtol=1e-12, atol=1e-12)
        checked += 1
  assert checked > 100


def test_t_interval_agrees_with_scipy():
  for level in (0.9, 0.95):
    got = statistics.t_interval(VALUES, level)
    expected = stats.ttest_1samp(VALUES, 0.0).confidence_interval(level)
    np.testing.assert_allclose(got[1:], expected)
    assert got.estimate == pytest.approx(0.3)


def test_p_above_agrees_with_scipy_and_with_the_interval():
  for threshold in (-0.2, 0.0, 0.4):
    expected = stats.ttest_1samp(VALUES, threshold, alternative="greater")
    got = statistics.p_above(VALUES, threshold)
    assert got == pytest.approx(expected.pvalue)
    is_above = statistics.t_interval(VALUES, 0.95).low > threshold
    assert (got < 0.025) == is_above


def test_p_equivalent_is_two_tests_and_agrees_with_the_90_interval():
  for margin in (0.2, 0.5, 0.58, 0.7, 2.0):
    sides = (
      stats.ttest_1samp(VALUES, -margin, alternative="greater").pvalue,
      stats.ttest_1samp(VALUES, margin, alternative="less").pvalue,
    )
    got = statistics.p_equivalent(VALUES, margin)
    assert got == pytest.approx(max(sides))
    narrow = statistics.t_interval(VALUES, 0.9)
    inside = -margin < narrow.low and narrow.high < margin
    assert (got < 0.05) == inside


def test_seeds_that_agree_to_the_last_bit_are_certain():
  same = np.full(5, 0.25)
  assert statistics.t_interval(same) == (0.25, 0.25, 0.25)
  assert statistics.p_above(same) == 0.0
  assert statistics.p_above(same, 0.25) == 1.0


def test_holm_by_hand():
  # .01 * 4, .02 * 3, .03 * 2 -> not below .06, .2 * 1
  got = statistics.holm([0.03, 0.2, 0.01, 0.02])
  np.testing.assert_allclose(got, [0.06, 0.2, 0.04, 0.06])
  np.testing.assert_allclose(statistics.holm([0.7, 0.8]), [1.0, 1.0])
  assert statistics.holm([]).size == 0


def test_the_bootstrap_covers_what_the_formula_says():
  """With many images and equal seeds only the images vary: sd / sqrt(N)."""
  random = np.random.default_rng(1)
  one = random.normal(size=400)
  got = statistics.bootstrap(np.tile(one, (5, 1)))
  half = 1.96 * one.std() / 20
  assert got.estimate == pytest.approx(one.mean())
  np.testing.assert_allclose(
    got[1:], [one.mean() - half, one.mean() + half], atol=0.02
  )
  # With equal images only the seeds vary.
  seeds = random.normal(size=30)
  got = statistics.bootstrap(np.tile(seeds[:, None], (1, 7)))
  half = 1.96 * seeds.std() / np.sqrt(30)
  np.testing.assert_allclose(
    got[1:], [seeds.mean() - half, seeds.mean() + half], atol=0.06
  )


def test_the_bootstrap_is_a_number_not_a_draw():
  data = np.random.default_rng(0).normal(size=(5, 20))
  assert statistics.bootstrap(data) == statistics.bootstrap(data)


def test_u_shape_by_hand():
  # Twelve subnets: sixths of two. Ends (5 + 3 + 2 + 4) / 4 = 3.5, middle 1.
  row = [5, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4]
  flat = [2.0] * 12
  np.testing.assert_allclose(curves.u_shape(np.array([row, flat])), [2.5, 0.0])
  first, last = curves.arms(np.array([row, flat]))
  np.testing.assert_allclose(first, [3.0, 0.0])
  np.testing.assert_allclose(last, [2.0, 0.0])
  # Three subnets: ends of one each.
  np.testing.assert_allclose(curves.u_shape(np.array([[4.0, 1.0, 2.0]])), [2.0])


def test_slope_per_doubling_agrees_with_polyfit():
  ms = np.array([1, 8, 32, 128])
  values = np.random.default_rng(2).normal(size=(3, 4))
  expected = [np.polyfit(np.log2(ms), row, 1)[0] for row in values]
  np.testing.assert_allclose(curves.slope_per_doubling(ms, values), expected)


KS = np.array([400, 1, 40, 8])  # in any order


def planted(num_seeds=6, noise=0.0):
  """Standard .50; k = 1 and 8 alike, 40 behind by .02, 400 by .05."""
  random = np.random.default_rng(3)
  accuracies = np.tile([0.45, 0.50, 0.48, 0.495], (num_seeds, 1))
  accuracies = accuracies + noise * random.normal(size=accuracies.shape)
  return accuracies, np.full(num_seeds, 0.50)


def test_transition_is_the_smallest_k_over_a_point_behind():
  got = curves.transition(KS, *planted())
  assert got == (40, 40, 40, 1.0)
  wide = curves.transition(KS, *planted(noise=0.015))
  assert wide.low < wide.high
  assert wide.low in KS and (wide.high in KS or np.isinf(wide.high))


def test_no_transition_is_infinite():
  accuracies, standard = planted()
  got = curves.transition(KS, accuracies, standard - 0.1)
  assert np.isinf(got.k) and np.isinf(got.high) and got.found == 0.0


def test_power_agrees_with_simulation():
  draws = np.random.default_rng(4).normal(0.3, 0.4, size=(4000, 8))
  half = draws.std(axis=1, ddof=1) / np.sqrt(8) * stats.t.ppf(0.975, 7)
  share = (draws.mean(axis=1) - half > 0).mean()
  assert power.power(0.3, 0.4, 8) == pytest.approx(share, abs=0.03)


def test_seeds_needed_are_those_of_the_protocol():
  # .2 points at sd .25 need 19 paired seeds; 10 seeds tell about .3.
  assert power.seeds_needed(0.2, 0.25) == 19
  assert power.power(0.2, 0.25, 18) < 0.9 <= power.power(0.2, 0.25, 19)
  assert 0.85 < power.power(0.3, 0.25, 10) < 0.95
  assert power.seeds_needed(100.0, 0.1) == 2
  found = power.smallest_difference(0.25, 10)
  assert power.power(found, 0.25, 10) == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: statistics.t_interval([1.0]), r"S >= 2 seeds, got shape \(1,\)"),
    (lambda: statistics.t_interval([1.0, np.nan]), "must be finite"),
    (lambda: statistics.t_interval(VALUES, 95), r"level must be in \(0, 1\)"),
    (lambda: statistics.p_equivalent(VALUES, 0.0), "margin must be > 0, got 0"),
    (lambda: statistics.holm([1.5]), r"p_values must be in \[0, 1\]"),
    (lambda: statistics.bootstrap(VALUES), r"must be \[seeds, images\]"),
    (lambda: curves.u_shape(np.ones((2, 2))), r"n >= 3, got shape \(2, 2\)"),
    (
      lambda: curves.slope_per_doubling([1, 2], np.ones((3, 4))),
      r"values must be \[S, 2\].*\(3, 4\)",
    ),
    (
      lambda: curves.slope_per_doubling([2, 2], np.ones((3, 2))),
      "settings must be > 0 and at least two",
    ),
    (
      lambda: curves.transition([1, 2], np.ones((3, 3)), np.ones(3)),
      r"accuracies must be \[3, 2\], seeds by ks",
    ),
    (lambda: power.seeds_needed(0.0, 1.0), "difference and sd must be > 0"),
    (lambda: power.seeds_needed(1.0, 1.0, 1.0), "power_wanted must be in"),
  ],
)
def test_wrong_arguments(call, message):
  with pytest.raises(ValueError, match=message):
    call()
