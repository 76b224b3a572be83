"""Parameters kept after chosen steps, for what is measured afterwards."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from kdropout_jax.training import files
from kdropout_jax.training import loop
from kdropout_jax.training import state as state_lib

_FOLDER = "snapshots"


def hook(folder: pathlib.Path, steps: Iterable[int]) -> loop.Hook:
  """Returns a hook that keeps the members' networks after `steps`."""

  def keep(done: int, state: state_lib.TrainState, since_log: Any) -> None:
    del since_log
    if jax.process_index() == 0:
      write(folder, done, kept(state))

  return loop.Hook(keep, steps=frozenset(steps))


def kept(state: state_lib.TrainState) -> Any:
  """Returns what a snapshot holds: the parameters, or all variables.

  All of them where the model has others (statistics of batch normalisation),
  without which the parameters make no network.
  """
  return state.variables() if state.collections else state.params


def write(folder: pathlib.Path, step: int, params: Any) -> None:
  """Writes the snapshot of `step`, whole or not at all."""
  path = _path(folder, step)
  path.parent.mkdir(exist_ok=True)
  named: dict[str, Any] = {
    jax.tree_util.keystr(leaf_path): np.asarray(leaf)
    for leaf_path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  with files.opened_atomically(path, "wb") as file:
    np.savez(file, **named)


def read(folder: pathlib.Path, step: int, like: Any) -> Any:
  """Returns the snapshot of `step` in the structure of `like`.

  Raises:
    ValueError: there is none, or it is of another model.
  """
  path = _path(folder, step)
  if not path.exists():
    raise ValueError(f"there is no snapshot of step {step} in {path.parent}")
  with loaded(path) as saved:
    leaves = jax.tree_util.tree_leaves_with_path(like)
    names = [jax.tree_util.keystr(leaf_path) for leaf_path, _ in leaves]
    if set(names) != set(saved.files):
      raise ValueError(f"{path} is of another model: it holds {saved.files}")
    return jax.tree.unflatten(
      jax.tree.structure(like), [saved[name] for name in names]
    )


@contextlib.contextmanager
def loaded(path: pathlib.Path) -> Iterator[Any]:
  """Opens a file of arrays; its checksums are compared as they are read.

  Raises:
    ValueError: it is not there, or damaged.
  """
  try:
    with np.load(path) as saved:
      yield saved
  except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(
      f"{path} is damaged or gone ({type(error).__name__}: {error}): remove"
      f" {path.parent} and what was made of it, and run again"
    ) from error


def _path(folder: pathlib.Path, step: int) -> pathlib.Path:
  return folder / _FOLDER / f"{step}.npz"
