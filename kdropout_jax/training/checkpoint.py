"""Checkpoints that notice damage: orbax, and a digest of every leaf.

Orbax restores a flipped bit without a word. So a digest of each leaf is saved
as a second item and compared after restoring; a checkpoint that fails is set
aside, that is said, and the one before it is used.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kdropout_jax.training import digests
from kdropout_jax.training import state as state_lib

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


class Checkpoints:
  """The checkpoints of a run, in a folder of its own.

  Args:
    folder: made where it is missing.
    keep: how many of the newest stay; at least 2, so that a damaged one has
      one before it.

  Raises:
    ValueError: `keep` is less than 2.
  """

  def __init__(self, folder: str | os.PathLike[str], keep: int = 2):
    if keep < 2:
      raise ValueError(f"keep must be >= 2, got {keep}")
    self._folder = pathlib.Path(folder).absolute()
    self._keep = keep
    self._manager = self._open()

  def save(
    self, step: int, tree: Any, extra: Mapping[str, Any] | None = None
  ) -> bool:
    """Saves the state after `step` steps; all of it or nothing is there.

    A state with a value that is not finite is not saved: the last good
    checkpoint stays the newest.

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
      state=ocp.args.StandardSave(_nested(tree)),
      digest=ocp.args.JsonSave(
        {"digests": _digests(tree, extra), "extra": extra}
      ),
    )
    self._manager.save(step, args=items, force=True)
    self._manager.wait_until_finished()
    return True

  def restore(self, like: Any) -> Restored | None:
    """Returns the newest checkpoint that is whole, or None if there is none.

    Args:
      like: a tree of arrays or shapes with the structure that was saved.

    Raises:
      ValueError: there are checkpoints, and each of them is damaged.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    damaged: list[int] = []
    for step in steps:
      try:
        tree, extra = self._read(step, like)
      except Exception as error:  # Damage shows as any error of any reader.
        damaged.append(step)
        _say(f"checkpoint {step} in {self._folder} is damaged: {error}")
        continue
      self._set_aside(damaged)
      if damaged:
        _say(f"continuing from the checkpoint before it, of step {step}")
      return Restored(step, tree, extra, tuple(damaged))
    if damaged:
      raise ValueError(
        f"every checkpoint in {self._folder} is damaged (steps"
        f" {damaged}): remove the run's folder to start again"
      )
    return None

  def close(self) -> None:
    """Waits for what is being written."""
    self._manager.close()

  def _open(self) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._keep, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(self._folder, options=options)

  def _read(self, step: int, like: Any) -> tuple[Any, Mapping[str, Any]]:
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), like
    )
    with warnings.catch_warnings():
      # Numpy is restored as numpy: no sharding is needed.
      warnings.simplefilter("ignore")
      read = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(
            jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _nested(shapes))
          ),
          digest=ocp.args.JsonRestore(),
        ),
      )
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(read["state"])]
    tree = jax.tree.unflatten(jax.tree.structure(like), leaves)
    extra = read["digest"]["extra"]
    found, saved = _digests(tree, extra), read["digest"]["digests"]
    wrong = sorted(
      p for p in found.keys() | saved.keys() if found.get(p) != saved.get(p)
    )
    if wrong:
      raise ValueError(
        f"{len(wrong)} of {len(found)} items differ from their digests, the"
        f" first is {wrong[0]}"
      )
    return tree, extra

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


def _nested(tree: Any) -> dict[str, Any]:
  """Returns the leaves in a flat dict, in order, that orbax saves as it is."""
  return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _digests(tree: Any, extra: Mapping[str, Any]) -> dict[str, str]:
  text = json.dumps(extra, sort_keys=True)
  return {
    **digests.of_leaves(tree),
    "extra": hashlib.sha256(text.encode()).hexdigest(),
  }


def _say(message: str) -> None:
  logging.getLogger(__name__).warning(message)
