"""CIFAR-10 and CIFAR-100 as TFDS datasets, from local files.

The class names differ from the stock ones on purpose: TFDS reads a dataset
called ``cifar10`` with the features of its own ``Cifar10``.
"""

import pathlib
import tarfile

from experiments.data.builders import builder
from experiments.data.builders import images
from experiments.data.builders import local_files

# (split, rows, first row in the official file, digest). A digest is of the
# images' bytes [N, 32, 32, 3] followed by the labels' bytes; the official
# pickles rebuilt from these arrays have the published MD5s.
_Row = tuple[str, int, int, str]


class LocalCifar10(images.ImageBuilder):
  """CIFAR-10: 60,000 colour images of 32 x 32 pixels in 10 classes.

  Reads packed tiles (``cifar10/train_0.npz`` ...), the official binary
  archive (``cifar-10-binary.tar.gz``) or its unpacked folder.
  """

  SHAPE = (32, 32, 3)
  NAMES = tuple(
    "airplane automobile bird cat deer dog frog horse ship truck".split()
  )
  HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
  CITATION = (
    "A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images."
    " Technical report, University of Toronto, 2009."
  )
  FOLDER = "cifar10"
  ARCHIVE = "cifar-10-binary.tar.gz"
  ARCHIVE_DIGEST = "md5:c32a1d4ab5d03f1284b67883e8d87530"
  UNPACKED = "cifar-10-batches-bin"
  LABEL_BYTES = 1
  OFFICIAL = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
  }
  OFFICIAL_ROWS = 10_000
  DIGESTS: dict[str, tuple[str, ...]] = {
    "train": (
      "md5:13fdb74700531b851fb8fe0036c98ad0",
      "md5:8daf9ff7183f2ad9e75b17ce0ff1bc08",
      "md5:25de81b3fd4e384dab73f30dc5933c76",
      "md5:385cad04fdfe9aecef1ceaa01c1a22db",
      "md5:5477acd9ac56f19d6a5fcb91d871c4b7",
    ),
    "test": ("md5:a2d03300dfff0d937e0bb7840d48d8b7",),
  }
  ROWS_IN_PART = 10_000

  @classmethod
  def downloads(cls):
    url = f"https://www.cs.toronto.edu/~kriz/{cls.ARCHIVE}"
    return {f"{cls.FOLDER}/{cls.ARCHIVE}": (url, cls.ARCHIVE_DIGEST)}

  def parts(self, dl_manager):
    root = pathlib.Path(dl_manager.manual_dir)
    return [
      builder.Part(
        split,
        self.ROWS_IN_PART,
        digest,
        lambda i=i, s=split, d=digest: self._read(root, s, i, d),
      )
      for split, digests in self.DIGESTS.items()
      for i, digest in enumerate(digests)
    ]

  def _read(self, root, split, index, digest):
    packed = f"{split}_{index}.npz"
    start = index * self.ROWS_IN_PART
    official = self.OFFICIAL[split][start // self.OFFICIAL_ROWS]
    path = local_files.find(
      root,
      f"{self.FOLDER}/{packed}",
      packed,
      f"{self.FOLDER}/{self.ARCHIVE}",
      self.ARCHIVE,
      f"{self.UNPACKED}/{official}",
      official,
    )
    if path.suffix == ".npz":
      arrays = local_files.image_tiles(path)
    else:
      data = (
        self._member(path, official)
        if path.name == self.ARCHIVE
        else local_files.content(path)
      )
      arrays = local_files.cifar_binary(path, data, self.LABEL_BYTES)
      start %= self.OFFICIAL_ROWS
      arrays = tuple(a[start : start + self.ROWS_IN_PART] for a in arrays)
    pixels, labels = arrays
    self.check(path, pixels, labels)
    local_files.check_rows(path, len(pixels), self.ROWS_IN_PART)
    local_files.check_digest(path, pixels.tobytes() + labels.tobytes(), digest)
    return images.examples(pixels, labels)

  def _member(self, archive: pathlib.Path, name: str) -> bytes:
    try:
      with tarfile.open(archive) as tar:
        return tar.extractfile(f"{self.UNPACKED}/{name}").read()  # pyright: ignore[reportOptionalMemberAccess]
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
      raise local_files.damaged(archive, f"{name} in it", error) from error


class LocalCifar100(LocalCifar10):
  """CIFAR-100: 60,000 colour images of 32 x 32 pixels in 100 classes.

  Reads packed tiles (``cifar100/train_0.npz`` ...), the official binary
  archive (``cifar-100-binary.tar.gz``) or its unpacked folder.
  """

  NAMES = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle "
    "bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox "
    "girl hamster house kangaroo keyboard lamp lawn_mower leopard "
    "lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit "
    "raccoon ray road rocket rose sea seal shark shrew skunk "
    "skyscraper snail snake spider squirrel streetcar sunflower "
    "sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm".split()
  )
  FOLDER = "cifar100"
  ARCHIVE = "cifar-100-binary.tar.gz"
  ARCHIVE_DIGEST = "md5:03b5dce01913d631647c71ecec9e9cb8"
  UNPACKED = "cifar-100-binary"
  LABEL_BYTES = 2
  OFFICIAL = {"train": ("train.bin",), "test": ("test.bin",)}
  OFFICIAL_ROWS = 50_000
  DIGESTS = {
    "train": (
      "md5:495f09d17daaee123b54380de74c16ae",
      "md5:5ba0d07c2971a3e41faacca0b53276b1",
      "md5:7aa9a8d225ec9d40a7b70732a85879c1",
      "md5:b3ab4b296a58746ee710c7928df0dc90",
      "md5:a00551aa346c8b123b8d100d06b1e38a",
      "md5:d96e340f55b61543393893d27413cd1b",
      "md5:4b5148d60486a32bd10cd8e8d9217d74",
      "md5:8d7aa33053bca38ba42d30230a6ee312",
      "md5:2a19a2c94ed1f063405772ba246692b3",
      "md5:f1366d768fa86590f77b0d525a0056cd",
    ),
    "test": (
      "md5:1d68161ac436a8c08fd4642415ead2e0",
      "md5:dfa43254d0c4a967de13134f9ee587a5",
    ),
  }
  ROWS_IN_PART = 5_000
