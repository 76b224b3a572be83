"""Downloads files once: by https, tried again, resumed, checked at the end."""

import os
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import Any

import pooch
import requests
import tqdm

_CHUNK = 1 << 20
_TRIES_AGAIN = 2
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def fetch(
  wanted: Mapping[str, tuple[str, str]],
  folder: pathlib.Path,
  name: str,
  progress: bool = True,
) -> pathlib.Path:
  """Downloads what is missing; returns the folder that holds the files.

  A file that is there is checked, too, and fetched again where it is another.

  Args:
    wanted: ``{path below folder: (url, digest)}``.
    folder: where to put the files.
    name: the dataset's, for the error.
    progress: whether to show a progress bar.

  Raises:
    ValueError: there is no network, a file has another digest, or an address
      is not of https.
  """
  pooch.get_logger().setLevel("ERROR")  # The bar says it.
  folder.mkdir(parents=True, exist_ok=True)
  for path, (url, digest) in wanted.items():
    _check_address(url)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():  # Not written through, wherever it points.
      target.unlink()
    store = pooch.create(
      target.parent,
      base_url="",
      registry={target.name: digest},
      urls={target.name: url},
      retry_if_failed=_TRIES_AGAIN,
    )
    try:
      store.fetch(
        target.name,
        downloader=_Downloader(target, progress),  # pyright: ignore[reportArgumentType]
      )
    except OSError as error:  # Of requests, too.
      raise ValueError(
        f"dataset {name!r}: {url} cannot be downloaded ({error}); is the"
        " network there? What has arrived is kept. Or fetch the files by"
        " other means and run `python -m experiments.prepare_data"
        f" --dataset={name} --local_files=DIR`"
      ) from error
    except ValueError as error:  # Pooch's, of a digest.
      raise ValueError(f"dataset {name!r}, {url}: {error}") from error
  return folder


class _Downloader:
  """Gives pooch a whole file; what arrived before a break is kept beside it."""

  def __init__(self, target: pathlib.Path, progress: bool):
    self._partial = target.with_name(f"{target.name}.part")
    self._progress = progress

  def __call__(self, url: str, output_file: Any, store: Any) -> None:
    del store
    if self._partial.is_symlink():
      self._partial.unlink()
    _download(url, self._partial, self._progress)
    # Pooch checks the digest next: a wrong file is not continued.
    os.replace(self._partial, os.fspath(output_file))


def _check_address(url: str) -> None:
  parts = urllib.parse.urlsplit(url)
  if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
    raise ValueError(f"url must be of https, got {url!r}")


def _download(url: str, partial: pathlib.Path, progress: bool) -> None:
  """Appends the rest of `url` to `partial`."""
  start = partial.stat().st_size if partial.exists() else 0
  # Not compressed on the way: lengths and ranges are those of the file.
  headers = {"Accept-Encoding": "identity"}
  if start:
    headers["Range"] = f"bytes={start}-"
  with requests.get(url, headers=headers, stream=True, timeout=30) as response:
    if response.status_code == 416:  # Nothing is left: it stopped at the end.
      return
    if 400 <= response.status_code < 500:  # Trying again would not help.
      raise OSError(f"HTTP Error {response.status_code}: {response.reason}")
    response.raise_for_status()
    for hop in (*response.history, response):
      _check_address(hop.url)
    # What came before a break is kept; the length is compared below.
    response.raw.enforce_content_length = False
    resumed = response.status_code == 206
    length = response.headers.get("Content-Length")
    start = start if resumed else 0
    total = start + int(length) if length else None
    with (
      open(partial, "ab" if resumed else "wb") as file,
      tqdm.tqdm(
        total=total,
        initial=start,
        desc=os.path.basename(urllib.parse.urlsplit(url).path),
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
      ) as bar,
    ):
      for chunk in response.iter_content(_CHUNK):
        file.write(chunk)
        bar.update(len(chunk))
  if total is not None and partial.stat().st_size != total:
    raise requests.ConnectionError("the connection ended early")
