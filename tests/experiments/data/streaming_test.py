"""Streams: a law for the order, exact resumption, rows whatever the hosts."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments import data
from experiments.data import streaming

_N = 50


@pytest.fixture
def source():
  x = np.arange(_N, dtype=np.float32)[:, None]
  return streaming.Arrays(x, np.arange(_N, dtype=np.int32))


def _rows(stream):
  return [batch["label"].tolist() for batch in stream]


def test_an_epoch_holds_every_row_at_most_once(source):
  epochs = _rows(streaming.stream(source, 8, seed=1, num_epochs=3))
  assert len(epochs) == 18  # 6 full batches an epoch; 2 rows are left out.
  for e in range(3):
    rows = sum(epochs[6 * e : 6 * e + 6], [])
    assert len(set(rows)) == 48 and max(rows) < _N
  assert epochs[:6] != epochs[6:12] != epochs[12:]


def test_batches_hold_inputs_and_their_labels(source):
  batch = next(streaming.stream(source, 8))
  assert batch["x"].shape == (8, 1) and batch["label"].dtype == np.int32
  np.testing.assert_array_equal(batch["x"][:, 0], batch["label"])


def test_the_seed_decides_the_order(source):
  a, b, c = (_rows(streaming.stream(source, 8, seed=s)) for s in (1, 1, 2))
  assert a == b != c


def test_without_shuffling_the_order_is_the_sources(source):
  rows = sum(_rows(streaming.stream(source, 10, shuffle=False)), [])
  assert rows == list(range(_N))


@pytest.mark.parametrize("step", [0, 1, 5, 6, 11, 18])
def test_starting_at_a_step_continues_exactly(source, step):
  whole = _rows(streaming.stream(source, 8, seed=3, num_epochs=3))
  rest = _rows(
    streaming.stream(source, 8, seed=3, num_epochs=3, start_step=step)
  )
  assert rest == whole[step:]


@pytest.mark.parametrize("step", [1, 7])
def test_grains_state_continues_exactly(source, step):
  whole = _rows(streaming.stream(source, 8, seed=3, num_epochs=2))
  first = streaming.stream(source, 8, seed=3, num_epochs=2)
  for _ in range(step):
    next(first)
  state = first.get_state()
  second = streaming.stream(source, 8, seed=3, num_epochs=2)
  second.set_state(state)
  assert _rows(second) == whole[step:]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_read_contiguous_parts_of_the_global_batch(source, count):
  whole = _rows(streaming.stream(source, 8, seed=4, num_epochs=2))
  parts = [
    _rows(streaming.stream(source, 8, seed=4, num_epochs=2, process=(i, count)))
    for i in range(count)
  ]
  assert [sum(rows, []) for rows in zip(*parts)] == whole


def test_dict_inputs_stream(source):
  x = {"a": np.arange(6), "b": np.ones((6, 2))}
  batch = next(
    streaming.stream(streaming.Arrays(x, np.arange(6)), 3, shuffle=False)
  )
  assert batch["x"]["a"].tolist() == [0, 1, 2]
  assert batch["x"]["b"].shape == (3, 2)


def test_prepared_images_stream_from_disk(tmp_path):
  whole = data.load("digits", tmp_path, progress=False)
  images = streaming.open_images("digits", "test", tmp_path)
  assert len(images) == 297
  batch = next(streaming.stream(images, 297, shuffle=False))
  np.testing.assert_array_equal(batch["x"], whole.test_x)
  np.testing.assert_array_equal(batch["label"], whole.test_labels)


def test_images_of_any_shape_become_squares():
  wide = np.zeros((10, 40, 3), np.uint8)
  wide[:, 15:25] = 200  # The middle square.
  out = streaming.scale_and_crop(wide, 10)
  assert out.shape == (10, 10, 3) and (out == 200).all()
  assert streaming.scale_and_crop(wide.swapaxes(0, 1), 20).shape == (20, 20, 3)
  assert streaming.scale_and_crop(wide[..., :1], 7).shape == (7, 7, 1)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"batch_size": 0}, r"batch_size must be in \[1, 50\].*got 0"),
    ({"batch_size": 51}, r"batch_size must be in \[1, 50\].*got 51"),
    (
      {"process": (0, 3)},
      r"process must be .*dividing batch_size 8, got \(0, 3\)",
    ),
    ({"process": (2, 2)}, r"process must be .*got \(2, 2\)"),
    ({"start_step": 7}, r"start_step must be in \[0, 6\], got 7"),
    ({"start_step": -1}, r"start_step must be in \[0, 6\], got -1"),
  ],
)
def test_numbers_out_of_range_are_refused(source, options, message):
  with pytest.raises(ValueError, match=message):
    streaming.stream(source, **({"batch_size": 8} | options))


def test_open_images_refuses(tmp_path):
  with pytest.raises(ValueError, match="must be one of images, got 'squad'"):
    streaming.open_images("squad", "train", tmp_path)
  with pytest.raises(
    ValueError, match="split must be 'train' or 'test', got 'x'"
  ):
    streaming.open_images("digits", "x", tmp_path)


_WORKERS = """
import sys
from absl import app
import numpy as np
from experiments.data import streaming

def main(argv):
  images = streaming.open_images("digits", "train", argv[1])
  read = lambda workers, **k: streaming.stream(
      images, 500, seed=5, num_epochs=2, num_workers=workers, **k)
  whole = [b["label"].tolist() for b in read(0)]
  it = read(1)
  first = [next(it)["label"].tolist() for _ in range(2)]
  state = it.get_state()
  again = read(1)
  again.set_state(state)
  rest = [b["label"].tolist() for b in again]
  assert len(whole) == 6 and first + rest == whole
  print("same order")

if __name__ == "__main__":
  app.run(main)
"""


@pytest.mark.slow
def test_worker_processes_read_the_same_order(tmp_path):
  data.prepare("digits", tmp_path, progress=False)
  script = tmp_path / "workers.py"
  script.write_text(_WORKERS)
  root = pathlib.Path(__file__).parents[3]
  done = subprocess.run(
    [sys.executable, str(script), str(tmp_path)],
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": str(root)},
  )
  assert done.stdout == "same order\n", done.stderr


def test_workers_outside_of_a_binary_are_refused(source, monkeypatch):
  monkeypatch.setattr(
    streaming.flags.FLAGS.__class__, "is_parsed", lambda self: False
  )
  with pytest.raises(ValueError, match="num_workers must be 0 outside of absl"):
    streaming.stream(source, 8, num_workers=1)
