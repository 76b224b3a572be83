"""One path to arrays; hold-outs and subsets are stratified and seeded."""

import dataclasses
import io
import os

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

from experiments import data
from experiments.data import prepared
from experiments.data import registry
from experiments.data import streaming


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
  return data.load("digits", tmp_path_factory.mktemp("d"), progress=False)


def _toy(labels) -> data.Dataset:
  labels = np.array(labels, np.int32)
  x = np.arange(len(labels), dtype=np.float32)[:, None]
  return data.Dataset(
    data.Info("toy", "packets", 2), x, labels, x[:2], labels[:2]
  )


def test_digits_are_scikit_learns(digits):
  original = sklearn.datasets.load_digits()
  images = np.concatenate([digits.train_x, digits.test_x])[..., 0]
  np.testing.assert_array_equal(images, original.images)
  labels = np.concatenate([digits.train_labels, digits.test_labels])
  np.testing.assert_array_equal(labels, original.target)
  assert digits.info.note.startswith("own split")
  assert digits.info.pixel_max == original.images.max() == 16


def test_holdout_is_stratified_disjoint_and_seeded(digits):
  a = data.holdout(digits, 0.2, seed=1)
  assert len(a.valid_labels) == 300 and a.num_train == 1200
  counts = np.bincount(digits.train_labels)
  np.testing.assert_allclose(np.bincount(a.valid_labels), counts / 5, atol=1)
  # Disjoint and complete: the images of both sides are those of the whole.
  both = np.concatenate([a.train_x, a.valid_x]).reshape(1500, -1)
  whole = digits.train_x.reshape(1500, -1)
  np.testing.assert_array_equal(
    both[np.lexsort(both.T)], whole[np.lexsort(whole.T)]
  )
  np.testing.assert_array_equal(a.test_x, digits.test_x)
  b, c = (data.holdout(digits, 0.2, seed=s) for s in (1, 2))
  np.testing.assert_array_equal(a.valid_x, b.valid_x)
  assert (a.valid_x != c.valid_x).any()


def test_holdout_keeps_images_with_their_labels():
  a = data.holdout(_toy([0, 1] * 50), 0.3)
  np.testing.assert_array_equal(a.valid_labels, a.valid_x[:, 0] % 2)
  np.testing.assert_array_equal(a.train_labels, a.train_x[:, 0] % 2)


@pytest.mark.parametrize(
  "fraction, message",
  [
    (-0.1, r"fraction must be in \[0, 1\), got -0.1"),
    (1.0, r"fraction must be in \[0, 1\), got 1.0"),
    (float("nan"), r"fraction must be in \[0, 1\), got nan"),
    (0.001, r"leave both sides some rows, got 0.001 of 10 rows"),
    (0.999, r"leave both sides some rows, got 0.999 of 10 rows"),
  ],
)
def test_holdout_refuses(fraction, message):
  with pytest.raises(ValueError, match=message):
    data.holdout(_toy([0, 1] * 5), fraction)


def test_holdout_of_nothing_and_twice():
  toy = _toy([0, 1] * 5)
  assert data.holdout(toy, 0.0) is toy
  with pytest.raises(ValueError, match="no validation set yet"):
    data.holdout(data.holdout(toy, 0.2), 0.2)


@pytest.mark.parametrize("count", [1, 7, 10, 99, 100])
def test_subset_gives_each_class_its_share(count):
  a = data.subset(_toy([0] * 80 + [1] * 20), count, seed=3)
  assert a.num_train == count
  assert len(np.unique(a.train_x)) == count
  assert abs((a.train_labels == 1).sum() - count / 5) <= 1


@pytest.mark.parametrize("count", [0, -1, 101])
def test_subset_refuses(count):
  with pytest.raises(
    ValueError, match=rf"num_train must be in \[1, 100\].*got {count}"
  ):
    data.subset(_toy([0] * 100), count)


def test_load_takes_a_subset(tmp_path):
  a, b = (
    data.load("digits", tmp_path, num_train=50, seed=s, progress=False)
    for s in (0, 1)
  )
  assert a.num_train == b.num_train == 50 and len(a.test_x) == 297
  assert (np.bincount(a.train_labels, minlength=10) >= 4).all()
  assert (a.train_x != b.train_x).any()


@pytest.mark.parametrize(
  "name, option, known",
  [
    ("digits", {"multi_class": True}, "none"),
    ("nsl_kdd", {"max_length": 9}, "multi_class, scaling, test_split"),
    ("mrpc", {"stride": 9}, "vocabulary, vocabulary_size, max_length, lowerc"),
  ],
)
def test_options_of_other_datasets_are_refused(name, option, known, tmp_path):
  (key,) = option
  with pytest.raises(
    ValueError, match=f"{key} must be left alone.*options are: {known}"
  ):
    data.load(name, tmp_path, **option)


class Stock(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A dataset as TFDS itself prepares it: encoded images, shuffled."""

  name = "cifar10"
  VERSION = tfds.core.Version("3.0.2")
  SIZES = (32, 32)

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description="As the stock builder's.",
      features=tfds.features.FeaturesDict(
        {
          "id": tfds.features.Text(),
          "image": tfds.features.Image(shape=(None, None, 3))
          if self.name == "ragged"
          else tfds.features.Image(shape=(32, 32, 3)),
          "label": tfds.features.ClassLabel(num_classes=10),
        }
      ),
      supervised_keys=("image", "label"),
    )

  def _split_generators(self, dl_manager):
    return {
      "train": self._generate_examples(30),
      "test": self._generate_examples(20),
    }

  def _generate_examples(self, count):
    for i in range(count):
      buffer = io.BytesIO()
      image = np.full((32, 32 + (self.name == "ragged") * i, 3), i, np.uint8)
      Image.fromarray(image).save(buffer, "PNG")
      buffer.seek(0)
      yield i, {"id": f"{i}", "image": buffer, "label": i % 10}


def _prepare_stock(monkeypatch, name, root):
  monkeypatch.setattr(Stock, "name", name)
  tfds.disable_progress_bar()
  Stock(
    data_dir=os.fspath(root), file_format="array_record"
  ).download_and_prepare()


@pytest.mark.parametrize("name", ["cifar10", "some_other"])
def test_what_tfds_prepared_itself_loads(name, tmp_path, monkeypatch):
  _prepare_stock(monkeypatch, name, tmp_path)
  result = data.load(name, tmp_path)
  assert result.train_x.shape == (30, 32, 32, 3)
  assert result.train_x.dtype == np.uint8
  np.testing.assert_array_equal(
    result.train_x[:, 0, 0, 0] % 10, result.train_labels
  )
  assert sorted(result.test_x[:, 5, 5, 2].tolist()) == list(range(20))
  assert (result.info.name, result.info.num_classes) == (name, 10)
  # Thirty images are not the whole of CIFAR-10; the other's size is unknown.
  assert (
    result.info.note
    == {
      "cifar10": "official split; partial: 30 of 50,000 training rows, 20 of"
      " 10,000 test rows",
      "some_other": "official split",
    }[name]
    + "; files unchecked: prepared without digests"
  )


def test_images_of_many_shapes_need_streaming(tmp_path, monkeypatch):
  _prepare_stock(monkeypatch, "ragged", tmp_path)
  with pytest.raises(ValueError, match="expected features image, of one shape"):
    data.load("ragged", tmp_path)
  images = streaming.open_images("ragged", "train", tmp_path, size=32)
  batch = next(streaming.stream(images, 10))
  assert batch["x"].shape == (10, 32, 32, 3)
  np.testing.assert_array_equal(batch["x"][:, 9, 9, 0] % 10, batch["label"])


def test_a_label_outside_the_classes_is_refused(tmp_path, monkeypatch):
  _prepare_stock(monkeypatch, "cifar10", tmp_path)
  spec = dataclasses.replace(registry.get("cifar10"), num_classes=7)
  monkeypatch.setitem(registry._BY_NAME, "cifar10", spec)
  with pytest.raises(
    ValueError, match=r"split 'train': expected labels in \[0, 7\), got 0 to 9"
  ):
    data.load("cifar10", tmp_path)


def test_unknown_split_lists_those_there_are(tmp_path):
  folder = data.prepare("digits", tmp_path, progress=False)
  with pytest.raises(
    ValueError,
    match="split must be one of test, train of .*got 'dev'|split must be one of train, test of .*got 'dev'",
  ):
    prepared.open_split(folder, "dev")


def test_an_empty_split_is_refused(tmp_path, monkeypatch):
  folder = data.prepare("digits", tmp_path, progress=False)
  monkeypatch.setattr(prepared, "open_split", lambda *_: [])
  with pytest.raises(ValueError, match="split 'train' is empty"):
    prepared.columns(folder, "train")
