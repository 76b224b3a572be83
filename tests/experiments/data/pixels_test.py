"""Pixels to floats against numpy; crops and flips against their law."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data
from tests import tolerance


@pytest.fixture
def images():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)


def _expected(x, mode):
  x = x.astype(np.float64) / 255
  if mode == "signed":
    return 2 * x - 1
  if mode == "mean":
    return x - x.mean(0, keepdims=True)
  if mode == "channels":
    axes = (0, 1, 2)
    return (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
  if mode == "standardise":
    axes = (1, 2, 3)
    return (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
  return x


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
  "mode", ["unit", "signed", "mean", "channels", "standardise"]
)
def test_modes_against_numpy(images, mode, jit):
  pixels = data.fit_pixels(images, mode)
  result = (jax.jit(pixels) if jit else pixels)(jnp.asarray(images))
  # Statistics of 5 images at the most, and few roundings a pixel.
  tolerance.assert_sums_close(result, _expected(images, mode), images.size)


def test_statistics_are_the_training_sets(images):
  for mode in ("mean", "channels"):
    pixels = data.fit_pixels(images, mode)
    one = pixels(jnp.asarray(images[2:3]))
    np.testing.assert_array_equal(one, pixels(jnp.asarray(images))[2:3])


def test_other_pixel_range():
  x = np.array([0, 8, 16], np.uint8).reshape(3, 1, 1, 1)
  result = data.fit_pixels(x, "unit", 16)(jnp.asarray(x))
  assert result.reshape(-1).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("mode", ["channels", "standardise"])
def test_constant_images_stay_finite(mode):
  x = np.full((2, 4, 4, 1), 9, np.uint8)
  chex.assert_tree_all_finite(data.fit_pixels(x, mode)(jnp.asarray(x)))


def test_unknown_mode_is_refused(images):
  with pytest.raises(
    ValueError, match="pixels must be one of unit, signed.*got 'zscore'"
  ):
    data.fit_pixels(images, "zscore")


def _coordinates(batch=64, size=8):
  """Images whose pixels say where they are."""
  rows, cols = np.mgrid[1 : size + 1, 1 : size + 1]
  image = np.stack([rows, cols, rows * 0], -1).astype(np.uint8)
  return jnp.asarray(np.broadcast_to(image, (batch, size, size, 3)))


def test_crops_are_windows_of_the_image_and_cover_all_corners(key):
  out = np.asarray(data.augment(_coordinates(400), key, crop=6))
  corners = out[:, 0, 0, :2]
  expected = corners[:, None, None, :] + np.stack(np.mgrid[0:6, 0:6], -1)[None]
  np.testing.assert_array_equal(out[..., :2], expected)
  # 9 corners; the chance that 400 draws miss one is 9 (8/9)^400 < 1e-19.
  assert len(np.unique(corners, axis=0)) == 9


def test_padding_adds_zeros_around(key):
  out = np.asarray(data.augment(_coordinates(200), key, pad=2))
  assert out.shape == (200, 8, 8, 3)
  assert (out[:, 3, 3, 0] > 0).all() and (out == 0)[..., 0].any()
  # Rows go up by one wherever two neighbours are inside.
  inside = (out[:, 1:, :, 0] > 0) & (out[:, :-1, :, 0] > 0)
  step = out[:, 1:, :, 0].astype(int) - out[:, :-1, :, 0]
  assert (step[inside] == 1).all()


def test_flips_mirror_about_half_of_the_images(key):
  x = _coordinates(1000)
  out = np.asarray(data.augment(x, key, flip=True))
  mirrored = (out == np.asarray(x)[:, :, ::-1]).all((1, 2, 3))
  same = (out == np.asarray(x)).all((1, 2, 3))
  assert (mirrored ^ same).all()
  # Binomial(1000, .5): beyond 82 of 500 has a probability of 2e-7.
  assert abs(mirrored.sum() - 500) < 82


def test_same_key_same_images_also_jitted_and_no_retrace(key):
  traces = []

  @jax.jit
  def step(images, key):
    traces.append(1)
    return data.augment(images, key, crop=6, pad=1, flip=True)

  x = _coordinates()
  keys = jax.random.split(key, 3)
  first = [step(x, k) for k in keys]
  np.testing.assert_array_equal(
    first[1], data.augment(x, keys[1], crop=6, pad=1, flip=True)
  )
  assert (first[0] != first[1]).any() and len(traces) == 1


@pytest.mark.parametrize("crop, pad", [(9, 0), (0, 0), (13, 2), (8, -1)])
def test_impossible_crops_are_refused(key, crop, pad):
  with pytest.raises(
    ValueError,
    match=rf"crop must be in \[1, \d+\] .*padded by {pad}, got {crop}",
  ):
    data.augment(_coordinates(), key, crop=crop, pad=pad)


def test_centre_crop():
  out = np.asarray(data.centre_crop(_coordinates(2), 4))
  assert out[0, 0, 0].tolist() == [3, 3, 0] and out.shape == (2, 4, 4, 3)
  with pytest.raises(ValueError, match="crop must be at most 8, got 9"):
    data.centre_crop(_coordinates(2), 9)
