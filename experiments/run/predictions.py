"""Which test images a run's networks classify rightly, kept as bits.

A verdict's bootstrap draws test images as well as seeds, so a cell keeps one
bit an image. The test set is read once, after the last step.
"""

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from experiments.run import runner
from kdropout_jax.training import loop
from kdropout_jax.training import step as step_lib

_FILE = "hits.npz"
_ROWS = 1000


def hook(run: runner.Run) -> loop.Hook:
  """Returns a hook that keeps the hits of all members at the end."""

  def keep(done: int, state: Any, window: Any) -> None:
    del done, window
    write(run.folder, of_members(run, state))

  return loop.Hook(keep, at_end=True)


def of_members(run: runner.Run, state: Any) -> Bool[np.ndarray, "S N"]:
  """Returns whether each member is right on each test image."""
  task = run.setup.task
  start, stop = run.setup.splits["test"]
  arrays = run.setup.arrays()
  data = jax.tree.map(lambda x: np.asarray(x[start:stop]), arrays)

  @jax.jit
  def hits(variables, batch):
    def one(own):
      logits: Any = task.model.apply(
        own, task.preprocess(batch.inputs), train=False
      )
      return step_lib.losses_and_hits(logits, batch.labels)[1]

    return jax.vmap(one)(variables) > 0

  variables = jax.tree.map(jnp.asarray, state.variables())
  parts = [
    np.asarray(hits(variables, data.take(slice(first, first + _ROWS))))
    for first in range(0, stop - start, _ROWS)
  ]
  return np.concatenate(parts, axis=1)


def write(folder: pathlib.Path, hits: Bool[np.ndarray, "S N"]) -> None:
  """Writes hits, whole or not at all."""
  temporary = folder / f".{_FILE}.{os.getpid()}"
  with temporary.open("wb") as file:
    packed = np.packbits(hits, axis=1)
    np.savez(file, packed=packed, num_images=hits.shape[1])
  temporary.replace(folder / _FILE)


def read(folder: pathlib.Path) -> Bool[np.ndarray, "S N"]:
  """Returns what `write` wrote."""
  with np.load(folder / _FILE) as saved:
    bits = np.unpackbits(
      saved["packed"], axis=1, count=int(saved["num_images"])
    )
  return bits.astype(bool)
