"""The folder of a run: who owns it, and what it says at the end."""

import json
import pathlib
from typing import Any

from kdropout_jax.training import metrics

CONFIG = "config.json"
RESULT = "result.json"


def check(workdir: pathlib.Path, identity: dict[str, Any]) -> None:
  """Refuses a folder that cannot be the one of the run `identity`.

  Raises:
    ValueError: the folder belongs to a run with other flags, or holds
      something else. Nothing in it is touched.
  """
  owner = _read(workdir / CONFIG)
  if owner is None:
    files = workdir.iterdir() if workdir.is_dir() else ()
    if any(not p.name.startswith(".") for p in files):
      raise ValueError(
        f"workdir must be empty or belong to this run, got {workdir}, which"
        f" holds files but no readable {CONFIG}"
      )
  elif owner != json.loads(json.dumps(identity)):
    raise ValueError(
      f"workdir {workdir} belongs to a run with other flags"
      f" ({differences(owner, identity)}); choose another folder"
    )


def claim(workdir: pathlib.Path, identity: dict[str, Any]) -> None:
  """Makes `workdir` the folder of the run `identity`, or continues in it.

  Raises:
    ValueError: as `check` does.
  """
  check(workdir, identity)
  if _read(workdir / CONFIG) is None:
    workdir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(identity, indent=2, sort_keys=True)
    metrics.write_atomically(workdir / CONFIG, text + "\n")


def differences(owner: dict[str, Any], identity: dict[str, Any]) -> str:
  """Returns what two identities differ in, in words."""
  words = []
  for name in sorted(owner.keys() | identity.keys()):
    ours, theirs = (d.get(name, "default") for d in (identity, owner))
    if ours != theirs:
      words.append(f"{name}: {theirs} there, {ours} here")
  return "; ".join(words)


def result(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns the result of a finished run, or None."""
  return _read(workdir / RESULT)


def write_result(workdir: pathlib.Path, values: dict[str, Any]) -> None:
  """Writes the result, whole or not at all: the mark of a finished run."""
  text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False)
  metrics.write_atomically(workdir / RESULT, text + "\n")


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, json.JSONDecodeError):
    return None
