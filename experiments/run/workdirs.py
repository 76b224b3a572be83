"""The folder of a run: who owns it, and what it says at the end."""

import contextlib
import itertools
import json
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

import tqdm

from kdropout_jax.training import files

CONFIG = "config.json"
RESULT = "result.json"


def check(workdir: pathlib.Path, identity: dict[str, Any]) -> None:
  """Refuses a folder that cannot be the one of the run `identity`.

  Raises:
    ValueError: it is no folder, it belongs to a run with other flags, or it
      holds something else. Nothing in it is touched.
  """
  try:
    names = [p.name for p in workdir.iterdir()] if workdir.exists() else []
  except OSError as error:
    raise ValueError(
      f"workdir must be a folder, or not be there yet, got {workdir}:"
      f" {error.strerror}"
    ) from error
  owner = read(workdir / CONFIG)
  if owner is None:
    if any(not name.startswith(".") for name in names):
      raise ValueError(
        f"workdir must be empty or belong to this run, got {workdir}, which"
        f" holds files but no readable {CONFIG}"
      )
  elif owner != json.loads(json.dumps(identity)):
    raise ValueError(
      f"workdir {workdir} belongs to a run with other flags"
      f" ({differences(owner, identity)}); choose another folder"
    )


def check_writable(workdir: pathlib.Path) -> None:
  """Raises a ValueError where nothing can be written into `workdir`."""
  folder = workdir.absolute()
  try:
    while not folder.exists():
      folder = folder.parent
    # What a mode says is not what happens: not to root, nor in /proc.
    with tempfile.TemporaryDirectory(prefix=".", dir=folder):
      pass
  except OSError as error:
    raise ValueError(
      f"workdir must be a folder that can be written, got {workdir}:"
      f" {error.strerror} ({folder})"
    ) from error


def claim(workdir: pathlib.Path, identity: dict[str, Any]) -> None:
  """Makes `workdir` the folder of the run `identity`, or continues in it.

  Raises:
    ValueError: as `check` does.
  """
  check(workdir, identity)
  if read(workdir / CONFIG) is None:
    workdir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(identity, indent=2, sort_keys=True)
    files.write_atomically(workdir / CONFIG, text + "\n")


def differences(
  owner: dict[str, Any],
  identity: dict[str, Any],
  where: str = "there",
  here: str = "here",
) -> str:
  """Returns what two identities differ in, in words."""
  words = []
  for name in sorted(owner.keys() | identity.keys()):
    ours, theirs = (d.get(name, "default") for d in (identity, owner))
    if ours != theirs:
      words.append(f"{name}: {theirs} {where}, {ours} {here}")
  return "; ".join(words)


def result(
  workdir: pathlib.Path, keys: Iterable[str] = (), num_runs: int = 1
) -> dict[str, Any] | None:
  """Returns the result of a finished run, or None.

  A file that is there and is no result is set aside, and said: the run's
  checkpoint makes it again.

  Args:
    workdir: the folder.
    keys: what a result must hold, at least; for several runs, each of them.
    num_runs: of one program.
  """
  path = workdir / RESULT
  found = read(path)
  if found is not None and _is_whole(found, keys, num_runs):
    return found
  if _is_there(path):
    # Another process may have been the first to see it.
    with contextlib.suppress(FileNotFoundError):
      aside = _set_aside(path)
      tqdm.tqdm.write(
        f"{path} is damaged and was set aside as {aside.name}; the checkpoint"
        " of the run makes it again"
      )
  return None


def write_result(workdir: pathlib.Path, values: dict[str, Any]) -> None:
  """Writes the result, whole or not at all: the mark of a finished run."""
  text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False)
  files.write_atomically(workdir / RESULT, text + "\n")


def _is_whole(
  found: dict[str, Any], keys: Iterable[str], num_runs: int
) -> bool:
  runs = [found] if num_runs == 1 else found.get("runs")
  return (
    isinstance(runs, list)
    and len(runs) == num_runs
    and all(isinstance(r, dict) and set(keys) <= r.keys() for r in runs)
  )


def _set_aside(path: pathlib.Path) -> pathlib.Path:
  """Renames a file or folder, over none, and returns its new path."""
  names = (f"{path.name}.damaged{i or ''}" for i in itertools.count())
  free = (path.with_name(n) for n in names if not _is_there(path.with_name(n)))
  return path.rename(next(free))


def _is_there(path: pathlib.Path) -> bool:
  try:
    return path.exists() or path.is_symlink()
  except OSError:  # A name that is too long, say.
    return False


def read(path: pathlib.Path) -> dict[str, Any] | None:
  """Returns a file's JSON object, or None: it holds none, or is not there."""
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError):
    return None
  return found if isinstance(found, dict) else None
