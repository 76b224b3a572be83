"""Reads packed local files: compressed bytes, idx, CIFAR binaries, image tiles.

Every reader checks what it reads and raises a `ValueError` that says which
file, what was expected, what came and what to do. Nothing here knows TFDS.

Published digests are of the unpacked content, so that the same check serves a
plain file, a gzip and an xz of it.
"""

import gzip
import hashlib
import io
import lzma
import pathlib
import struct
import zipfile
import zlib

import numpy as np

_DAMAGE = (
  OSError,
  EOFError,
  KeyError,
  ValueError,
  struct.error,
  zlib.error,
  lzma.LZMAError,
  zipfile.BadZipFile,
)


def find(root: pathlib.Path, *candidates: str) -> pathlib.Path:
  """Returns the first of `candidates` that exists under `root`.

  Raises:
    ValueError: none is there; the message lists what was looked for.
  """
  for candidate in candidates:
    if (root / candidate).exists():
      return root / candidate
  raise ValueError(
    f"local_files={str(root)!r} lacks {candidates[0]!r}: looked for"
    f" {', '.join(candidates)}; point --local_files at the folder that"
    " holds it"
  )


def packed_names(folder: str, name: str) -> list[str]:
  """Returns where a text file may be: packed or not, in a folder or not."""
  return [
    f"{place}{name}{suffix}"
    for place in (f"{folder}/", "")
    for suffix in (".xz", ".gz", "")
  ]


def content(path: pathlib.Path, digest: str | None = None) -> bytes:
  """Returns the bytes in a plain, ``.gz`` or ``.xz`` file, checked.

  Args:
    path: the file.
    digest: ``"md5:<hex>"`` or ``"sha256:<hex>"`` of the unpacked bytes.

  Raises:
    ValueError: the file is damaged, or holds something else.
  """
  opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
  try:
    with opener(path, "rb") as f:
      data = f.read()
  except _DAMAGE as error:
    raise damaged(path, f"a whole {path.suffix} file", error) from error
  if digest is not None:
    check_digest(path, data, digest)
  return data


def check_digest(what: object, data: bytes, digest: str) -> None:
  """Raises a ValueError unless `data` has `digest`.

  Args:
    what: the file's name, for the error.
    data: the bytes.
    digest: ``"md5:<hex>"``, ``"sha256:<hex>"``, or ``"git:<hex>"``, the id of
      a git blob.
  """
  kind, expected = digest.split(":")
  if kind == "git":
    actual = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
  else:
    actual = hashlib.new(kind, data).hexdigest()
  if actual != expected:
    raise ValueError(
      f"{what}: expected {kind} {expected}, got {actual} ({len(data):,}"
      " bytes): the file was changed or is another one; fetch it again"
    )


def check_rows(what: object, rows: int, expected: int) -> None:
  """Raises a ValueError unless `what` has the expected number of rows."""
  if rows != expected:
    raise ValueError(
      f"{what}: expected {expected:,} rows, got {rows:,}: the file is"
      " truncated or is another one; fetch it again"
    )


def damaged(path: object, expected: str, error: Exception) -> ValueError:
  """Returns the error of a file that cannot be read as what it should be."""
  return ValueError(
    f"{path}: expected {expected}, got {type(error).__name__} ({error}):"
    " the file is damaged; fetch it again"
  )


def idx(path: pathlib.Path, digest: str | None = None) -> np.ndarray:
  """Returns the uint8 array in an MNIST-style idx file, compressed or not."""
  data = content(path, digest)
  try:
    zeros, kind, rank = struct.unpack(">HBB", data[:4])
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    if (zeros, kind) != (0, 8):
      raise ValueError(f"magic number {data[:4].hex()}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
  except _DAMAGE as error:
    raise damaged(path, "an idx file of uint8", error) from error


def cifar_binary(
  what: object, data: bytes, num_labels: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns images [N, 32, 32, 3] and labels [N] of an official binary file.

  Args:
    what: the file's name, for the error.
    data: the bytes of ``data_batch_1.bin``, ``train.bin``, ...
    num_labels: label bytes before each image: CIFAR-10 has 1, CIFAR-100 has
      2, coarse and fine; the last one is returned.
  """
  size = num_labels + 3072
  if not data or len(data) % size:
    raise ValueError(
      f"{what}: expected records of {size} bytes, got {len(data):,} bytes:"
      " the file is truncated; fetch it again"
    )
  rows = np.frombuffer(data, np.uint8).reshape(-1, size)
  pixels = rows[:, num_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return np.ascontiguousarray(pixels), rows[:, num_labels - 1].copy()


def image_tiles(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images and labels of one packed file of lossless tiles.

  The npz holds ``blob``, the concatenated WebP tiles, ``offsets`` of the
  tiles in it, ``n`` images of 32 x 32, ``k`` of them in a row of a tile, and
  the labels ``y``.
  """
  try:
    with np.load(path) as packed:
      count, columns = int(packed["n"]), int(packed["k"])
      blob, offsets = packed["blob"].tobytes(), packed["offsets"]
      tiles = [
        _untile(blob[start:end], columns)
        for start, end in zip(offsets[:-1], offsets[1:])
      ]
      labels = packed["y"]
  except _DAMAGE as error:
    raise damaged(path, "a packed file of image tiles", error) from error
  images = np.concatenate(tiles)[:count]
  check_rows(path, len(images), count)
  check_rows(f"{path} (labels)", len(labels), count)
  return images, labels


def _untile(webp: bytes, columns: int) -> np.ndarray:
  # Imported here: only the packed files need an image decoder.
  from PIL import Image  # pylint: disable=g-import-not-at-top

  tile = np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))
  rows = tile.shape[0] // 32
  grid = tile.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2)
  return grid.reshape(-1, 32, 32, 3)
