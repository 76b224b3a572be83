"""Rows of traffic: features from training statistics, splits by groups."""

import hashlib

import numpy as np
import pytest

from experiments import data
from experiments.data import packets
from experiments.data.builders import kdd
from experiments.data.builders import packets as packets_builder
from experiments.data.builders import unsw_nb15
from tests import tolerance


def _numbers(rows):
  return np.array(rows, np.float64)


def test_hand_worked_features():
  train = _numbers([[0, 5], [3, 5], [1, 5]])
  featurize = packets.fit(train, {"c": [b"b", b"a", b"b"]}, "minmax")
  x, unknown = featurize(_numbers([[6, 7], [1.5, 5]]), {"c": [b"a", b"new"]})
  # Column 0: (6 - 0) / 3 and 1.5 / 3; column 1 is constant: less its value;
  # then one-hot over a, b, and zeros for the value never seen.
  np.testing.assert_array_equal(x, [[2, 2, 1, 0], [0.5, 0, 0, 0]])
  assert unknown == {"c": 1}
  assert x.dtype == np.float32


def test_log_scaling_is_log1p_over_its_training_maximum():
  train = _numbers([[0], [np.e - 1], [np.e**2 - 1]])
  x, _ = packets.fit(train, {}, "log")(train, {})
  tolerance.assert_sums_close(x[:, 0], [0, 0.5, 1], 3)


def test_the_test_set_changes_nothing_about_the_training_set():
  rng = np.random.default_rng(0)
  train = rng.exponential(100, (50, 4))
  column = {"c": [bytes([97 + i % 3]) for i in range(50)]}
  featurize = packets.fit(train, column)
  alone, _ = featurize(train, column)
  both, _ = featurize(
    np.concatenate([train, 1e9 * train]), {"c": column["c"] * 2}
  )
  np.testing.assert_array_equal(alone, both[:50])
  assert 0 <= alone.min() and alone.max() == 1


def test_unknown_scaling_is_refused():
  with pytest.raises(
    ValueError, match="scaling must be one of log, minmax, got 'z'"
  ):
    packets.fit(_numbers([[1]]), {}, "z")


def test_own_split_keeps_equal_rows_together_and_drops_duplicates():
  rng = np.random.default_rng(1)
  # 200 groups of features; a third of them with two labels; all repeated.
  lines = [
    f"{g},{label}" for g in range(200) for label in range(1 + (g % 3 == 0))
  ]
  lines = [lines[i] for i in rng.permutation(len(lines) * 3) % len(lines)]
  features = [line.split(",")[0] for line in lines]
  train, test, counts = packets_builder.own_split(lines, features)
  assert counts == {
    "rows_in_file": len(lines),
    "distinct_rows": len(set(lines)),
    "groups": 200,
  }
  assert sorted(train + test) == sorted(set(lines))
  train_groups = {line.split(",")[0] for line in train}
  test_groups = {line.split(",")[0] for line in test}
  assert not train_groups & test_groups
  assert len(train_groups) == 140
  assert packets_builder.own_split(lines, features)[0] == train
  assert packets_builder.own_split(lines, features, seed=1)[0] != train


def test_kddcup99_without_its_test_file_is_split_and_says_so(samples, tmp_path):
  result = data.load(
    "kddcup99", tmp_path / "d", local_files=samples, progress=False
  )
  # 42 rows of which three stand there twice or three times.
  total = len(result.train_x) + len(result.test_x)
  assert total == 39 and len(result.train_x) == round(0.7 * total)
  assert result.info.note == (
    "own split: 70/30 by groups of equal feature rows, duplicates dropped,"
    " seed 0; partial: the 10 % training file only"
  )


def test_unsw_nb15_of_one_partition_is_split_and_says_so(samples, tmp_path):
  result = data.load(
    "unsw_nb15",
    tmp_path / "d",
    local_files=samples,
    progress=False,
    multi_class=True,
  )
  assert (len(result.train_x), len(result.test_x)) == (28, 12)
  assert result.info.note.endswith("partial: the official test partition only")
  assert result.info.num_classes == 10
  assert result.info.class_names[0] == "Normal"


def test_unsw_nb15_of_both_partitions_is_official(
  samples, tmp_path, monkeypatch
):
  cls = unsw_nb15.UnswNb15
  first, second = (samples / "unsw_nb15" / name for name in cls.FILES)
  lines = first.read_text(encoding="utf-8-sig").splitlines()
  # The names are swapped in most copies: the larger one is the training set.
  second.write_text("\n".join(lines + lines[1:41]) + "\n", encoding="utf-8-sig")
  digest = "sha256:" + hashlib.sha256(second.read_bytes()).hexdigest()
  monkeypatch.setattr(
    cls, "PARTITIONS", dict(cls.PARTITIONS) | {100: ("train", digest)}
  )
  result = data.load(
    "unsw_nb15", tmp_path / "d", local_files=samples, progress=False
  )
  assert (len(result.train_x), len(result.test_x)) == (100, 60)
  assert result.info.note == "official split"


def test_unsw_nb15_truncated_is_refused(samples, tmp_path):
  path = samples / "unsw_nb15" / unsw_nb15.UnswNb15.FILES[0]
  path.write_bytes(path.read_bytes()[:-200])
  with pytest.raises(
    ValueError, match=r"training-set\.csv: expected 100 or 60 rows, got \d+"
  ):
    data.load("unsw_nb15", tmp_path / "d", local_files=samples, progress=False)


def test_nsl_kdd_binary_and_multi_class_labels(samples, tmp_path):
  def load(**options):
    return data.load(
      "nsl_kdd", tmp_path / "d", local_files=samples, progress=False, **options
    )

  binary, families = load(), load(multi_class=True)
  np.testing.assert_array_equal(binary.train_labels, families.train_labels > 0)
  assert families.info.class_names == ("normal", "dos", "probe", "r2l", "u2r")
  rows = (samples / "nsl_kdd/KDDTrain+.txt").read_text().splitlines()
  attacks = [row.split(",")[41] for row in rows]
  expected = [
    families.info.class_names.index(kdd._FAMILY_OF[attack])
    for attack in attacks
  ]
  assert families.train_labels.tolist() == expected
  hard = load(test_split="test21")
  assert len(hard.test_x) == 12

  # Values of the test rows that no training row has are counted.
  def services(name):
    rows = (samples / "nsl_kdd" / name).read_text().splitlines()
    return [row.split(",")[2] for row in rows]

  unknown = sum(
    s not in services("KDDTrain+.txt") for s in services("KDDTest+.txt")
  )
  assert dict(binary.info.counts)["unknown test values of service"] == unknown
  assert unknown > 0


@pytest.mark.parametrize(
  "spoil, message",
  [
    (lambda row: row.rsplit(",", 1)[0], r"expected 43 fields.*42 fields"),
    (lambda row: row.replace("normal", "martian"), "martian"),
    (lambda row: "x" + row, "could not convert"),
  ],
)
def test_damaged_rows_are_named(spoil, message, samples, tmp_path, monkeypatch):
  path = samples / "nsl_kdd/KDDTrain+.txt"
  rows = path.read_text().splitlines()
  place = next(i for i, row in enumerate(rows) if ",normal," in row)
  rows[place] = spoil(rows[place])
  path.write_text("\n".join(rows) + "\n")
  files = dict(kdd.NslKdd.FILES)
  digest = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
  files["train"] = (files["train"][0], len(rows), digest)
  monkeypatch.setattr(kdd.NslKdd, "FILES", files)
  with pytest.raises(
    ValueError,
    match=rf"KDDTrain\+\.txt: {message}|{message}.*row {place}: the file is damaged",
  ):
    data.load("nsl_kdd", tmp_path / "d", local_files=samples, progress=False)


def test_numbers_that_are_not_finite_are_refused(
  samples, tmp_path, monkeypatch
):
  from experiments.data import prepared

  columns = prepared.columns

  def spoilt(folder, split):
    rows = columns(folder, split)
    rows["numeric"] = rows["numeric"].copy()
    rows["numeric"][3, 1] = np.nan
    return rows

  monkeypatch.setattr(prepared, "columns", spoilt)
  with pytest.raises(ValueError, match="split train: expected finite numbers"):
    data.load("nsl_kdd", tmp_path / "d", local_files=samples, progress=False)
