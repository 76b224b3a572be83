"""Every builder prepares its sample; nothing half-prepared ever loads."""

import functools
import hashlib
import http.server
import pathlib
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from experiments import data
from experiments import prepare_data
from experiments.data import downloads
from experiments.data import preparation
from experiments.data import registry
from experiments.data.builders import builder
from experiments.data.builders import cifar
from experiments.data.builders import images
from experiments.data.builders import local_files

# dataset: (training rows, test rows, classes) of its sample
_SAMPLES = {
  "mnist": (24, 12, 10),
  "fashion_mnist": (20, 10, 10),
  "cifar10": (40, 20, 10),
  "cifar100": (40, 20, 100),
  "svhn_cropped": (12, 6, 10),
  "nsl_kdd": (40, 24, 2),
}


@pytest.mark.parametrize("name", _SAMPLES)
def test_sample_prepares_and_loads(name, samples, tmp_path):
  train, test, classes = _SAMPLES[name]
  result = data.load(name, tmp_path / "d", local_files=samples, progress=False)
  assert result.train_labels.shape == (train,)
  assert result.test_labels.shape == (test,)
  assert len(result.train_x) == train and len(result.test_x) == test
  assert result.info.num_classes == classes
  assert result.info.note == "official split"
  assert result.train_labels.dtype == np.int32
  assert not list((tmp_path / "d").glob("*/incomplete*"))
  assert not list((tmp_path / "d" / ".unfinished").iterdir())


def test_images_keep_their_order_and_labels(samples, tmp_path):
  result = data.load(
    "cifar10", tmp_path / "d", local_files=samples, progress=False
  )
  pixels, labels = local_files.image_tiles(samples / "cifar10/train_1.npz")
  np.testing.assert_array_equal(result.train_x[20:], pixels)
  np.testing.assert_array_equal(result.train_labels[20:], labels)
  assert result.info.class_names[3] == "cat"


def test_mnist_sample_is_the_real_one(samples, tmp_path):
  result = data.load(
    "mnist", tmp_path / "d", local_files=samples, progress=False
  )
  # The well-known first labels of both files.
  assert result.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
  assert result.test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
  assert result.train_x.shape == (24, 28, 28, 1)


def test_official_cifar_archive_is_read_like_the_packed_one(
  samples, tmp_path, monkeypatch
):
  first = data.load(
    "cifar10", tmp_path / "a", local_files=samples, progress=False
  )
  cls = cifar.LocalCifar10
  official = tmp_path / "official"
  official.mkdir()
  with tarfile.open(official / cls.ARCHIVE, "w:gz") as archive:
    for split, names in (
      ("train", cls.OFFICIAL["train"][:2]),
      ("test", cls.OFFICIAL["test"]),
    ):
      for i, name in enumerate(names):
        pixels, labels = local_files.image_tiles(
          samples / f"cifar10/{split}_{i}.npz"
        )
        rows = np.concatenate(
          [labels[:, None], pixels.transpose(0, 3, 1, 2).reshape(20, -1)], 1
        )
        path = tmp_path / name
        path.write_bytes(rows.astype(np.uint8).tobytes())
        archive.add(path, f"{cls.UNPACKED}/{name}")
  second = data.load(
    "cifar10", tmp_path / "b", local_files=official, progress=False
  )
  np.testing.assert_array_equal(first.train_x, second.train_x)
  np.testing.assert_array_equal(first.test_labels, second.test_labels)


def test_svhn_calls_the_digit_zero_zero(samples, tmp_path):
  result = data.load(
    "svhn_cropped", tmp_path / "d", local_files=samples, progress=False
  )
  # The sample's labels are 2, 3, ... 10, 1, ...; 10 stands for 0.
  assert result.train_labels[:10].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_tiny_imagenet_reads_its_zip(samples, tmp_path, monkeypatch):
  spec = registry.get("tiny_imagenet")
  monkeypatch.setitem(
    registry._BY_NAME,
    "tiny_imagenet",
    registry.Spec(
      spec.name,
      spec.task,
      spec.builder,
      None,
      (12, 3),
      3,
      test_split="validation",
    ),
  )
  result = data.load(
    "tiny_imagenet", tmp_path / "d", local_files=samples, progress=False
  )
  # Class c is the one in line c of wnids.txt; its colour is 50 c (the grey
  # image, in the last place of a class, as well).
  labels = sorted(result.train_labels.tolist())
  assert labels == [0] * 4 + [1] * 4 + [2] * 4
  red = result.train_x[:, 32, 32, 0].astype(int)
  np.testing.assert_allclose(red, 50 * result.train_labels, atol=2)
  assert result.test_labels.tolist() == [0, 1, 2]
  assert result.train_x.shape == (12, 64, 64, 3)


# A function that damages a file, and what the error says.
_DAMAGES = {
  "missing": (lambda p: p.unlink(), r"lacks 'cifar10/train_1\.npz'"),
  "truncated": (
    lambda p: p.write_bytes(p.read_bytes()[:-200]),
    r"train_1\.npz: expected a packed file of image tiles.*fetch it again",
  ),
  "flipped": (
    lambda p: _flip(p),
    r"train_1\.npz: expected (a packed file|md5).*fetch it again",
  ),
  "another file": (
    lambda p: p.write_bytes(p.with_name("train_0.npz").read_bytes()),
    r"train_1\.npz: expected md5 \w+, got \w+",
  ),
}


def _flip(path: pathlib.Path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


@pytest.mark.parametrize("damage", _DAMAGES)
def test_damaged_files_are_named_and_nothing_loads(damage, samples, tmp_path):
  spoil, message = _DAMAGES[damage]
  root = tmp_path / "d"
  data.load("digits", root, progress=False)
  before = _tree(root / "digits")
  whole = (samples / "cifar10/train_1.npz").read_bytes()
  spoil(samples / "cifar10/train_1.npz")
  with pytest.raises(ValueError, match=message):
    data.load("cifar10", root, local_files=samples, progress=False)
  assert preparation.find(registry.get("cifar10"), root) is None
  assert _tree(root / "digits") == before
  # The right file then continues where it stopped.
  (samples / "cifar10/train_1.npz").write_bytes(whole)
  result = data.load("cifar10", root, local_files=samples, progress=False)
  assert len(result.train_x) == 40


def _tree(folder):
  return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_label_out_of_range_and_other_shape_are_refused():
  check = functools.partial(images.ImageBuilder.check, cifar.LocalCifar10)
  pixels = np.zeros((3, 32, 32, 3), np.uint8)
  with pytest.raises(
    ValueError, match=r"f: expected labels in \[0, 10\), got 0 to 10"
  ):
    check("f", pixels, np.array([0, 3, 10]))
  with pytest.raises(
    ValueError,
    match=r"expected images of shape \(32, 32, 3\), got \(32, 32, 1\)",
  ):
    check("f", pixels[..., :1], np.array([0, 3, 9]))
  with pytest.raises(ValueError, match=r"f \(labels\): expected 3 rows, got 2"):
    check("f", pixels, np.array([0, 3]))
  check("f", pixels, np.array([0, 3, 9]))


def test_an_interrupted_preparation_continues_after_the_last_shard(
  samples, tmp_path, monkeypatch
):
  reads, root = [], tmp_path / "d"
  read = cifar.LocalCifar10._read

  def interrupted(self, root, split, index, digest):
    if split == "test":
      raise KeyboardInterrupt
    return read(self, root, split, index, digest)

  monkeypatch.setattr(cifar.LocalCifar10, "_read", interrupted)
  with pytest.raises(KeyboardInterrupt):
    data.prepare("cifar10", root, samples, progress=False)
  assert preparation.find(registry.get("cifar10"), root) is None

  def counted(self, root, split, index, digest):
    reads.append((split, index))
    return read(self, root, split, index, digest)

  monkeypatch.setattr(cifar.LocalCifar10, "_read", counted)
  data.prepare("cifar10", root, samples, progress=False)
  assert reads == [("test", 0)]
  assert len(data.load("cifar10", root).train_x) == 40


def test_shards_of_another_source_are_not_continued(
  samples, tmp_path, monkeypatch
):
  root = tmp_path / "d"
  cls = cifar.LocalCifar10
  digests = dict(cls.DIGESTS)
  monkeypatch.setattr(cls, "DIGESTS", digests | {"test": ("md5:" + "0" * 32,)})
  with pytest.raises(ValueError, match=r"test_0\.npz: expected md5 0{32}"):
    data.prepare("cifar10", root, samples, progress=False)
  # The two training files change places; the digests follow.
  folder = samples / "cifar10"
  for source, target in ((0, 9), (1, 0), (9, 1)):
    (folder / f"train_{source}.npz").rename(folder / f"train_{target}.npz")
  monkeypatch.setattr(
    cls, "DIGESTS", digests | {"train": digests["train"][::-1]}
  )
  result = data.load("cifar10", root, local_files=samples, progress=False)
  pixels, _ = local_files.image_tiles(folder / "train_0.npz")
  np.testing.assert_array_equal(result.train_x[:20], pixels)


_SLOW_PREPARE = """
import sys, time
from experiments.data.builders import digits
from experiments import data

whole = digits._examples

def slow(table):
  for i, example in enumerate(whole(table)):
    if len(table) == 297 and i == 100:
      print("half", file=sys.stderr, flush=True)
      time.sleep(60)
    yield example

digits._examples = slow
data.prepare("digits", sys.argv[1], progress=False)
"""


def test_a_killed_preparation_does_not_load_and_continues(tmp_path):
  root = tmp_path / "d"
  with subprocess.Popen(
    [sys.executable, "-c", _SLOW_PREPARE, str(root)],
    stderr=subprocess.PIPE,
    text=True,
    cwd=pathlib.Path(__file__).parents[3],
  ) as process:
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    half = any(line == "half\n" for line in lines)
    process.kill()
  assert half
  spec = registry.get("digits")
  assert list((root / "digits").glob("incomplete*"))
  assert preparation.find(spec, root) is None
  (written,) = [
    p for p in (root / ".unfinished/digits-1.0.0").iterdir() if not p.suffix
  ]
  inode = written.stat().st_ino
  result = data.load("digits", root, progress=False)
  assert result.train_x.shape == (1500, 8, 8, 1)
  shard = root / "digits/1.0.0/digits-train.array_record-00000-of-00001"
  assert shard.stat().st_ino == inode
  assert not list((root / "digits").glob("incomplete*"))


def test_concurrent_preparations_read_the_files_once(
  samples, tmp_path, monkeypatch
):
  reads = []
  read = cifar.LocalCifar10._read

  def counted(self, *args):
    reads.append(args)
    time.sleep(0.05)
    return read(self, *args)

  monkeypatch.setattr(cifar.LocalCifar10, "_read", counted)
  found = []
  threads = [
    threading.Thread(
      target=lambda: found.append(
        data.prepare("cifar10", tmp_path / "d", samples, progress=False)
      )
    )
    for _ in range(3)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(reads) == 3 and len(found) == 3 and len(set(found)) == 1
  assert len(data.load("cifar10", tmp_path / "d").train_x) == 40


def test_a_builder_that_yields_too_few_rows_is_refused(tmp_path, monkeypatch):
  from experiments.data.builders import digits

  parts = digits.Digits.parts

  def short(self, dl_manager):
    first, second = parts(self, dl_manager)
    return [first, builder.Part("test", 300, "x", second.read)]

  monkeypatch.setattr(digits.Digits, "parts", short)
  with pytest.raises(
    ValueError, match=r"split 'test': expected 300 rows, got 297"
  ):
    data.prepare("digits", tmp_path, progress=False)
  assert preparation.find(registry.get("digits"), tmp_path) is None


@pytest.mark.parametrize(
  "name, hint",
  [
    ("cifar", "did you mean cifar10 or cifar100"),
    ("fashion-mnist", "did you mean fashion_mnist"),
    ("nslkdd", "did you mean nsl_kdd"),
    ("imagenet", "did you mean"),
    ("zzz", r"got 'zzz'$"),
    ("../x", "dataset must be one of digits, "),
  ],
)
def test_unknown_dataset_gets_the_nearest_names(name, hint, tmp_path):
  with pytest.raises(ValueError, match=hint):
    data.load(name, tmp_path)


def test_missing_files_and_tools_are_named(tmp_path, monkeypatch):
  with pytest.raises(
    ValueError,
    match=r"'nsl_kdd' is not prepared in .*--local_files=DIR, where DIR holds KDDTrain\+",
  ):
    data.load("nsl_kdd", tmp_path, progress=False)
  with pytest.raises(
    ValueError, match=r"pip install 'kdropout-jax\[prepare\]'.*TensorFlow"
  ):
    data.load("imagenet2012", tmp_path, progress=False)
  with pytest.raises(
    ValueError, match=r"local_files must be a folder, got '.*nowhere'"
  ):
    data.load("mnist", tmp_path, local_files=tmp_path / "nowhere")
  (tmp_path / "file").touch()
  with pytest.raises(
    ValueError, match=r"data_dir must be a folder that can be written"
  ):
    data.load("digits", tmp_path / "file", progress=False)


def test_a_set_prepared_as_tfrecord_is_refused(tmp_path):
  folder = tmp_path / "mnist/3.0.1"
  folder.mkdir(parents=True)
  (folder / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
  with pytest.raises(
    ValueError, match="expected a dataset in array_record form, got tfrecord"
  ):
    data.load("mnist", tmp_path)


def test_a_lost_shard_is_named(tmp_path):
  folder = data.prepare("digits", tmp_path, progress=False)
  next(folder.glob("digits-test*")).unlink()
  with pytest.raises(
    ValueError, match=r"digits-test\S+: expected a shard of split 'test'"
  ):
    data.load("digits", tmp_path)


def test_default_folder_follows_the_environment(monkeypatch, tmp_path):
  monkeypatch.setenv("KDROPOUT_DATA_DIR", str(tmp_path / "a"))
  assert data.default_data_dir() == tmp_path / "a"
  monkeypatch.delenv("KDROPOUT_DATA_DIR")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
  assert data.default_data_dir() == tmp_path / "b/kdropout_jax/data"


class _Handler(http.server.SimpleHTTPRequestHandler):
  """Serves `FILES`; knows ranges; breaks off once where it is told to."""

  files: dict[str, bytes] = {}
  break_at: int | None = None
  ranges: list[str | None] = []

  def do_GET(self):
    body = self.files.get(self.path)
    if body is None:
      self.send_error(404)
      return
    start = 0
    self.ranges.append(self.headers.get("Range"))
    if self.ranges[-1]:
      start = int(self.ranges[-1].removeprefix("bytes=").rstrip("-"))
    self.send_response(206 if start else 200)
    self.send_header("Content-Length", str(len(body) - start))
    self.end_headers()
    stop, type(self).break_at = type(self).break_at, None
    self.wfile.write(body[start:stop])

  def log_message(self, *args):
    pass


@pytest.fixture
def server():
  _Handler.ranges = []
  with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as httpd:
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()


def test_download_resumes_where_it_broke_off(server, tmp_path, monkeypatch):
  body = np.random.default_rng(0).bytes(300_000)
  _Handler.files, _Handler.break_at = {"/f": body}, 100_000
  digest = f"md5:{hashlib.md5(body).hexdigest()}"
  wanted = {"x/f": (f"{server}/f", digest)}
  with monkeypatch.context() as once:
    once.setattr(downloads, "_TRIES_AGAIN", 0)
    with pytest.raises(
      ValueError, match="cannot be downloaded.*What has arrived is kept"
    ):
      downloads.fetch(wanted, tmp_path, "x", progress=False)
  assert not (tmp_path / "x/f").exists()
  downloads.fetch(wanted, tmp_path, "x", progress=False)
  assert (tmp_path / "x/f").read_bytes() == body
  assert _Handler.ranges == [None, "bytes=100000-"]
  downloads.fetch(wanted, tmp_path, "x", progress=False)
  assert len(_Handler.ranges) == 2  # What is there is not fetched again.


def test_a_download_that_breaks_off_is_tried_again(server, tmp_path):
  body = np.random.default_rng(1).bytes(30_000)
  _Handler.files, _Handler.break_at = {"/f": body}, 10_000
  digest = f"md5:{hashlib.md5(body).hexdigest()}"
  downloads.fetch({"f": (f"{server}/f", digest)}, tmp_path, "x", False)
  assert (tmp_path / "f").read_bytes() == body
  assert _Handler.ranges == [None, "bytes=10000-"]
  assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_file_that_is_there_is_checked(server, tmp_path):
  _Handler.files = {"/f": b"abc"}
  wanted = {"f": (f"{server}/f", f"md5:{hashlib.md5(b'abc').hexdigest()}")}
  (tmp_path / "f").write_bytes(b"abd")
  downloads.fetch(wanted, tmp_path, "x", progress=False)
  assert (tmp_path / "f").read_bytes() == b"abc"


@pytest.mark.parametrize("name", ["f", "f.part"])
def test_a_download_is_not_written_through_a_link(server, tmp_path, name):
  _Handler.files = {"/f": b"abc"}
  wanted = {"f": (f"{server}/f", f"md5:{hashlib.md5(b'abc').hexdigest()}")}
  (tmp_path / "mine").write_bytes(b"mine")
  (tmp_path / "d").mkdir()
  (tmp_path / "d" / name).symlink_to(tmp_path / "mine")
  downloads.fetch(wanted, tmp_path / "d", "x", progress=False)
  assert (tmp_path / "mine").read_bytes() == b"mine"
  assert not (tmp_path / "d/f").is_symlink()
  assert (tmp_path / "d/f").read_bytes() == b"abc"


def test_every_address_is_of_https(tmp_path):
  """What is not is refused, and none of ours is asked for."""
  with pytest.raises(ValueError, match="url must be of https, got 'http:"):
    wanted = {"f": ("http://host.invalid/f", "md5:0")}
    downloads.fetch(wanted, tmp_path, "x", progress=False)
  specs = [registry.get(name) for name in registry.names()]
  addresses = [
    url
    for spec in specs
    if spec.builder
    for url, _ in (preparation.builder_class(spec).downloads() or {}).values()
  ]
  assert len(addresses) > 15
  for url in addresses:
    downloads._check_address(url)


def test_download_with_another_digest_is_thrown_away(
  server, tmp_path, monkeypatch
):
  monkeypatch.setattr(downloads, "_TRIES_AGAIN", 0)
  _Handler.files = {"/f": b"abc"}
  wanted = {"f": (f"{server}/f", "md5:" + "0" * 32)}
  with pytest.raises(
    ValueError,
    match=r"/f: MD5 hash of downloaded file .*expected md5:0+ but got 9001",
  ):
    downloads.fetch(wanted, tmp_path, "x", progress=False)
  assert not list(tmp_path.iterdir())
  with pytest.raises(
    ValueError, match=r"cannot be downloaded \(HTTP Error 404"
  ):
    downloads.fetch({"f": (f"{server}/g", "md5:0")}, tmp_path, "x", False)


def test_a_dataset_is_prepared_from_the_network(
  server, samples, tmp_path, monkeypatch
):
  cls = images.LocalMnist
  _Handler.files = {
    f"/{name}.gz": (samples / f"mnist/{name}.gz").read_bytes()
    for name in cls.PACKED
  }
  monkeypatch.setattr(cls, "URL", f"{server}/")
  assert len(data.load("mnist", tmp_path / "d", progress=False).train_x) == 24


def test_prepare_data_reports_every_dataset(samples, tmp_path, capsys):
  errors = prepare_data.prepare_all(
    ["digits", "nsl_kdd", "fashion_mnist"], tmp_path / "d", samples
  )
  out = capsys.readouterr().out
  assert not errors
  assert "digits: about 1 MB in" in out
  assert "nsl_kdd: train 40, test 24, test21 12 (official split)" in out
  (samples / "mnist/train-labels-idx1-ubyte.gz").unlink()
  errors = prepare_data.prepare_all(
    ["digits", "mnist", "cifar10"], tmp_path / "d", samples
  )
  out = capsys.readouterr().out
  assert len(errors) == 1 and errors[0].startswith("mnist: local_files=")
  assert "digits: already in" in out
  assert "cifar10: train 40, test 20 (official split)" in out


def test_prepare_data_checks_names_and_room_first(tmp_path, capsys):
  with pytest.raises(ValueError, match="did you mean mnist"):
    prepare_data.prepare_all(["digits", "mnits"], tmp_path, None)
  assert not capsys.readouterr().out
  errors = prepare_data.prepare_all(["imagenet2012"], tmp_path, None)
  assert "MB free" in errors[0] or "pip install" in errors[0]
