"""Scikit-learn's handwritten digits as a TFDS dataset; needs no download."""

import importlib.metadata
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.builders import builder
from experiments.data.builders import local_files

_DIGEST = (
  "sha256:6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
)
_NUM_TEST = 297


class Digits(builder.PartsBuilder):
  """1,797 images of 8 x 8 pixels with 17 grey levels, from 43 writers."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "The last 297 rows are the test set."}

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Tensor(
            shape=(8, 8, 1),
            dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
          ),
          "label": tfds.features.ClassLabel(num_classes=10),
        }
      ),
      supervised_keys=("image", "label"),
      homepage="https://archive.ics.uci.edu/dataset/80",
      citation=(
        "E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten"
        " Digits. UCI Machine Learning Repository, 1998."
      ),
      metadata=tfds.core.MetadataDict(
        note="own split: the file's last 297 rows are the test set"
      ),
    )

  @classmethod
  def downloads(cls):
    return {}

  def parts(self, dl_manager):
    del dl_manager
    # Located, not imported: importing scikit-learn takes two seconds.
    package = importlib.metadata.distribution("scikit-learn")
    path = pathlib.Path(
      str(package.locate_file("sklearn/datasets/data/digits.csv.gz"))
    )
    table = np.loadtxt(
      local_files.content(path, _DIGEST).decode().splitlines(),
      delimiter=",",
      dtype=np.uint8,
    )
    train, test = table[:-_NUM_TEST], table[-_NUM_TEST:]
    return [
      builder.Part("train", len(train), _DIGEST, lambda: _examples(train)),
      builder.Part("test", len(test), _DIGEST, lambda: _examples(test)),
    ]


def _examples(table: np.ndarray):
  for row in table:
    yield {"image": row[:-1].reshape(8, 8, 1), "label": int(row[-1])}
