"""Pooled images, by hand."""

import numpy as np
import pytest

from experiments import data
from experiments.data import pooling


def test_each_pixel_is_the_rounded_mean_of_its_square():
  images = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3)).astype("u1")
  found = pooling.pool_images(images, 2)
  assert found.shape == (5, 3, 2, 3) and found.dtype == np.uint8
  exact = images[3, 2:4, 0:2, 1].astype(float).mean()
  assert found[3, 1, 0, 1] == np.floor(exact + 0.5)


def test_chunks_change_nothing(monkeypatch):
  images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1)).astype("u1")
  whole = pooling.pool_images(images, 4)
  monkeypatch.setattr(pooling, "_CHUNK", 2)
  np.testing.assert_array_equal(pooling.pool_images(images, 4), whole)


def test_all_splits_are_pooled():
  digits = data.holdout(data.load("digits"), 0.1)
  found = pooling.mean_pool(digits, 4)
  for split in (found.train_x, found.valid_x, found.test_x):
    assert split.shape[1:] == (2, 2, 1)
  np.testing.assert_array_equal(found.test_labels, digits.test_labels)


@pytest.mark.parametrize("side", [0, 3])
def test_squares_that_do_not_fit_are_refused(side):
  images = np.zeros((1, 8, 8, 1), np.uint8)
  with pytest.raises(
    ValueError, match="mean_pool must divide the images' 8 x 8"
  ):
    pooling.pool_images(images, side)
