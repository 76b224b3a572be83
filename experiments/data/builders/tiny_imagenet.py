"""Tiny ImageNet as a TFDS dataset, from its zip file."""

import functools
import io
import pathlib
import zipfile

import numpy as np

from experiments.data.builders import builder
from experiments.data.builders import images
from experiments.data.builders import local_files

_CLASSES_IN_SHARD = 20


class TinyImagenet(images.ImageBuilder):
  """Tiny ImageNet: 110,000 colour images of 64 x 64 pixels in 200 classes.

  Reads ``tiny-imagenet-200.zip``, in the folder given or in
  ``tiny_imagenet/`` under it. The test set's labels were never published: the
  validation set serves as one.
  """

  SHAPE = (64, 64, 3)
  NAMES = tuple(f"class_{i}" for i in range(200))
  HOMEPAGE = "https://cs231n.stanford.edu/tiny-imagenet-200.zip"
  CITATION = (
    "Y. Le, X. Yang. Tiny ImageNet Visual Recognition Challenge. Stanford CS"
    " 231N, 2015; J. Deng et al. ImageNet. CVPR 2009."
  )
  NOTE = "official split, tested on validation"
  DIGEST = "md5:90528d7ca1a48142e341f4ef8d21d0de"
  ROWS = {"train": 500, "validation": 50}  # Of each class.

  @classmethod
  def downloads(cls):
    name = "tiny_imagenet/tiny-imagenet-200.zip"
    return {name: (cls.HOMEPAGE, cls.DIGEST)}

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    name = "tiny-imagenet-200.zip"
    path = local_files.find(root, f"tiny_imagenet/{name}", name)
    local_files.check_digest(path, path.read_bytes(), self.DIGEST)
    members = functools.cache(lambda: _members(path))
    classes = len(self.NAMES)
    return [
      builder.Part(
        split,
        rows * (min(start + _CLASSES_IN_SHARD, classes) - start),
        f"{self.DIGEST} from {start}",
        lambda split=split, start=start: self._read(
          path, members()[split], start
        ),
      )
      for split, rows in self.ROWS.items()
      for start in range(0, classes, _CLASSES_IN_SHARD)
    ]

  def _read(self, path, members, start):
    from PIL import Image  # pylint: disable=g-import-not-at-top

    with zipfile.ZipFile(path) as archive:
      for member, label in members:
        if not start <= label < start + _CLASSES_IN_SHARD:
          continue
        jpeg = Image.open(io.BytesIO(archive.read(member)))
        # A few of the files are grey.
        pixels = np.asarray(jpeg.convert("RGB"))
        self.check(f"{path}: {member}", pixels[None], np.array([label]))
        yield {"image": pixels, "label": label}


def _members(path: pathlib.Path) -> dict[str, list[tuple[str, int]]]:
  """Returns {split: [(member, label)]}; classes in the order of wnids.txt."""
  top = "tiny-imagenet-200"
  try:
    with zipfile.ZipFile(path) as archive:
      wnids = archive.read(f"{top}/wnids.txt").decode().split()
      label = {wnid: i for i, wnid in enumerate(wnids)}
      train = [
        (name, label[name.split("/")[2]])
        for name in sorted(archive.namelist())
        if name.startswith(f"{top}/train/") and name.endswith(".JPEG")
      ]
      lines = archive.read(f"{top}/val/val_annotations.txt").decode()
      rows = [line.split("\t")[:2] for line in lines.splitlines()]
      validation = [
        (f"{top}/val/images/{name}", label[wnid]) for name, wnid in rows
      ]
  except (OSError, KeyError, IndexError, ValueError, zipfile.BadZipFile) as e:
    raise local_files.damaged(path, "the zip of Tiny ImageNet", e) from e
  return {"train": train, "validation": validation}
