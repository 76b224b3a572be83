"""Streamed runs: any shuffle, exact continuation, scores of whole splits."""

import os

import jax
import numpy as np
import pytest

from experiments.run import config as config_lib
from experiments.run import examples
from experiments.run import predictions
from experiments.run import runner
from experiments.run import setup as setup_lib
from experiments.run import workdirs
from kdropout_jax import UnsupportedError
from kdropout_jax.training import loop
from kdropout_jax.training import metrics
from kdropout_jax.training import task as task_lib
from tests import tolerance
from tests.experiments.data import loading_test

_FIELDS = dict(
  data_placement="stream",
  method="pooled",
  pool_size=5,
  m=2,
  num_train=70,  # Four batches an epoch, and six rows left over.
  hidden=8,
  batch_size=16,
  num_steps=9,
  eval_every=3,
  checkpoint_every=2,
  num_devices=1,
  seeds=2,
)

LENGTH = 2 * (64 + 8 + 8 + 10) + 297
"""Terms there and back through the network, and over the largest split."""


def config_of(**fields):
  return config_lib.RunConfig(**{**_FIELDS, **fields})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  folder = tmp_path_factory.mktemp("unbroken")
  (result,) = runner.run(config_of(), folder, progress=False)
  return result, folder


@pytest.mark.parametrize("step", [3, pytest.param(7, marks=pytest.mark.slow)])
def test_a_broken_run_continues_inside_an_epoch_with_the_same_bits(
  step, unbroken, tmp_path
):
  def stop(done, state, window):
    raise KeyError(done)

  def hooks(run):
    return [loop.Hook(stop, steps=frozenset([step]))]

  with pytest.raises(KeyError):
    runner.run(config_of(), tmp_path, progress=False, hooks=hooks)
  (result,) = runner.run(config_of(), tmp_path, progress=False)
  assert result["params_sha256"] == unbroken[0]["params_sha256"]
  assert result["test_loss"] == unbroken[0]["test_loss"]
  logs = [
    metrics.read_jsonl(f / "metrics.jsonl") for f in (tmp_path, unbroken[1])
  ]
  for ours, theirs in zip(*logs, strict=True):
    assert ours["step"] == theirs["step"]
    assert ours["train_loss"] == theirs["train_loss"]
    assert ours["valid_loss"] == theirs["valid_loss"]


def test_a_seed_trains_alone_as_beside_others(unbroken, tmp_path):
  (alone,) = runner.run(config_of(seed=1, seeds=1), tmp_path, progress=False)
  close = tolerance.assert_sums_close
  close(
    np.float32(alone["train_loss"][0]),
    unbroken[0]["train_loss"][1],
    LENGTH,
    steps=9,
  )


@pytest.mark.slow
def test_a_run_on_two_devices_trains_the_same(unbroken, tmp_path):
  (two,) = runner.run(config_of(num_devices=2), tmp_path, progress=False)
  for ours, theirs in zip(two["test_loss"], unbroken[0]["test_loss"]):
    tolerance.assert_sums_close(np.float32(ours), theirs, LENGTH, steps=9)


@pytest.mark.slow
def test_a_step_on_the_whole_set_is_that_of_examples_on_the_device(tmp_path):
  """One batch holds all examples: their order matters to rounding alone."""
  fields = dict(num_train=64, batch_size=64, num_steps=3, method="none")
  fields |= dict(m=8, pool_size=50)
  streamed, resident = (
    runner.run(
      config_of(**fields, data_placement=placement),
      tmp_path / placement,
      progress=False,
    )[0]
    for placement in ("stream", "device")
  )
  for name in ("train_loss", "valid_loss", "test_loss", "test_accuracy"):
    for ours, theirs in zip(streamed[name], resident[name], strict=True):
      tolerance.assert_sums_close(np.float32(ours), theirs, LENGTH, steps=3)


def test_scores_are_means_over_all_examples_of_a_split():
  """1,350 training rows are two chunks of 512 and a part of a third."""
  streamed, resident = (
    setup_lib.make([config_of(num_train=None, data_placement=placement)])
    for placement in ("stream", "device")
  )
  state = resident.init()
  ids = np.array([0, 3], np.uint32)
  for split, chosen in (("train", None), ("test", None), ("valid", ids)):
    ours = streamed.feed.evaluate(state, split, chosen)
    theirs = resident.program.evaluate(
      state,
      resident.data,
      *resident.splits[split],
      members=resident.members,
      ids=chosen,
    )
    for name in ("loss", "accuracy"):
      assert ours[name].dtype == theirs[name].dtype
      tolerance.assert_sums_close(ours[name], theirs[name], 64 + 8 + 1_350)


def test_auto_streams_what_exceeds_the_device(monkeypatch):
  assert not examples.load(config_of(data_placement="auto"), None).is_streamed
  monkeypatch.setattr(examples, "DEVICE_BYTES", 1000)
  assert examples.load(config_of(data_placement="auto"), None).is_streamed
  asked = config_of(data_placement="device")
  assert not examples.load(asked, None).is_streamed


@pytest.mark.parametrize(
  "shuffle, same_batches, same_rows",
  [
    ("every_epoch", False, False),
    ("rows", True, False),
    ("once", True, True),
  ],
)
def test_an_epoch_reshuffles_what_it_is_told(
  shuffle, same_batches, same_rows, monkeypatch
):
  setup = setup_lib.make([config_of(shuffle=shuffle)])
  seen = []

  def step(state, members, batch, number):
    seen.append(batch.inputs.reshape(16, -1).tolist())
    return state, jax.tree.map(np.asarray, task_lib.Sums.zero())

  monkeypatch.setattr(setup.program, "step", step)
  setup.feed.run(setup.init(), 0, 8)
  one, two = seen[:4], seen[4:]
  assert ([sorted(b) for b in one] == [sorted(b) for b in two]) == same_batches
  assert (one == two) == same_rows


def test_images_of_many_shapes_train_from_disk(tmp_path, monkeypatch):
  loading_test._prepare_stock(monkeypatch, "ragged", tmp_path / "data")
  config = config_of(
    dataset="ragged",
    num_train=24,
    batch_size=8,
    image_size=12,
    crop=8,
    flip=True,
    pixels="channels",
    num_steps=4,
  )

  found = examples.load(config, os.fspath(tmp_path / "data"))
  train, valid = (found.sources[name].rows for name in ("train", "valid"))
  assert (len(set(train)), len(set(valid))) == (24, 3)
  assert not set(train) & set(valid)
  assert found.splits == {"train": (0, 24), "valid": (24, 27), "test": (27, 47)}

  def refused(run):
    with pytest.raises(UnsupportedError, match="'ragged' is streamed from"):
      predictions.of_members(run, run.setup.init())
    return []

  (result,) = runner.run(
    config,
    tmp_path / "run",
    data_dir=os.fspath(tmp_path / "data"),
    hooks=refused,
    progress=False,
  )
  assert result["config"]["image_size"] == 12
  assert np.isfinite(result["valid_loss"] + result["test_loss"]).all()
  assert workdirs.result(tmp_path / "run") == result


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"num_train": 28}, r"num_train must be in \[1, 27\] for .*got 28"),
    ({"mean_pool": 2}, "mean_pool must be left alone .* on disk, got 2"),
  ],
)
def test_what_does_not_fit_images_on_disk_is_refused(
  fields, message, tmp_path, monkeypatch
):
  loading_test._prepare_stock(monkeypatch, "ragged", tmp_path)
  config = config_of(**({"dataset": "ragged", "num_train": 9} | fields))
  with pytest.raises(ValueError, match=message):
    examples.load(config, os.fspath(tmp_path))


def test_what_does_not_fit_a_stream_is_refused():
  with pytest.raises(ValueError, match="data_placement must be one of auto, "):
    config_of(data_placement="disk")
  with pytest.raises(ValueError, match="image_size must be left alone.*got 9"):
    setup_lib.make([config_of(image_size=9)])
  extract = config_of(
    method="sequential", m=1, pool_size=50, subnet_training="extract"
  )
  with pytest.raises(ValueError, match="subnet_training must be masked where"):
    setup_lib.make([extract])
