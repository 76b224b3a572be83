"""What was prepared is what is read, or one line says what is not."""

import json
import shutil

import numpy as np
import pytest

from experiments import data
from experiments.data import integrity
from experiments.data import preparation
from experiments.data import prepared
from experiments.data import registry


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
  root = tmp_path_factory.mktemp("whole")
  data.prepare("digits", root, progress=False)
  return root


@pytest.fixture
def folder(digits, tmp_path):
  """A copy of the prepared digits, in `tmp_path`."""
  shutil.copytree(digits, tmp_path, dirs_exist_ok=True)
  return next((tmp_path / "digits").iterdir())


def edit(path, change) -> None:
  found = json.loads(path.read_text())
  change(found)
  path.write_text(json.dumps(found))


def shorten(folder):
  edit(
    folder / "dataset_info.json",
    lambda info: info["splits"][0].update(shardLengths=["1100"]),
  )


def flip(name):
  def damage(folder):
    path = next(folder.glob(name))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(bytes(content))

  return damage


def swap(folder):
  train, test = (next(folder.glob(f"*-{s}.*")) for s in ("train", "test"))
  shutil.copyfile(test, train)


def empty(name):
  return lambda folder: (folder / name).write_text("")


_DAMAGES = {
  "a shard's length edited": (shorten, r"dataset_info.json: expected"),
  "a shard over another": (swap, r"digits-train\S+: expected 327,680 bytes"),
  "no metadata": (
    lambda f: (f / "metadata.json").unlink(),
    "metadata.json: expected the notes of the dataset, got none",
  ),
  "a bit of a shard": (flip("*-train.*"), r"digits-train\S+: expected sha256"),
  "a bit of the info": (flip("dataset_info.json"), "dataset_info.json: exp"),
  "a bit of the features": (flip("features.json"), "features.json: expected"),
  "a bit of the notes": (flip("metadata.json"), "metadata.json: expected"),
  "a bit of the digests": (flip("digests.json"), "expected .*, got .*again"),
  "empty digests": (empty("digests.json"), "digests.json: expected a JSON"),
  "an empty info": (empty("dataset_info.json"), "dataset_info.json: expected"),
  "no info": (
    lambda f: (f / "dataset_info.json").unlink(),
    "dataset_info.json: expected a JSON object, got FileNotFoundError",
  ),
  "a length that is no number": (
    lambda f: edit(
      f / "dataset_info.json",
      lambda info: info["splits"][0].update(shardLengths=["1x"]),
    ),
    "dataset_info.json: expected splits and their lengths",
  ),
  "no features": (
    lambda f: (f / "features.json").unlink(),
    "features.json: expected a JSON object, got FileNotFoundError",
  ),
  "a further shard": (
    lambda f: (f / "digits-x.array_record-0").touch(),
    "expected no such file, got one that was not prepared",
  ),
  "digests of nothing": (
    lambda f: (f / "digests.json").write_text('{"files": {}}'),
    "digests.json: expected size and sha256 of each file",
  ),
}


@pytest.mark.parametrize("kind", _DAMAGES)
def test_a_damaged_dataset_is_refused_in_a_line(kind, folder, tmp_path):
  damage, message = _DAMAGES[kind]
  damage(folder)
  with pytest.raises(ValueError, match=message) as error:
    data.load("digits", tmp_path)
  assert "\n" not in str(error.value)


def test_every_flipped_bit_is_seen(folder, tmp_path):
  """Of every file, at random; nothing is read in place of what was there."""
  rng = np.random.default_rng(0)
  for path in sorted(folder.iterdir()):
    whole = path.read_bytes()
    for _ in range(8):
      content = bytearray(whole)
      content[rng.integers(len(whole))] ^= 1 << rng.integers(8)
      path.write_bytes(bytes(content))
      with pytest.raises(ValueError, match="prepare the dataset again"):
        data.load("digits", tmp_path)
    path.write_bytes(whole)
  assert len(data.load("digits", tmp_path).train_x) == 1500


def test_what_needs_no_files_is_prepared_again_with_digests(folder, tmp_path):
  (folder / "digests.json").unlink()
  swap(folder)
  assert len(data.load("digits", tmp_path, progress=False).train_x) == 1500
  assert integrity.has_digests(folder)


def test_another_without_digests_is_read_and_every_table_says_so(
  samples, tmp_path
):
  folder = data.prepare("mnist", tmp_path, samples, progress=False)
  assert "unchecked" not in data.load("mnist", tmp_path).info.note
  (folder / "digests.json").unlink()
  assert data.load("mnist", tmp_path).info.note.endswith(integrity.UNCHECKED)
  # Nor is anything else taken for it: what it says of itself must agree.
  shorten(folder)
  with pytest.raises(ValueError, match="expected a whole dataset, got"):
    data.load("mnist", tmp_path)


def test_of_a_large_dataset_the_sizes_are_compared(folder):
  flip("*-train.*")(folder)
  integrity.check(folder, is_ours=True, sizes_alone=True)
  with pytest.raises(ValueError, match="expected sha256"):
    integrity.check(folder, is_ours=True)
  shard = next(folder.glob("*-train.*"))
  shard.write_bytes(shard.read_bytes()[:-1])
  with pytest.raises(ValueError, match=r"expected 327,680 bytes, got 327,679"):
    integrity.check(folder, is_ours=True, sizes_alone=True)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("has_digests", [False, True])
def test_no_class_of_the_current_folder_is_imported(
  folder, tmp_path, monkeypatch, has_digests, legacy
):
  """A module that would write a file, were it imported."""
  (tmp_path / "evil.py").write_text(
    "import pathlib\npathlib.Path(__file__).with_name('written').touch()\n"
  )
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)

  def change(features):
    if legacy:
      features.update(type="evil.Feature", content={})
    else:
      label = features["featuresDict"]["features"]["label"]
      label["pythonClassName"] = "evil.Feature"

  edit(folder / "features.json", change)
  if has_digests:
    integrity.write(folder)
  else:
    (folder / "digests.json").unlink()
  with pytest.raises(ValueError, match="expected features of TFDS, got 'evil"):
    prepared.open_builder(folder)
  with pytest.raises(ValueError, match="'evil.Feature', which is not imported"):
    integrity.check(folder, is_ours=True)
  assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
  "name",
  [
    "tensorflow_datasets.core.features.feature.nothing",
    "tensorflow_datasets.testing.Tensor",
    "tensorflow_datasets.core.features.x.y.Tensor",
    "Tensor",
  ],
)
def test_a_feature_is_known_by_its_whole_name(folder, name):
  edit(folder / "features.json", lambda f: f.update(pythonClassName=name))
  with pytest.raises(ValueError, match="expected features of TFDS"):
    integrity.check_features(folder)


def test_the_digests_are_those_of_the_files_that_stay(folder):
  recorded = json.loads((folder / "digests.json").read_text())["files"]
  integrity.write(folder)
  assert json.loads((folder / "digests.json").read_text())["files"] == recorded
  there = {path.name for path in folder.iterdir()} - {"digests.json"}
  assert set(recorded) == there and len(there) == 5


def test_a_found_dataset_is_checked_before_it_is_read(folder, tmp_path):
  assert preparation.find(registry.get("digits"), tmp_path) == folder
  swap(folder)
  with pytest.raises(ValueError, match="it is not what was prepared"):
    data.prepare("digits", tmp_path)
