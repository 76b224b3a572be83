"""Distorted capital letters, drawn from fonts that matplotlib ships.

Larger and harder than scikit-learn's digits, and no download either: an image
is a letter of one of twenty typefaces, turned, sheared, scaled and moved at
random, its contrast at random, with noise on every pixel.
"""

import hashlib
import pathlib
import string

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8

from experiments.data.builders import builder

_SIDE = 28
_LARGE = 56  # pixels of an undistorted letter's square
_NUM_TRAIN, _NUM_TEST = 10_000, 10_000
_SEED = 20_261_126
_NOISE = 0.15  # of full contrast

_STYLES = ("", "-Bold", "-Oblique", "-BoldOblique")
_FONTS = (
  *(f"DejaVuSans{style}" for style in _STYLES),
  *(f"DejaVuSansMono{style}" for style in _STYLES),
  *(f"DejaVuSerif{s.replace('Oblique', 'Italic')}" for s in _STYLES),
  *("STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "STIXGeneralItalic"),
  *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
"""Files of matplotlib's own fonts: free, under their licences beside them."""


class Letters(builder.PartsBuilder):
  """20,000 images of 28 x 28 pixels: 26 letters in twenty typefaces."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {
    "1.0.0": "Half of the images, drawn later, are the test set."
  }

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Tensor(
            shape=(_SIDE, _SIDE, 1),
            dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
          ),
          "label": tfds.features.ClassLabel(names=list(string.ascii_uppercase)),
        }
      ),
      supervised_keys=("image", "label"),
      homepage="https://matplotlib.org",
      citation="Bitstream Vera, DejaVu, STIX and Computer Modern typefaces.",
      metadata=tfds.core.MetadataDict(
        note="drawn by matplotlib from its own fonts, seed fixed"
      ),
    )

  @classmethod
  def downloads(cls):
    return {}

  def parts(self, dl_manager):
    del dl_manager
    glyphs = _glyphs()
    digest = f"sha256:{hashlib.sha256(glyphs.tobytes()).hexdigest()}"
    rng = np.random.default_rng(_SEED)
    found = []
    for name, count in (("train", _NUM_TRAIN), ("test", _NUM_TEST)):
      images, labels = draw(glyphs, count, rng)
      found.append(
        builder.Part(
          name, count, digest, lambda i=images, n=labels: _examples(i, n)
        )
      )
    return found


def draw(
  glyphs: Float[np.ndarray, "F C S S"], count: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "N H W"], Int[np.ndarray, "N"]]:
  """Returns `count` distorted letters, and which they are.

  Args:
    glyphs: each letter of each typeface, in [0, 1].
    count: images.
    rng: every choice comes from it.
  """
  from scipy import ndimage  # pylint: disable=g-import-not-at-top

  fonts = rng.integers(0, glyphs.shape[0], count)
  labels = rng.integers(0, glyphs.shape[1], count)
  turned = np.deg2rad(rng.uniform(-15, 15, count))
  scaled = rng.uniform(0.8, 1.25, (count, 2))
  sheared = rng.uniform(-0.15, 0.15, count)
  moved = rng.uniform(-3, 3, (count, 2))
  contrast = rng.uniform(0.5, 1, (count, 1, 1))
  images = np.empty((count, _SIDE, _SIDE))
  for i in range(count):
    cos, sin = np.cos(turned[i]), np.sin(turned[i])
    matrix = (
      np.array([[cos, -sin], [sin, cos]])
      @ np.array([[1, sheared[i]], [0, 1]])
      @ np.diag(_LARGE / _SIDE / scaled[i])
    )
    offset = (_LARGE - 1) / 2 - matrix @ ((_SIDE - 1) / 2 + moved[i])
    ndimage.affine_transform(
      glyphs[fonts[i], labels[i]],
      matrix,
      offset,
      output=images[i],
      order=1,
    )
  noise = rng.normal(0, _NOISE, images.shape)
  shades = 40 + 170 * (contrast * images + noise)
  return np.clip(shades, 0, 255).astype(np.uint8), labels


def _glyphs() -> Float[np.ndarray, "F C S S"]:
  """Returns every letter of every typeface, centred, in [0, 1]."""
  # Importing matplotlib takes a second, which reading the images needs not.
  import matplotlib  # pylint: disable=g-import-not-at-top

  folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
  return np.stack(
    [
      np.stack(
        [_glyph(folder / f"{font}.ttf", c) for c in string.ascii_uppercase]
      )
      for font in _FONTS
    ]
  )


def _glyph(path: pathlib.Path, letter: str) -> Float[np.ndarray, "S S"]:
  from matplotlib import ft2font  # pylint: disable=g-import-not-at-top

  font = ft2font.FT2Font(str(path))
  font.set_size(40, 72)
  font.set_text(letter, 0.0)
  font.draw_glyphs_to_bitmap()
  drawn = np.asarray(font.get_image(), np.float64)[:_LARGE, :_LARGE] / 255
  top, left = (_LARGE - n >> 1 for n in drawn.shape)
  whole = np.zeros((_LARGE, _LARGE))
  whole[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
  return whole


def _examples(images: UInt8[np.ndarray, "N H W"], labels: Int[np.ndarray, "N"]):
  for image, label in zip(images, labels):
    yield {"image": image[..., None], "label": int(label)}
