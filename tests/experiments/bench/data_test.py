"""The benchmark of the loaders runs, and its table says what is not there."""

import re

from experiments.bench import data as bench_data


def test_a_dataset_is_measured(tmp_path, samples):
  row = bench_data.measured("nsl_kdd", tmp_path, samples, batch=8, steps=2)
  assert (row.rows, row.classes) == ("40 / 24", "2")
  assert row.note == "official split"
  for share in (row.resident_share, row.streamed_share):
    assert re.fullmatch(r"\d+\.\d\d%", share)
    assert 0 < float(share[:-1]) < 100
  # 4 rows of normal traffic, and 36 attacks.
  assert row.facts.endswith("4 to 36 a class")
  table = bench_data.table([row])
  assert table.count("\n") == 2
  assert re.search(r"\n\| nsl_kdd +\| 40 / 24 ", table)


def test_a_dataset_that_is_not_at_hand_says_so(tmp_path):
  row = bench_data.measured("unsw_nb15", tmp_path, None, batch=8, steps=2)
  assert row.note.startswith("not at hand: dataset 'unsw_nb15' is not prepared")
  assert row.rows == row.resident_share == "-"
