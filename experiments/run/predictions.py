"""What a run's networks say of each test example; the hits are kept as bits.

A verdict's bootstrap draws test images as well as seeds, so a cell keeps one
bit an image. The test set is read once, after the last step.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from experiments.run import runner
from experiments.run import snapshots
from kdropout_jax.training import files
from kdropout_jax.training import loop
from kdropout_jax.training import task as task_lib

_FILE = "hits.npz"
_ROWS = 1000


def hook(run: runner.Run) -> loop.Hook:
  """Returns a hook that keeps the hits of all members at the end."""

  def keep(done: int, state: Any, since_log: Any) -> None:
    del done, since_log
    write(run.folder, of_members(run, state))

  return loop.Hook(keep, at_end=True)


def of_members(run: runner.Run, state: Any) -> Bool[np.ndarray, "S N"]:
  """Returns whether each member is right on each test image."""

  def hits(logits, labels):
    return task_lib.losses_and_hits(logits, labels)[1] > 0

  return on_test(run, state, hits)


def on_test(
  run: runner.Run,
  state: Any,
  fn: Callable[[Any, Any], Any],
  rows: int = _ROWS,
) -> Shaped[np.ndarray, "S N ..."]:
  """Returns ``fn(logits, labels)`` of each member on each test example.

  Args:
    run: the run.
    state: its members.
    fn: of a few rows; called in a compiled function.
    rows: how many at a time.
  """
  task = run.setup.task
  start, stop = run.setup.splits["test"]
  arrays, count = run.setup.arrays(), stop - start
  data = jax.tree.map(lambda x: np.asarray(x[start:stop]), arrays)
  rows = min(rows, count)

  @jax.jit
  def found(variables, batch):
    def one(own):
      logits: Any = task.model.apply(
        own, task.preprocess(batch.inputs), train=False
      )
      return fn(logits, batch.labels)

    return jax.vmap(one)(variables)

  variables = jax.tree.map(jnp.asarray, state.variables())
  parts = [
    # The last row again and again, so that all parts have one shape.
    np.asarray(found(variables, data.take(np.minimum(part, count - 1))))
    for part in np.arange(-(-count // rows) * rows).reshape(-1, rows)
  ]
  return np.concatenate(parts, axis=1)[:, :count]


def write(folder: pathlib.Path, hits: Bool[np.ndarray, "S N"]) -> None:
  """Writes hits, whole or not at all."""
  with files.opened_atomically(folder / _FILE, "wb") as file:
    packed = np.packbits(hits, axis=1)
    np.savez(file, packed=packed, num_images=hits.shape[1])


def read(folder: pathlib.Path) -> Bool[np.ndarray, "S N"]:
  """Returns what `write` wrote."""
  with snapshots.loaded(folder / _FILE) as saved:
    bits = np.unpackbits(
      saved["packed"], axis=1, count=int(saved["num_images"])
    )
  return bits.astype(bool)
