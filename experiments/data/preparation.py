"""Prepares datasets once, as TFDS datasets in array_record form.

A dataset appears by one rename, so a half-prepared one never loads; a lock
lets several processes ask for the same one; finished shards and downloads of
an interrupted attempt are kept and the next attempt continues.
"""

import contextlib
import importlib
import importlib.util
import os
import pathlib
import re
import shutil

import filelock

from experiments.data import exported
from experiments.data import integrity
from experiments.data import registry

_INSTALL = "pip install 'kdropout-jax[prepare]'"


def default_data_dir() -> pathlib.Path:
  """Returns ``$KDROPOUT_DATA_DIR``, or the user's cache folder for data."""
  if os.environ.get("KDROPOUT_DATA_DIR"):
    return pathlib.Path(os.environ["KDROPOUT_DATA_DIR"]).expanduser()
  cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(cache).expanduser() / "kdropout_jax" / "data"


def data_folder(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
  """Returns the folder that a --data_dir means; the default if None."""
  return pathlib.Path(data_dir or default_data_dir()).expanduser()


def resolve(name: str, data_dir: pathlib.Path) -> registry.Spec:
  """Returns the `Spec` of a dataset of ours, or of any other of TFDS's.

  Raises:
    ValueError: nobody knows this name.
  """
  try:
    return registry.get(name)
  except ValueError:
    spec = registry.foreign(name)
    if re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_.\-]+)?", name) and (
      find(spec, data_dir) or _tfds_can_prepare(name)
    ):
      return spec
    raise


def find(spec: registry.Spec, data_dir: pathlib.Path) -> pathlib.Path | None:
  """Returns the folder of a prepared dataset, or None.

  Ours and those that TFDS prepared itself are both found; ours come first.
  """
  folders = [builder_class(spec).name] if spec.builder else []
  folders += [spec.stock] if spec.stock else []
  for folder in folders:
    # A folder that lost its info is no reason to prepare over what is there.
    versions = sorted(
      path for path in (data_dir / folder).glob("[0-9]*") if any(path.glob("*"))
    )
    if versions:
      return _array_record(versions[-1] / "dataset_info.json", spec)
  return None


def is_at_hand(
  name: str, data_dir: str | os.PathLike[str] | None = None
) -> bool:
  """Returns whether a dataset is prepared, or needs no files to be."""
  if exported.is_export(data_dir):
    return True
  folder = data_folder(data_dir)
  spec = resolve(name, folder)
  if find(spec, folder) is not None:
    return True
  return _needs_no_files(spec)


def prepare(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  local_files: str | os.PathLike[str] | None = None,
  progress: bool = True,
) -> pathlib.Path:
  """Prepares a dataset, unless it is there already; returns its folder.

  Args:
    name: a name of the registry.
    data_dir: where datasets live; the default is `default_data_dir()`.
    local_files: a folder that holds the dataset's files; without it they are
      downloaded, where that is possible.
    progress: whether to show progress bars.

  Raises:
    ValueError: unknown dataset, or files that are missing, damaged or of
      another dataset, or no network; nothing prepared is touched.
  """
  data_dir = data_folder(data_dir)
  spec = resolve(name, data_dir)
  if found := _checked(spec, data_dir):
    return found
  if local_files is not None and not pathlib.Path(local_files).is_dir():
    raise ValueError(f"local_files must be a folder, got {str(local_files)!r}")
  with _lock(data_dir, spec.name):
    # Another process may have prepared it while this one waited.
    if found := _checked(spec, data_dir):
      return found
    _remove_undigested(spec, data_dir)
    if spec.builder:
      _prepare_ours(spec, data_dir, local_files, progress)
    else:
      _prepare_stock(spec, data_dir, local_files, progress)
  found = find(spec, data_dir)
  assert found is not None, f"{spec.name} was prepared but is not found"
  return found


def _checked(
  spec: registry.Spec, data_dir: pathlib.Path
) -> pathlib.Path | None:
  """Returns the folder of a prepared dataset that is whole, or None.

  None is also one without digests that needs no files to be prepared again.

  Raises:
    ValueError: it is not what was prepared.
  """
  found = find(spec, data_dir)
  if found is None:
    return None
  is_old = not integrity.has_digests(found)
  if is_old and _needs_no_files(spec) and os.access(found.parent, os.W_OK):
    return None
  integrity.check(
    found, is_ours=_is_ours(spec, found), sizes_alone=spec.streams
  )
  return found


def _remove_undigested(spec: registry.Spec, data_dir: pathlib.Path) -> None:
  """Removes what is there, and is not taken; the lock is held."""
  found = find(spec, data_dir)
  if found is not None:
    shutil.rmtree(found)


def _needs_no_files(spec: registry.Spec) -> bool:
  return spec.builder is not None and builder_class(spec).downloads() == {}


def _is_ours(spec: registry.Spec, folder: pathlib.Path) -> bool:
  return spec.builder is not None and (
    folder.parent.name == builder_class(spec).name
  )


def builder_class(spec: registry.Spec):
  """Returns the class of our TFDS builder for a dataset."""
  assert spec.builder is not None
  module, name = spec.builder.split(":")
  return getattr(importlib.import_module(module), name)


def _array_record(info_file: pathlib.Path, spec) -> pathlib.Path:
  info = integrity.read_json(info_file)
  file_format = info.get("fileFormat", "tfrecord")
  if file_format != "array_record":
    raise ValueError(
      f"{info_file.parent}: expected a dataset in array_record form, got"
      f" {file_format}; prepare it again in another --data_dir with `python"
      f" -m experiments.prepare_data --dataset={spec.name}`"
    )
  return info_file.parent


@contextlib.contextmanager
def _lock(data_dir: pathlib.Path, name: str):
  """Holds the lock of one dataset; waits while another process holds it."""
  locks = data_dir / ".locks"
  try:
    locks.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(locks / name.replace("/", "-"))
    lock.acquire()
  except OSError as error:
    raise ValueError(
      f"data_dir must be a folder that can be written, got {str(data_dir)!r}"
      f" ({error.strerror}); give another --data_dir or KDROPOUT_DATA_DIR"
    ) from error
  try:
    yield
  finally:
    lock.release()


def _tfds_can_prepare(name: str) -> bool:
  if importlib.util.find_spec("tensorflow") is None:
    return False
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  return name.split("/")[0] in tfds.list_builders()


def _prepare_ours(spec, data_dir, local_files, progress) -> None:
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  cls = builder_class(spec)
  _remove_leftovers(data_dir / cls.name)
  wanted = cls.downloads()
  if local_files is None and wanted is None:
    raise ValueError(_how_to_prepare(spec, data_dir))
  if local_files is None:
    # Not before it is needed: a fifth of a second.
    from experiments.data import downloads

    local_files = downloads.fetch(
      wanted, data_dir / "downloads", spec.name, progress
    )
  tfds.disable_progress_bar()
  builder = cls(data_dir=os.fspath(data_dir), file_format="array_record")
  builder.show_progress = progress
  with _quiet():
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        manual_dir=os.fspath(local_files)
      ),
    )


def _prepare_stock(spec, data_dir, local_files, progress) -> None:
  if importlib.util.find_spec("tensorflow") is None:
    raise ValueError(_how_to_prepare(spec, data_dir))
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  if not progress:
    tfds.disable_progress_bar()
  builder = tfds.builder(
    spec.stock, data_dir=os.fspath(data_dir), file_format="array_record"
  )
  manual_dir = None if local_files is None else os.fspath(local_files)
  try:
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
  except (OSError, AssertionError) as error:
    raise ValueError(
      f"dataset {spec.name!r} could not be prepared: {error};"
      f" {_how_to_prepare(spec, data_dir)}"
    ) from error
  found = find(spec, data_dir)
  if found is not None:
    integrity.write(found)


def _how_to_prepare(spec, data_dir) -> str:
  command = f"python -m experiments.prepare_data --dataset={spec.name}"
  if spec.builder is None:
    command = f"{_INSTALL} (TensorFlow is needed to prepare it), then {command}"
  files = f" --local_files=DIR, where DIR holds {spec.fetch}" * bool(spec.fetch)
  return (
    f"dataset {spec.name!r} is not prepared in {data_dir}; run {command}{files}"
  )


def _remove_leftovers(folder: pathlib.Path) -> None:
  """Removes temporary folders of killed attempts; the lock is held."""
  for leftover in folder.glob("incomplete.*"):
    shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _quiet():
  # TFDS prints an estimate of the size that it does not know.
  with open(os.devnull, "w", encoding="utf-8") as sink:
    with contextlib.redirect_stdout(sink):
      yield
