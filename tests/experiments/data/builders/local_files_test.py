"""Readers of local files: what they return, and what they refuse."""

import gzip
import hashlib
import lzma

import numpy as np
import pytest

from experiments.data.builders import local_files


def test_find_takes_the_first_candidate_there_is(tmp_path):
  (tmp_path / "b").touch()
  (tmp_path / "c").touch()
  assert local_files.find(tmp_path, "a", "b", "c") == tmp_path / "b"


def test_find_lists_what_it_looked_for(tmp_path):
  with pytest.raises(ValueError, match=r"lacks 'a': looked for a, b; point"):
    local_files.find(tmp_path, "a", "b")


@pytest.mark.parametrize("suffix", [".txt", ".gz", ".xz"])
def test_content_unpacks_and_checks(tmp_path, suffix):
  pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(suffix, bytes)
  path = tmp_path / f"file{suffix}"
  path.write_bytes(pack(b"some rows"))
  digest = f"md5:{hashlib.md5(b'some rows').hexdigest()}"
  assert local_files.content(path, digest) == b"some rows"


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_content_names_a_damaged_file(tmp_path, suffix, damage):
  pack = {".gz": gzip.compress, ".xz": lzma.compress}[suffix]
  data = bytearray(pack(bytes(range(256)) * 40))
  path = tmp_path / f"file{suffix}"
  if damage == "truncated":
    path.write_bytes(data[: len(data) // 2])
  else:
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
  message = rf"file\{suffix}: expected a whole \{suffix} file.*fetch it again"
  with pytest.raises(ValueError, match=message):
    local_files.content(path)


def test_digest_of_another_file_is_refused():
  with pytest.raises(ValueError, match=r"x\.bin: expected md5 0+, got 9001"):
    local_files.check_digest("x.bin", b"abc", "md5:" + "0" * 32)


def test_git_digest_is_the_id_of_a_blob():
  # `printf hello | git hash-object --stdin`
  digest = "git:b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
  local_files.check_digest("hello", b"hello", digest)
  with pytest.raises(ValueError, match="expected git"):
    local_files.check_digest("hello", b"hullo", digest)


def test_idx_reads_any_rank(tmp_path):
  path = tmp_path / "idx"
  path.write_bytes(b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03" + bytes(range(6)))
  np.testing.assert_array_equal(
    local_files.idx(path), np.array([[0, 1, 2], [3, 4, 5]])
  )


@pytest.mark.parametrize(
  "data",
  [
    b"",
    b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03" + bytes(5),  # one byte short
    b"\0\0\x0d\x01\0\0\0\x01\0",  # floats
    b"\x1f\x8b\x08\0",
  ],
)
def test_idx_refuses_what_is_none(tmp_path, data):
  path = tmp_path / "idx"
  path.write_bytes(data)
  with pytest.raises(ValueError, match="expected an idx file of uint8"):
    local_files.idx(path)


def test_cifar_binary_is_planar_and_takes_the_last_label():
  pixels = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3, 32, 32)
  rows = [bytes([7, 42 + i]) + pixels[i].tobytes() for i in range(2)]
  images, labels = local_files.cifar_binary("f", b"".join(rows), 2)
  assert labels.tolist() == [42, 43]
  assert images[1, 5, 6, 2] == pixels[1, 2, 5, 6]


@pytest.mark.parametrize("size", [0, 3072, 3073 * 2 - 1])
def test_cifar_binary_refuses_a_truncated_file(size):
  with pytest.raises(ValueError, match=r"f: expected records of 3073 bytes"):
    local_files.cifar_binary("f", bytes(size), 1)
