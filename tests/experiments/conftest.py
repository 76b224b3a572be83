"""Local files of every dataset, a few rows each, and the facts that fit them.

Real rows come from tests/data (see its README); CIFAR, Fashion-MNIST, SVHN,
Tiny ImageNet, UNSW-NB15 and MRPC are GENERATED here, in the form of the real
files.
"""

import dataclasses
import gzip
import hashlib
import io
import pathlib
import shutil
import struct
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from experiments.data import registry
from experiments.data.builders import cifar
from experiments.data.builders import images
from experiments.data.builders import kdd
from experiments.data.builders import mrpc
from experiments.data.builders import squad
from experiments.data.builders import svhn
from experiments.data.builders import tiny_imagenet
from experiments.data.builders import unsw_nb15

SAMPLES = pathlib.Path(__file__).parents[1] / "data"


def md5(data: bytes) -> str:
  return f"md5:{hashlib.md5(data).hexdigest()}"


def sha256(data: bytes) -> str:
  return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def samples(tmp_path, monkeypatch) -> pathlib.Path:
  """A folder of local files; the builders expect exactly these."""
  root = tmp_path / "local_files"
  shutil.copytree(SAMPLES, root)
  for write in (
    _mnist,
    _fashion_mnist,
    _cifar,
    _svhn,
    _tiny_imagenet,
    _nsl_kdd,
    _kddcup99,
    _unsw_nb15,
    _mrpc,
    _squad,
  ):
    write(root, monkeypatch)
  for name, rows in _WHOLE.items():
    spec = dataclasses.replace(registry.get(name), rows=rows)
    monkeypatch.setitem(registry._BY_NAME, name, spec)
  return root


# The rows of what counts as a whole copy here.
_WHOLE = {
  "mnist": (24, 12),
  "fashion_mnist": (20, 10),
  "cifar10": (40, 20),
  "cifar100": (40, 20),
  "svhn_cropped": (12, 6),
  "nsl_kdd": (40, 24),
  "unsw_nb15": (100, 60),
  "glue/mrpc": (27, 12),
  "squad": (30, 15),
}


def _mnist(root, monkeypatch):
  cls = images.LocalMnist
  files = {name: root / f"mnist/{name}.gz" for name in cls.PACKED}
  monkeypatch.setattr(cls, "ROWS", {"train": 24, "test": 12})
  monkeypatch.setattr(
    cls, "PACKED", {k: md5(p.read_bytes()) for k, p in files.items()}
  )
  monkeypatch.setattr(
    cls,
    "UNPACKED",
    {k: md5(gzip.decompress(p.read_bytes())) for k, p in files.items()},
  )


def _fashion_mnist(root, monkeypatch):  # Generated.
  cls = images.LocalFashionMnist
  rng = np.random.default_rng(1)
  (root / "fashion_mnist").mkdir()
  digests = {}
  for name in cls.PACKED:
    rows = 20 if name.startswith("train") else 10
    shape = (rows, 28, 28) if "images" in name else (rows,)
    high = 256 if "images" in name else 10
    data = gzip.compress(idx_bytes(rng.integers(0, high, shape)))
    (root / f"fashion_mnist/{name}.gz").write_bytes(data)
    digests[name] = md5(data)
  monkeypatch.setattr(cls, "PACKED", digests)
  monkeypatch.setattr(cls, "ROWS", {"train": 20, "test": 10})


def idx_bytes(array: np.ndarray) -> bytes:
  """Returns an array as an idx file of uint8."""
  head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
  return head + array.astype(np.uint8).tobytes()


def _cifar(root, monkeypatch):  # Generated.
  rng = np.random.default_rng(2)
  for cls, parts in ((cifar.LocalCifar10, 1), (cifar.LocalCifar100, 2)):
    (root / cls.FOLDER).mkdir()
    digests: dict[str, tuple[str, ...]] = {}
    for split, count in (("train", 2), ("test", 1)):
      for i in range(count):
        pixels = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        labels = rng.integers(0, len(cls.NAMES), 20).astype(np.uint8)
        write_tiles(root / f"{cls.FOLDER}/{split}_{i}.npz", pixels, labels)
        digest = md5(pixels.tobytes() + labels.tobytes())
        digests[split] = (*digests.get(split, ()), digest)
    monkeypatch.setattr(cls, "DIGESTS", digests)
    monkeypatch.setattr(cls, "ROWS_IN_PART", 20)
    monkeypatch.setattr(cls, "OFFICIAL_ROWS", 20 * parts)


def write_tiles(path: pathlib.Path, pixels, labels, columns: int = 4) -> None:
  """Writes images as lossless tiles of columns x columns images."""
  blobs = []
  for start in range(0, len(pixels), columns**2):
    tile = np.zeros((columns**2, 32, 32, 3), np.uint8)
    chunk = pixels[start : start + columns**2]
    tile[: len(chunk)] = chunk
    grid = tile.reshape(columns, columns, 32, 32, 3).swapaxes(1, 2)
    buffer = io.BytesIO()
    Image.fromarray(grid.reshape(32 * columns, 32 * columns, 3)).save(
      buffer, "WEBP", lossless=True, exact=True
    )
    blobs.append(buffer.getvalue())
  np.savez(
    path,
    blob=np.frombuffer(b"".join(blobs), np.uint8),
    offsets=np.cumsum([0, *map(len, blobs)]),
    n=len(pixels),
    k=columns,
    y=labels,
  )


def _svhn(root, monkeypatch):  # Generated.
  cls = svhn.LocalSvhnCropped
  rng = np.random.default_rng(3)
  (root / "svhn_cropped").mkdir()
  digests, rows = {}, {"train": 12, "test": 6}
  for split, count in rows.items():
    path = root / f"svhn_cropped/{split}_32x32.mat"
    scipy.io.savemat(
      path,
      {
        "X": rng.integers(0, 256, (32, 32, 3, count)).astype(np.uint8),
        "y": np.arange(1, count + 1).reshape(-1, 1) % 10 + 1,
      },
    )
    digests[path.name] = md5(path.read_bytes())
  monkeypatch.setattr(cls, "PACKED", digests)
  monkeypatch.setattr(cls, "ROWS", rows)


def _tiny_imagenet(root, monkeypatch):  # Generated.
  cls = tiny_imagenet.TinyImagenet
  rng = np.random.default_rng(4)
  (root / "tiny_imagenet").mkdir()
  path = root / "tiny_imagenet/tiny-imagenet-200.zip"
  wnids = ["n03", "n01", "n02"]
  top = "tiny-imagenet-200"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr(f"{top}/wnids.txt", "\n".join(wnids) + "\n")
    lines = []
    for c, wnid in enumerate(wnids):
      for i in range(4):
        # Flat colours survive JPEG, so that the label can be read off; the
        # last image is grey.
        mode, colour = ("L", 50 * c) if i == 3 else ("RGB", (50 * c, 0, 99))
        name = f"{top}/train/{wnid}/images/{wnid}_{i}.JPEG"
        archive.writestr(name, _jpeg(mode, colour))
      name = f"val_{int(rng.integers(9))}_{c}.JPEG"
      archive.writestr(
        f"{top}/val/images/{name}", _jpeg("RGB", (50 * c, 0, 99))
      )
      lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    archive.writestr(f"{top}/val/val_annotations.txt", "".join(lines))
  monkeypatch.setattr(cls, "DIGEST", md5(path.read_bytes()))
  monkeypatch.setattr(cls, "NAMES", ("class_0", "class_1", "class_2"))
  monkeypatch.setattr(cls, "ROWS", {"train": 4, "validation": 1})


def _jpeg(mode, colour) -> bytes:
  buffer = io.BytesIO()
  Image.new(mode, (64, 64), colour).save(buffer, "JPEG", quality=95)
  return buffer.getvalue()


def _nsl_kdd(root, monkeypatch):
  cls = kdd.NslKdd
  files = {}
  for split, (name, _, _) in cls.FILES.items():
    data = (root / "nsl_kdd" / name).read_bytes()
    files[split] = (name, data.count(b"\n"), sha256(data))
  monkeypatch.setattr(cls, "FILES", files)


def _kddcup99(root, monkeypatch):
  cls = kdd.KddCup1999
  name = cls.TRAIN[0]
  data = (root / "kddcup99" / name).read_bytes()
  rows = gzip.decompress(data).count(b"\n")
  monkeypatch.setattr(cls, "TRAIN", (name, rows, sha256(data)))


def _unsw_nb15(root, monkeypatch):  # Generated.
  cls = unsw_nb15.UnswNb15
  (root / "unsw_nb15").mkdir()
  data = unsw_csv(rows=60, distinct=40, seed=5)
  (root / "unsw_nb15" / cls.FILES[0]).write_bytes(data)
  monkeypatch.setattr(
    cls,
    "PARTITIONS",
    {100: ("train", "md5:unused"), 60: ("test", sha256(data))},
  )


def unsw_csv(rows: int, distinct: int, seed: int) -> bytes:
  """Returns a CSV in UNSW-NB15's form; rows beyond `distinct` repeat."""
  rng = np.random.default_rng(seed)
  names = unsw_nb15.UnswNb15.NAMES
  body = []
  for i in range(distinct):
    label = i % len(names)
    row = ["0.1", "tcp udp arp".split()[i % 3], "-", "FIN"]
    row += [str(v) for v in rng.integers(0, 1000, 38)]
    body.append([*row, names[label], str(int(label != 0))])
  lines = [",".join(["id", *(f"c{i}" for i in range(44))])]
  lines += [f"{i + 1}," + ",".join(body[i % distinct]) for i in range(rows)]
  return ("\ufeff" + "\r\n".join(lines) + "\r\n").encode()


_WORDS = "the company said shares rose fell on friday after profit".split()


def _mrpc(root, monkeypatch):  # Generated.
  cls = mrpc.LocalMrpc
  rng = np.random.default_rng(6)
  (root / "mrpc").mkdir()
  contents = {}
  for name, rows, first in (("train", 30, 0), ("test", 12, 1000)):
    lines = ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    for i in range(rows):
      pair = [" ".join(rng.choice(_WORDS, 8)) for _ in range(2)]
      ids = str(first + 2 * i), str(first + 2 * i + 1)
      lines.append("\t".join([str(i % 3 and 1), *ids, *pair]))
    contents[f"msr_paraphrase_{name}.txt"] = "\n".join(lines) + "\n"
  contents["dev_ids.tsv"] = "0\t1\n8\t9\n20\t21\n"
  files = {}
  for name, (url, _) in cls.FILES.items():
    data = contents[name].encode()
    (root / "mrpc" / name).write_bytes(data)
    files[name] = (url, sha256(data))
  monkeypatch.setattr(cls, "FILES", files)
  monkeypatch.setattr(cls, "ROWS", {"train": 27, "validation": 3, "test": 12})


def _squad(root, monkeypatch):
  files = {}
  for split, (_, official) in squad.LocalSquad.FILES.items():
    name = next(iter(official))
    data = (root / "squad" / name).read_bytes()
    files[split] = (data.count(b'"question"'), {name: sha256(data)})
  monkeypatch.setattr(squad.LocalSquad, "FILES", files)
