"""MNIST and Fashion-MNIST as TFDS datasets, from local files.

The same images as the stock TFDS datasets, prepared without TensorFlow. The
class names differ from the stock ones on purpose: TFDS reads a dataset called
``mnist`` with the features of its own ``MNIST``.
"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.builders import builder
from experiments.data.builders import local_files

_ROWS_IN_SHARD = 10_000


class ImageBuilder(builder.PartsBuilder, skip_registration=True):
  """Images [H, W, C] of uint8 with one label each."""

  VERSION = tfds.core.Version("1.0.0")
  SHAPE: tuple[int, int, int]
  NAMES: Sequence[str]
  HOMEPAGE: str
  CITATION: str
  NOTE = "official split"

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Tensor(
            shape=self.SHAPE,
            dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
          ),
          "label": tfds.features.ClassLabel(names=list(self.NAMES)),
        }
      ),
      supervised_keys=("image", "label"),
      homepage=self.HOMEPAGE,
      citation=self.CITATION,
      metadata=tfds.core.MetadataDict(note=self.NOTE),
    )

  def check(self, what, images: np.ndarray, labels: np.ndarray) -> None:
    """Raises a ValueError unless all images and labels fit this dataset."""
    if images.shape[1:] != self.SHAPE:
      raise ValueError(
        f"{what}: expected images of shape {self.SHAPE}, got"
        f" {images.shape[1:]}: the file belongs to another dataset"
      )
    local_files.check_rows(f"{what} (labels)", len(labels), len(images))
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.NAMES):
      raise ValueError(
        f"{what}: expected labels in [0, {len(self.NAMES)}), got"
        f" {labels.min()} to {labels.max()}: the file is damaged or belongs"
        " to another dataset"
      )


def examples(images: np.ndarray, labels: np.ndarray):
  """Yields the TFDS examples of images and labels."""
  for image, label in zip(images, labels):
    yield {"image": image, "label": int(label)}


class LocalMnist(ImageBuilder):
  """MNIST: 70,000 handwritten digits of 28 x 28 grey pixels.

  Reads the four idx files, plain, ``.gz`` or ``.xz``, in the folder given or
  in ``mnist/`` under it.
  """

  SHAPE = (28, 28, 1)
  NAMES = tuple("0123456789")
  HOMEPAGE = "https://yann.lecun.com/exdb/mnist/"
  CITATION = (
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-Based Learning"
    " Applied to Document Recognition. Proceedings of the IEEE, 1998."
  )
  FOLDER = "mnist"
  ROWS = {"train": 60_000, "test": 10_000}
  # Published MD5s, of the unpacked files and of the .gz files.
  UNPACKED = {
    "train-images-idx3-ubyte": "md5:6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "md5:a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "md5:2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "md5:27ae3e4e09519cfbb04c329615203637",
  }
  PACKED = {
    "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
  }
  URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"

  @classmethod
  def downloads(cls):
    return {
      f"{cls.FOLDER}/{name}.gz": (f"{cls.URL}{name}.gz", digest)
      for name, digest in cls.PACKED.items()
    }

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    return [
      part
      for split, prefix in (("train", "train"), ("test", "t10k"))
      for part in self._split_parts(root, split, prefix)
    ]

  def _split_parts(self, root, split, prefix):
    names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    read = functools.cache(lambda: self._read(root, split, *names))
    digest = " ".join(self.PACKED[name] for name in names)
    rows = self.ROWS[split]
    for start in range(0, rows, _ROWS_IN_SHARD):
      stop = min(start + _ROWS_IN_SHARD, rows)
      yield builder.Part(
        split,
        stop - start,
        f"{digest} from {start}",
        lambda a=start, b=stop: examples(*(x[a:b] for x in read())),
      )

  def _read(self, root, split, image_file, label_file):
    images, labels = (
      self._idx(root, name)[0] for name in (image_file, label_file)
    )
    path = self._idx(root, image_file)[1]
    images = images.reshape(*images.shape, 1) if images.ndim == 3 else images
    self.check(path, images, labels)
    local_files.check_rows(path, len(images), self.ROWS[split])
    return images, labels

  def _idx(self, root, name):
    path = local_files.find(
      root,
      *(
        f"{folder}{name}{suffix}"
        for folder in (f"{self.FOLDER}/", "")
        for suffix in (".xz", ".gz", "")
      ),
    )
    if path.suffix == ".gz":
      local_files.check_digest(path, path.read_bytes(), self.PACKED[name])
      return local_files.idx(path), path
    return local_files.idx(path, self.UNPACKED.get(name)), path


class LocalFashionMnist(LocalMnist):
  """Fashion-MNIST: 70,000 articles of clothing, 28 x 28 grey pixels.

  Reads the four idx files, plain, ``.gz`` or ``.xz``, in the folder given or
  in ``fashion_mnist/`` under it. Only ``.gz`` files have published digests.
  """

  NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
  )
  HOMEPAGE = "https://github.com/zalandoresearch/fashion-mnist"
  CITATION = (
    "H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a Novel Image Dataset"
    " for Benchmarking Machine Learning Algorithms. arXiv:1708.07747, 2017."
  )
  FOLDER = "fashion_mnist"
  UNPACKED = {}
  PACKED = {
    "train-images-idx3-ubyte": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "md5:bb300cfdad3c16e7a12a480ee83cd310",
  }
  URL = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/"
    "data/fashion/"
  )
