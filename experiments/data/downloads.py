"""Downloads files once: resumed where they stopped, checked at the end."""

import http.client
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Mapping

import tqdm

from experiments.data.builders import local_files

_CHUNK = 1 << 20


def fetch(
  wanted: Mapping[str, tuple[str, str]],
  folder: pathlib.Path,
  name: str,
  progress: bool = True,
) -> pathlib.Path:
  """Downloads what is missing; returns the folder that holds the files.

  Args:
    wanted: ``{path below folder: (url, digest)}``.
    folder: where to put the files.
    name: the dataset's, for the error.
    progress: whether to show a progress bar.

  Raises:
    ValueError: there is no network, or a file has another digest.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for path, (url, digest) in wanted.items():
    target = folder / path
    if target.exists():
      continue
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    try:
      _download(url, partial, progress)
    except (OSError, http.client.HTTPException) as error:
      raise ValueError(
        f"dataset {name!r}: {url} cannot be downloaded ({error}); is the"
        " network there? What has arrived is kept. Or fetch the files by"
        " other means and run `python -m experiments.prepare_data"
        f" --dataset={name} --local_files=DIR`"
      ) from error
    try:
      local_files.check_digest(url, partial.read_bytes(), digest)
    except ValueError:
      partial.unlink()  # Continuing after a wrong file would stay wrong.
      raise
    partial.rename(target)
  return folder


def _download(url: str, partial: pathlib.Path, progress: bool) -> None:
  """Appends the rest of `url` to `partial`."""
  start = partial.stat().st_size if partial.exists() else 0
  request = urllib.request.Request(url)
  if start:
    request.add_header("Range", f"bytes={start}-")
  try:
    response = urllib.request.urlopen(request, timeout=30)
  except urllib.error.HTTPError as error:
    if error.code == 416:  # Nothing is left: it stopped before the rename.
      return
    raise
  with response:
    resumed = response.status == 206
    length = response.headers.get("Content-Length")
    start = start if resumed else 0
    with (
      open(partial, "ab" if resumed else "wb") as f,
      tqdm.tqdm(
        total=start + int(length) if length else None,
        initial=start,
        desc=os.path.basename(url),
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
      ) as bar,
    ):
      while chunk := response.read(_CHUNK):
        f.write(chunk)
        bar.update(len(chunk))
    if length and partial.stat().st_size != start + int(length):
      raise OSError("the connection ended early")
