"""What frozen batches cost: planted effects come back."""

import numpy as np
import pytest

from experiments.k_dropout import frozen_batches

ORDERS = ("every_epoch", "rows", "once")
NOISE = np.array([0.1, -0.1, 0.0, 0.2, -0.2])


def planted(batch, tie, shift):
  """Rows with both effects at k = 40; `shift` moves all runs of an order."""
  cost = {"every_epoch": 1.0, "rows": 1.0 + batch, "once": 1.0 + batch + tie}
  found = []
  for order in ORDERS:
    for seed, noise in enumerate(NOISE):
      own = {"shuffle": order, "seed": seed}
      base = 50.0 + shift[order] + 10 * noise
      found.append(own | {"method": "standard", "accuracy": base})
      found.append(own | {"method": "none", "accuracy": base - 9})
      lost = cost[order] + (noise if order == "once" else 0.0)
      setting = {"method": "sequential", "k": 40, "m": 8}
      found.append(own | setting | {"accuracy": base - lost})
  return found


@pytest.mark.parametrize("batch, tie", [(0.0, 3.0), (-2.0, 0.5)])
def test_each_effect_is_told_from_the_other_and_from_the_order(batch, tie):
  shift = {"every_epoch": 0.0, "rows": -4.0, "once": 3.0}
  (found,) = frozen_batches.effects(planted(batch, tie, shift))
  assert (found.k, found.m) == (40, 8)
  assert found.batch.estimate == pytest.approx(batch)
  assert found.tie.estimate == pytest.approx(tie)
  # By hand: sd .158, t(4) 2.776, five seeds.
  half = 2.776 * NOISE.std(ddof=1) / np.sqrt(5)
  assert found.tie.high - tie == pytest.approx(half, rel=1e-3)
  assert found.batch.high - found.batch.low == pytest.approx(0, abs=1e-9)


def test_a_setting_without_all_three_orders_tells_nothing():
  rows = planted(0.0, 1.0, dict.fromkeys(ORDERS, 0.0))
  partial = [
    r for r in rows if (r["method"], r["shuffle"]) != ("sequential", "rows")
  ]
  assert frozen_batches.notes(partial) == []
  sentence, table = frozen_batches.notes(rows)
  assert "image tied to its mask" in sentence
  assert "| +1.00 [" in table


def with_one_subnet(rows, better):
  """Adds one subnet at a time, better by so much than many."""
  return rows + [
    r | {"m": 1, "accuracy": r["accuracy"] + better}
    for r in rows
    if r["method"] == "sequential"
  ]


def test_no_cause_is_named_where_large_m_does_not_hurt():
  rows = planted(0.0, 3.0, dict.fromkeys(ORDERS, 0.0))
  found = frozen_batches.summary(with_one_subnet(rows, -2.0))
  assert found is not None and "large m does not hurt here" in found
  assert "minus 8 is -2.00 [" in found and "what makes" not in found
  alone = frozen_batches.summary(rows)
  assert alone is not None and alone.endswith("was not run.")


@pytest.mark.parametrize(
  "batch, tie, words",
  [
    (-2.0, 3.0, "is the tie of an image to its mask."),
    (1.0, 3.0, "is the tie of an image to its mask and the frozen batch."),
    (0.0, 0.0, "is neither, as far as these seeds tell, of the two."),
  ],
)
def test_the_summary_names_what_costs(batch, tie, words):
  rows = with_one_subnet(planted(batch, tie, dict.fromkeys(ORDERS, 0.0)), 1.0)
  # Shorter windows do not count.
  rows += [
    r | {"k": 1, "accuracy": 0.0} for r in rows if r["method"] == "sequential"
  ]
  found = frozen_batches.summary(rows)
  assert found is not None and found.endswith(words)
  assert frozen_batches.summary([]) is None
