"""BERT on samples of MRPC and SQuAD: scores, baselines, a loss that falls."""

import dataclasses
import json

import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import data
from experiments.data import spans as spans_lib
from experiments.gyro import text
from experiments.gyro import text_scores
from experiments.run import config as config_lib
from experiments.run import runner
from experiments.run import workdirs

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


def test_scores_of_spans_by_hand():
  scores = np.zeros((1, 2, 7), np.float32)
  scores[0, 0, 4] = scores[0, 1, 6] = 5  # From "cars" to "fast".
  info = data.Info("x", "spans", 0)
  found = text_scores.of_test(info, {}, scores, _spans())
  assert found["model"] == {"exact_match": 100, "f1": 100}
  # "red cars drive" has 2 of its 3 words, and 2 of the answer's 3.
  assert found["baseline"]["exact_match"] == 0
  assert found["baseline"]["f1"] == pytest.approx(200 / 3)


def test_scores_of_pairs_by_hand():
  # Most of the test set's are 0; the baseline must not know.
  labels = {"train": np.array([1, 1, 0]), "test": np.array([0, 0, 0, 1])}
  logits = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
  info = data.Info("x", "pairs", 2)
  found = text_scores.of_test(info, labels, logits)
  # One of two claims is right, and the only true one is found.
  assert found["model"] == {"accuracy": 75, "f1": pytest.approx(200 / 3)}
  assert found["baseline"] == {"accuracy": 25, "f1": pytest.approx(40)}


def test_nothing_claimed_has_no_f1():
  found = text_scores.accuracy_and_f1(np.zeros(2), np.array([0, 1]))
  assert found == {"accuracy": 50, "f1": 0}


@pytest.fixture
def call(samples, tmp_path):
  """Runs the binary with `_TINY`'s flags; returns its result and folder."""

  def run(name="squad", **fields):
    data.load(name, tmp_path / "d", local_files=samples, progress=False)
    given = {n: getattr(_TINY, n) for n in _TINY.identity()} | fields
    text.FLAGS.mark_as_parsed()
    folder = tmp_path / "out"
    with flagsaver.flagsaver(
      **given,
      data_dir=str(tmp_path / "d"),
      workdir=str(folder),
      progress=False,
    ):
      text.main([])
    return json.loads((folder / "result.json").read_text()), folder

  return run


@pytest.mark.slow
def test_the_binary_scores_squad_and_continues(call, capsys):
  fields = dict(num_test=4, fixed_rows=8, checkpoint_every=2)
  first = call(**fields)[0]
  assert set(first["scores"]["model"]) == {"exact_match", "f1"}
  assert first["fixed_loss"][1] < first["fixed_loss"][0]
  assert first["counts"]["test questions"] == 4
  assert first["counts"]["training questions"] == 12
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith("squad, official split, 4 steps")
  assert [line.split("|")[1].strip(" -") for line in lines[1:5]] == [
    *("", "", "model", "baseline")
  ]
  # Killed after the last checkpoint, as the scores are taken.
  _, folder = call(**fields)
  (folder / "result.json").unlink()
  again, _ = call(**fields)
  for name in ("scores", "fixed_loss", "params_sha256", "train_rows"):
    assert again[name] == first[name]
  assert (folder / "curves.png").exists()


@pytest.mark.slow
def test_mrpc_is_scored_on_all_of_its_test_set(call):
  found, _ = call("mrpc", dataset="mrpc", max_length=16, num_steps=3)
  assert found["test_rows"] == 12  # Fewer than the rows of a batch.
  assert found["fixed_rows"] == found["train_rows"]
  assert found["fixed_loss"][1] < found["fixed_loss"][0]
  assert set(found["scores"]["model"]) == {"accuracy", "f1"}


@pytest.mark.parametrize(
  "fields, fixed_rows, message",
  [
    ({"seeds": 2}, 1, "seeds must be 1 here, got 2: give --seed"),
    ({}, 0, "fixed_rows must be >= 1, got 0"),
    (
      {"dataset": "digits"},
      1,
      r"one of pairs or spans \(glue/mrpc, squad\), got 'digits'",
    ),
  ],
)
def test_wrong_settings_are_refused(fields, fixed_rows, message):
  text.FLAGS.mark_as_parsed()
  config = dataclasses.replace(_TINY, **fields)
  with pytest.raises(ValueError, match=message):
    text.check(config, fixed_rows)


def test_a_folder_of_another_command_has_no_scores(call, tmp_path):
  given = {n: getattr(_TINY, n) for n in _TINY.identity()}
  config = config_lib.RunConfig(**given, valid_fraction=0.0)
  workdirs.claim(tmp_path / "out", config.identity())
  workdirs.write_result(tmp_path / "out", dict.fromkeys(runner.RESULT_KEYS, 4))
  with pytest.raises(ValueError, match="a finished run without scores"):
    call()
