"""Records on disk."""

import numpy as np
import pytest

from kdropout_jax.training import metrics


def test_records_come_back(tmp_path):
  path = tmp_path / "m.jsonl"
  writer = metrics.JsonlWriter(path)
  writer.write(2, {"loss": np.array([0.5, np.nan]), "epoch": 1.0})
  writer.close()
  assert metrics.read_jsonl(path) == [
    {"step": 2, "loss": [0.5, None], "epoch": 1.0}
  ]


def test_a_continued_run_drops_what_lies_past_its_checkpoint(tmp_path):
  path = tmp_path / "m.jsonl"
  writer = metrics.JsonlWriter(path)
  for step in (1, 2, 3):
    writer.write(step, {"loss": step / 4})
  writer.close()
  path.write_text(path.read_text() + '{"step": 4, "lo')  # A kill cut it off.
  writer = metrics.JsonlWriter(path, resume_step=2)
  writer.write(3, {"loss": 9.0})
  writer.close()
  assert [r["loss"] for r in metrics.read_jsonl(path)] == [0.25, 0.5, 9.0]


@pytest.mark.parametrize(
  "damage", ["", "3", "[1, 2]", '{"loss": 1}', '{"step": "a"}', "[" * 10**5]
)
def test_a_damaged_line_takes_no_other_with_it(tmp_path, damage):
  path = tmp_path / "m.jsonl"
  good = ['{"step": 1, "loss": 0.5}', '{"step": 2, "loss": 0.25}']
  text = "\n".join([good[0], damage, good[1]]).encode()
  for tail, steps in ((b"\n", [1, 2]), (b"\xff\n", [1])):
    path.write_bytes(text + tail)
    assert [r["step"] for r in metrics.read_jsonl(path)] == steps


def test_a_digit_that_changed_and_a_line_of_others_are_no_records(tmp_path):
  path = tmp_path / "m.jsonl"
  writer = metrics.JsonlWriter(path)
  for step in (1, 2):
    writer.write(step, {"loss": step / 4})
  writer.close()
  whole = path.read_text()
  path.write_text(whole + '{"step": 2, "loss": "x"}\n')
  assert [r["loss"] for r in metrics.read_jsonl(path)] == [0.25, 0.5]
  path.write_text(whole.replace("0.25", "0.35"))
  assert [r["step"] for r in metrics.read_jsonl(path)] == [2]


def test_a_new_run_starts_an_empty_file(tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_text('{"step": 3, "loss": 1.0}\n')
  metrics.JsonlWriter(path).close()
  assert metrics.read_jsonl(path) == []


def test_tensorboard_gets_the_mean_over_members(tmp_path):
  from tensorboardX.proto import event_pb2
  from tensorboardX.record_writer import RecordWriter  # noqa: F401

  writer = metrics.TensorBoardWriter(tmp_path)
  writer.write(5, {"loss": np.array([1.0, 3.0]), "note": "text"})
  # A run whose loss becomes NaN still says so itself: no error here.
  writer.write(6, {"loss": np.array([1.0, np.nan]), "accuracy": np.nan})
  writer.write(7, {"train_loss": 1.0, "test_exact_match": 3.0, "valid/x": 4.0})
  writer.close()
  (path,) = tmp_path.glob("events.*")
  data, found = path.read_bytes(), []
  while data:  # Length, its check, the record, its check.
    size = int.from_bytes(data[:8], "little")
    found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
    data = data[16 + size :]
  values = [
    (e.step, v.tag, v.simple_value) for e in found for v in e.summary.value
  ]
  assert values == [
    (5, "run/loss", 2.0),
    *(
      (7, "train/loss", 1.0),
      (7, "test/exact_match", 3.0),
      (7, "valid/x", 4.0),
    ),
  ]


def test_without_tensorboardx_the_error_names_the_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
  with pytest.raises(ImportError, match=r"kdropout-jax\[tensorboard\]"):
    metrics.TensorBoardWriter(tmp_path)


def test_writers_pass_records_on(tmp_path):
  paths = [tmp_path / "a", tmp_path / "b"]
  writers = metrics.Writers([metrics.JsonlWriter(p) for p in paths])
  writers.write(1, {"x": 2})
  writers.close()
  assert [metrics.read_jsonl(p) for p in paths] == [[{"step": 1, "x": 2}]] * 2
