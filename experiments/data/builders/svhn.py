"""SVHN as a TFDS dataset, from local files."""

import pathlib

import numpy as np

from experiments.data.builders import builder
from experiments.data.builders import images
from experiments.data.builders import local_files


class LocalSvhnCropped(images.ImageBuilder):
  """SVHN, cropped: 99,289 house numbers of 32 x 32 colour pixels.

  Reads ``train_32x32.mat`` and ``test_32x32.mat``, in the folder given or in
  ``svhn_cropped/`` under it.
  """

  SHAPE = (32, 32, 3)
  NAMES = tuple("0123456789")
  HOMEPAGE = "https://ufldl.stanford.edu/housenumbers/"
  CITATION = (
    "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng. Reading"
    " Digits in Natural Images with Unsupervised Feature Learning. NIPS"
    " Workshop on Deep Learning, 2011."
  )
  ROWS = {"train": 73_257, "test": 26_032}
  PACKED = {
    "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
  }

  @classmethod
  def downloads(cls):
    return {
      f"svhn_cropped/{name}": (cls.HOMEPAGE + name, digest)
      for name, digest in cls.PACKED.items()
    }

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    return [
      builder.Part(
        split,
        rows,
        self.PACKED[f"{split}_32x32.mat"],
        lambda split=split: self._read(root, split),
      )
      for split, rows in self.ROWS.items()
    ]

  def _read(self, root, split):
    import scipy.io  # pylint: disable=g-import-not-at-top

    name = f"{split}_32x32.mat"
    path = local_files.find(root, f"svhn_cropped/{name}", name)
    local_files.check_digest(path, path.read_bytes(), self.PACKED[name])
    arrays = scipy.io.loadmat(path)
    pixels = arrays["X"].transpose(3, 0, 1, 2)
    # The file calls the digit 0 class 10.
    labels = arrays["y"].reshape(-1).astype(np.int64) % 10
    self.check(path, pixels, labels)
    local_files.check_rows(path, len(pixels), self.ROWS[split])
    return images.examples(np.ascontiguousarray(pixels), labels)
