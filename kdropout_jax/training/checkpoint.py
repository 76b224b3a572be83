"""Checkpoints that notice damage: orbax, and a digest of every leaf.

Orbax restores a flipped bit without a word, and a folder that was renamed or
copied from another run as well. So a digest of each leaf is saved as a second
item, with the step and a digest of what names the run, and compared after
restoring; a checkpoint that fails is set aside, that is said, and the one
before it is used.
"""

import asyncio
import dataclasses
import logging
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kdropout_jax.training import digests
from kdropout_jax.training import state as state_lib

__all__ = (
  "Checkpoints",
  "DamagedCheckpoints",
  "Restored",
)

_DAMAGED = "damaged_checkpoints"


@dataclasses.dataclass(frozen=True)
class Restored:
  """A checkpoint, read and verified.

  Attributes:
    step: steps that were done when it was saved.
    tree: the saved arrays, numpy, in the structure that was asked for.
    extra: the small facts saved beside them.
    damaged: steps of newer checkpoints that were set aside.
  """

  step: int
  tree: Any
  extra: Mapping[str, Any]
  damaged: tuple[int, ...] = ()


class DamagedCheckpoints(ValueError):
  """No checkpoint of a run is whole, in its place and of that run.

  Attributes:
    damaged: {step: what is wrong with its checkpoint}.
  """

  def __init__(self, folder: pathlib.Path, damaged: Mapping[int, str]):
    reasons = "; ".join(f"{step}: {text}" for step, text in damaged.items())
    super().__init__(
      f"every checkpoint in {folder} is damaged (steps {list(damaged)}):"
      f" remove the run's folder to start again ({reasons})"
    )
    self.damaged = dict(damaged)


class Checkpoints:
  """The checkpoints of a run, in a folder of its own.

  Args:
    folder: made where it is missing.
    keep: how many of the newest stay; at least 2, so that a damaged one has
      one before it.
    run: what names the run, data that JSON can hold: all that decides which
      bits it trains. A checkpoint of another one is not restored.

  Raises:
    ValueError: `keep` is less than 2, or JSON cannot hold `run`.

  >>> import tempfile
  >>> checkpoints = Checkpoints(tempfile.mkdtemp(), run={"seed": 0})
  >>> checkpoints.save(3, {"w": np.ones(2)}, {"loss": 0.5})
  True
  >>> restored = checkpoints.restore({"w": np.zeros(2)})
  >>> restored.step, restored.tree["w"].tolist(), restored.extra
  (3, [1.0, 1.0], {'loss': 0.5})
  >>> checkpoints.close()
  """

  def __init__(
    self, folder: str | os.PathLike[str], keep: int = 2, *, run: Any = None
  ):
    if keep < 2:
      raise ValueError(f"keep must be >= 2, got {keep}")
    self._run = digests.of_json(run)
    self._folder = pathlib.Path(folder).absolute()
    self._keep = keep
    self._manager = self._open()

  def save(
    self, step: int, tree: Any, extra: Mapping[str, Any] | None = None
  ) -> bool:
    """Saves the state after `step` steps; all of it or nothing is there.

    A state with a value that is not finite is not saved: the last good
    checkpoint stays the newest.

    Args:
      step: steps that are done.
      tree: arrays, as the next `restore` is to give them back.
      extra: small facts beside them, which JSON can hold.

    Returns:
      Whether it was saved.
    """
    if step in self._manager.all_steps():
      return True  # Steps are deterministic: it holds the same.
    tree = jax.tree.map(np.asarray, tree)
    if not state_lib.all_finite(tree):
      return False
    extra = dict(extra or {})
    items = ocp.args.Composite(
      state=ocp.args.PyTreeSave(_nested(tree)),
      digest=ocp.args.JsonSave(
        {
          "step": step,
          "run": self._run,
          "digests": _digests(tree, extra),
          "extra": extra,
        }
      ),
    )
    self._manager.save(step, args=items, force=True)
    self._manager.wait_until_finished()
    return True

  def restore(self, like: Any) -> Restored | None:
    """Returns the newest checkpoint that is whole, or None if there is none.

    Whole is also: in the place where it was saved, and of this run.

    Args:
      like: a tree of arrays or shapes with the structure that was saved.

    Returns:
      It, or None.

    Raises:
      DamagedCheckpoints: there are some, and each of them is damaged.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    damaged: dict[int, str] = {}
    for step in steps:
      try:
        tree, extra = self._read(step, like)
      except Exception as error:  # Damage shows as any error of any reader.
        damaged[step] = _in_one_line(error)
        _say(f"checkpoint {step} in {self._folder} is damaged: {damaged[step]}")
        continue
      self._set_aside(list(damaged))
      if damaged:
        _say(f"continuing from the checkpoint before it, of step {step}")
      return Restored(step, tree, extra, tuple(damaged))
    if damaged:
      raise DamagedCheckpoints(self._folder, damaged)
    return None

  def close(self) -> None:
    """Waits for what is being written."""
    self._manager.close()

  def _open(self) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._keep, enable_async_checkpointing=False
    )
    types = ocp.type_handlers.create_type_handler_registry(
      (np.ndarray, _PatientReader()),
      # Nothing of it is saved; orbax warns where it is not there.
      (jax.Array, ocp.type_handlers.ArrayHandler()),
    )
    handlers = ocp.handlers.create_default_handler_registry(
      state=ocp.PyTreeCheckpointHandler(type_handler_registry=types)
    )
    return ocp.CheckpointManager(
      self._folder, options=options, handler_registry=handlers
    )

  def _read(self, step: int, like: Any) -> tuple[Any, Mapping[str, Any]]:
    saved = self._restore(step, digest=ocp.args.JsonRestore())["digest"]
    # First of all: the arrays of another run may not fit, in any words.
    if "step" not in saved or "run" not in saved:
      raise ValueError("it does not say of which step and run it is")
    if saved["step"] != step:
      raise ValueError(f"it was saved as that of step {saved['step']}")
    if saved["run"] != self._run:
      raise ValueError("it was saved by another run")
    zeros = jax.tree.map(lambda x: np.zeros(np.shape(x), x.dtype), like)
    state = ocp.args.PyTreeRestore(_nested(zeros))
    read = self._restore(step, state=state)["state"]
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(read)]
    tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
    _compare(_digests(tree, saved["extra"]), saved["digests"])
    return tree, saved["extra"]

  def _restore(self, step: int, **items: Any) -> Any:
    with warnings.catch_warnings():
      # Numpy is restored as numpy: no sharding is needed.
      warnings.simplefilter("ignore")
      return self._manager.restore(step, args=ocp.args.Composite(**items))

  def _set_aside(self, steps: list[int]) -> None:
    if not steps or jax.process_index() != 0:
      return
    self._manager.close()
    aside = self._folder.parent / _DAMAGED
    aside.mkdir(exist_ok=True)
    for step in steps:
      target = aside / str(step)
      number = 0
      while target.exists():
        number += 1
        target = aside / f"{step}.{number}"
      (self._folder / str(step)).rename(target)
    self._manager = self._open()


class _PatientReader(ocp.type_handlers.NumpyHandler):
  """Reads arrays, and fails only when no other read is under way.

  Orbax closes the event loop as soon as one read fails; those that end later
  find it closed, and each writes a traceback of its own.
  """

  async def deserialize(
    self,
    infos: Sequence[ocp.type_handlers.ParamInfo],
    args: Sequence[ocp.RestoreArgs] | None = None,
  ) -> Sequence[np.ndarray]:
    args = args or [ocp.RestoreArgs()] * len(infos)
    one = super().deserialize
    reads = [one([info], [arg]) for info, arg in zip(infos, args, strict=True)]
    found: list[Any] = await asyncio.gather(*reads, return_exceptions=True)
    for outcome in found:
      if isinstance(outcome, BaseException):
        raise outcome
    return [array for (array,) in found]


def _nested(tree: Any) -> dict[str, Any]:
  """Returns the leaves in a flat dict, in order, that orbax saves as it is."""
  return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _digests(tree: Any, extra: Mapping[str, Any]) -> dict[str, str]:
  return {**digests.of_leaves(tree), "extra": digests.of_json(extra)}


def _compare(found: Mapping[str, str], saved: Mapping[str, str]) -> None:
  wrong = sorted(
    p for p in found.keys() | saved.keys() if found.get(p) != saved.get(p)
  )
  if wrong:
    raise ValueError(
      f"{len(wrong)} of {len(found)} items differ from their digests, the"
      f" first is {wrong[0]}"
    )


def _in_one_line(error: Exception) -> str:
  """Returns what an error of any reader says first."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]} ..."


def _say(message: str) -> None:
  logging.getLogger(__name__).warning(message)
