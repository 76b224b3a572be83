"""BERT on samples of MRPC and SQuAD: scores, baselines, a loss that falls."""

import dataclasses
import json

import numpy as np
import pytest
from absl.testing import flagsaver

from experiments.data import dataset as dataset_lib
from experiments.data import spans as spans_lib
from experiments.gyro import text
from experiments.gyro import text_runs
from experiments.gyro import text_scores
from experiments.run import config as config_lib

_TINY = config_lib.RunConfig(
  dataset="squad",
  model="bert",
  hidden=64,
  num_hidden=1,
  num_train=12,
  rate=0.1,
  batch_size=8,
  num_steps=4,
  learning_rate=3e-3,
  max_length=160,  # Windows overlap by 128 tokens.
  method="pooled",
)


def _spans():
  # [CLS] question [SEP] red cars drive fast: tokens 3 to 6 are the context's.
  context = "red cars drive fast"
  offsets = [(0, 0)] * 3 + [(0, 3), (4, 8), (9, 14), (15, 19)]
  return spans_lib.Spans(
    question=np.zeros(1, np.int32),
    offsets=np.array([offsets], np.int32),
    ids=["a"],
    contexts=[context],
    answers=[["cars drive fast"]],
  )


def _dataset(task: str, **fields) -> dataset_lib.Dataset:
  info = dataset_lib.Info("x", task, 2)
  return dataset_lib.Dataset(info=info, train_x=(), test_x=(), **fields)


def test_scores_of_spans_by_hand():
  scores = np.zeros((1, 2, 7), np.float32)
  scores[0, 0, 4] = scores[0, 1, 6] = 5  # From "cars" to "fast".
  labels = np.zeros((1, 2), np.int32)
  dataset = _dataset(
    "spans", train_labels=labels, test_labels=labels, extra=_spans()
  )
  found = text_scores.of_test(dataset, scores)
  assert found["model"] == {"exact_match": 100, "f1": 100}
  # "red cars drive" has 2 of its 3 words, and 2 of the answer's 3.
  assert found["baseline"]["exact_match"] == 0
  assert found["baseline"]["f1"] == pytest.approx(200 / 3)


def test_scores_of_pairs_by_hand():
  dataset = _dataset(
    "pairs",
    train_labels=np.array([1, 1, 0]),
    # Most of these are 0; the baseline must not know.
    test_labels=np.array([0, 0, 0, 1]),
  )
  logits = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
  found = text_scores.of_test(dataset, logits)
  # One of two claims is right, and the only true one is found.
  assert found["model"] == {"accuracy": 75, "f1": pytest.approx(200 / 3)}
  assert found["baseline"] == {"accuracy": 25, "f1": pytest.approx(40)}


def test_nothing_claimed_has_no_f1():
  found = text_scores.accuracy_and_f1(np.zeros(2), np.array([0, 1]))
  assert found == {"accuracy": 50, "f1": 0}


def test_other_tasks_are_refused():
  labels = np.zeros(1, np.int32)
  dataset = _dataset("image", train_labels=labels, test_labels=labels)
  with pytest.raises(ValueError, match="one of pairs or spans.*got 'x'"):
    text_scores.of_test(dataset, np.zeros((1, 2)))


def _last_lines(capsys) -> list[str]:
  return capsys.readouterr().out.splitlines()


def test_the_binary_scores_squad(samples, tmp_path, capsys):
  from experiments import data

  data.load("squad", tmp_path / "d", local_files=samples, progress=False)
  given = {n: getattr(_TINY, n) for n in _TINY.identity()}
  text.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(
    **given,
    data_dir=str(tmp_path / "d"),
    workdir=str(tmp_path / "out"),
    num_test=4,
    fixed_rows=8,
    progress=False,
  ):
    text.main([])
  found = json.loads((tmp_path / "out/text_results.json").read_text())
  assert set(found["scores"]["model"]) == {"exact_match", "f1"}
  assert found["fixed_loss"][1] < found["fixed_loss"][0]
  assert found["counts"]["test questions"] == 4
  lines = _last_lines(capsys)
  assert lines[0].startswith("squad, official split, 4 steps")
  assert [line.split("|")[1].strip() for line in lines[1:5]] == [
    *("", "-" * 8, "model", "baseline")
  ]


@pytest.mark.slow
def test_mrpc_is_scored_on_all_of_its_test_set(samples, tmp_path):
  from experiments import data

  data.load("mrpc", tmp_path / "d", local_files=samples, progress=False)
  config = dataclasses.replace(
    _TINY, dataset="mrpc", max_length=16, num_steps=3
  )
  found = text_runs.run(config, tmp_path / "d", progress=False)
  assert found["test_rows"] == 12  # Fewer than the rows of a batch.
  assert found["fixed_rows"] == found["train_rows"]
  assert found["fixed_loss"][1] < found["fixed_loss"][0]
  assert set(found["scores"]["model"]) == {"accuracy", "f1"}


@pytest.mark.parametrize(
  "fields, options, message",
  [
    ({"model": "mlp"}, {}, "model must be 'bert' here, got 'mlp'"),
    ({"crop": 4}, {}, "crop has no effect on the text results, got 4"),
    ({"valid_fraction": 0.2}, {}, "valid_fraction has no effect on the text"),
    ({}, {"fixed_rows": 0}, "fixed_rows must be >= 1, got 0"),
  ],
)
def test_wrong_settings_are_refused(fields, options, message):
  defaults = dict.fromkeys(("hidden", "num_hidden", "max_length"))
  config = dataclasses.replace(_TINY, **{**defaults, **fields})
  with pytest.raises(ValueError, match=message):
    text_runs.run(config, progress=False, **options)


def test_datasets_without_text_are_refused(tmp_path):
  # Presets say that nothing is held out, which is so.
  config = dataclasses.replace(
    _TINY, dataset="digits", max_length=None, valid_fraction=0.0
  )
  with pytest.raises(ValueError, match="glue/mrpc or squad here, got 'digits'"):
    text_runs.run(config, tmp_path, progress=False)
