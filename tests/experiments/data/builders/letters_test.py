"""Letters drawn from fonts: the same bits again, and each what it says."""

import numpy as np

from experiments import data
from experiments.data.builders import letters


def test_images_are_drawn_again_from_the_seed_alone():
  glyphs = letters._glyphs()
  first, again = (
    letters.draw(glyphs, 20, np.random.default_rng(3)) for _ in range(2)
  )
  np.testing.assert_array_equal(first[0], again[0])
  np.testing.assert_array_equal(first[1], again[1])
  assert glyphs.shape == (20, 26, 56, 56) and glyphs.max() <= 1.0
  assert (glyphs.sum(axis=(2, 3)) > 0).all()  # No typeface lacks a letter.


def test_an_image_is_most_like_the_letter_that_its_label_names():
  """By correlation with undistorted letters, which know no label."""
  glyphs = letters._glyphs()
  images, labels = letters.draw(glyphs, 300, np.random.default_rng(5))
  templates = glyphs.reshape(20, 26, 28, 2, 28, 2).mean((3, 5))
  templates = templates.reshape(520, -1)
  templates -= templates.mean(axis=1, keepdims=True)
  templates /= np.linalg.norm(templates, axis=1, keepdims=True)
  likeness = images.reshape(300, -1).astype(np.float64) @ templates.T
  nearest = likeness.reshape(300, 20, 26).max(axis=1).argmax(axis=1)
  chance = 1 / 26
  assert np.mean(nearest == labels) > 5 * chance


def test_letters_are_prepared_without_files_or_network(tmp_path):
  found = data.load("letters", tmp_path, progress=False)
  assert (found.num_train, found.info.num_classes) == (10_000, 26)
  assert found.train_x.shape[1:] == (28, 28, 1)
