"""The folder of a run: who owns it, and what it says at the end."""

import contextlib
import json
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import filelock
import tqdm

from kdropout_jax.training import digests
from kdropout_jax.training import files

CONFIG = "config.json"
MACHINE = "machine.json"
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
  owner = files.read_object(workdir / CONFIG)
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


@contextlib.contextmanager
def locked(workdir: pathlib.Path, name: str = "") -> Iterator[None]:
  """Holds a folder, or what `name` names in it, while a block writes there.

  The system gives the lock of a killed process back. A folder that was made
  for the lock alone goes with it.

  Args:
    workdir: made where it is missing.
    name: of what is written, where several may write into one folder.

  Raises:
    ValueError: another process holds it.
  """
  was_there = workdir.exists()
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / (f".lock-{name}" if name else ".lock")
  lock = filelock.FileLock(path, blocking=False)
  try:
    lock.acquire()
  except filelock.Timeout as error:
    what = f", to write {name}" if name else ""
    raise ValueError(
      f"workdir {workdir} is in use by another process{what}: wait for it, or"
      " choose another folder"
    ) from error
  try:
    yield
  finally:
    if not was_there and [p.name for p in workdir.iterdir()] == [path.name]:
      path.unlink()
      workdir.rmdir()
    lock.release()


def claim(workdir: pathlib.Path, identity: dict[str, Any]) -> None:
  """Makes `workdir` the folder of the run `identity`, or continues in it.

  Raises:
    ValueError: as `check` does.
  """
  check(workdir, identity)
  if files.read_object(workdir / CONFIG) is None:
    workdir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(identity, indent=2, sort_keys=True)
    files.write_atomically(workdir / CONFIG, text + "\n")


def moved(workdir: pathlib.Path, here: dict[str, Any]) -> str:
  """Notes where a run trains, and says what is new since it last did.

  Args:
    workdir: the folder.
    here: what the bits of a run depend on beside its configuration.

  Returns:
    What differs, in words; nothing for a new run, or one that stayed.
  """
  path = workdir / MACHINE
  before = files.read_object(path) or {}
  here = json.loads(json.dumps(here))
  if before != here:
    text = json.dumps(here, indent=2, sort_keys=True)
    files.write_atomically(path, text + "\n")
  return differences(before, here) if before else ""


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
  found = _without_digest(files.read_object(path))
  if found is not None and _is_whole(found, keys, num_runs):
    return found
  if files.is_there(path):
    # Another process may have been the first to see it.
    with contextlib.suppress(FileNotFoundError):
      aside = files.set_aside(path)
      tqdm.tqdm.write(
        f"{path} is damaged and was set aside as {aside.name}; the checkpoint"
        " of the run makes it again"
      )
  return None


def write_result(workdir: pathlib.Path, values: dict[str, Any]) -> None:
  """Writes the result, whole or not at all: the mark of a finished run."""
  values = json.loads(json.dumps(values, allow_nan=False))
  marked = {**values, **_marks(values)}
  text = json.dumps(marked, indent=2, sort_keys=True)
  files.write_atomically(workdir / RESULT, text + "\n")


def _marks(values: dict[str, Any]) -> dict[str, Any]:
  # Two, so that no single damage hides that there was a digest.
  return {"digest": digests.of_json(values), "digest_of": "sha256"}


def _without_digest(found: dict[str, Any] | None) -> dict[str, Any] | None:
  """Returns what a result says, or None where its digest says otherwise.

  Those that were written before digests were have none of its two marks.
  """
  if found is None:
    return None
  values = {k: v for k, v in found.items() if k not in ("digest", "digest_of")}
  marks = {k: v for k, v in found.items() if k not in values}
  return values if not marks or marks == _marks(values) else None


def _is_whole(
  found: dict[str, Any], keys: Iterable[str], num_runs: int
) -> bool:
  runs = [found] if num_runs == 1 else found.get("runs")
  return (
    isinstance(runs, list)
    and len(runs) == num_runs
    and all(isinstance(r, dict) and set(keys) <= r.keys() for r in runs)
  )
