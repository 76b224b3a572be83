"""The two kinds of key stream, and the order of the examples.

*Run-long* streams are the same at every step: the subnets' masks come from
one, so that a subnet that trains again has the masks it had before. *Per-step*
streams have the step folded in: conventional dropout, augmentation. Folding
the step into the subnets' stream would destroy reuse without any sign of it in
the statistics of a layer; therefore both are made here and nowhere else.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from kdropout_jax import _keys
from kdropout_jax._types import Key
from kdropout_jax._types import Step

__all__ = (
  "SUBNETS",
  "Shuffle",
  "check_shuffle",
  "epoch_order",
  "run_key",
  "step_key",
  "step_rngs",
)

SUBNETS = _keys.SUBNETS
"""Name of the run-long stream that masks come from."""

Shuffle = Literal["every_epoch", "rows", "once"]
"""What an epoch reshuffles: all, the rows within each batch, or nothing."""


def run_key(key: Key, name: str) -> Key:
  """Returns the run-long key of the stream `name`.

  Args:
    key: the key of the run.
    name: of the stream.

  >>> import jax
  >>> run_key(jax.random.key(0), "init").shape
  ()
  """
  return _keys.named(_keys.as_threefry(key), f"training.{name}")


def step_key(key: Key, name: str, step: Step) -> Key:
  """Returns the key that the stream `name` has at `step` alone.

  Args:
    key: the key of the run.
    name: of the stream.
    step: number of the step, from 0.

  >>> key = jax.random.key(0)
  >>> bool(step_key(key, "augment", 0) == step_key(key, "augment", 1))
  False
  """
  return jax.random.fold_in(run_key(key, name), step)


def step_rngs(
  key: Key, step: Step, device: int | Int[Array, ""] = 0
) -> dict[str, Key]:
  """Returns the streams that a model gets at `step`.

  Args:
    key: the key of the run.
    step: number of the step, from 0.
    device: number of the device. It is folded into "dropout", whose readers
      draw for the device's own rows; "subnets" is the same everywhere.

  Returns:
    {"subnets": the run-long key, "dropout": the step's key}.

  >>> import jax
  >>> a, b = (step_rngs(jax.random.key(0), step) for step in (0, 1))
  >>> bool(a["subnets"] == b["subnets"]), bool(a["dropout"] == b["dropout"])
  (True, False)
  """
  dropout = jax.random.fold_in(step_key(key, "dropout", step), device)
  return {SUBNETS: run_key(key, SUBNETS), "dropout": dropout}


def epoch_order(
  key: Key,
  epoch: Step,
  num_examples: int,
  batch_size: int,
  shuffle: Shuffle = "every_epoch",
) -> Int[Array, "steps B"]:
  """Returns which example each row of each batch of an epoch holds.

  The examples that do not fill a batch are left out, other ones each epoch
  unless the batches are frozen.

  Args:
    key: the key of the run.
    epoch: number of the epoch, from 0; may be traced.
    num_examples: examples in the training set.
    batch_size: rows B of a batch.
    shuffle: "every_epoch" draws a new order each epoch; "once" keeps epoch
      0's, batches and rows (the k-dropout authors' code); "rows" keeps its
      batches and permutes the rows within each.

  Returns:
    int32 [num_examples // B, B].

  >>> order = epoch_order(jax.random.key(0), 0, num_examples=7, batch_size=3)
  >>> order.shape, len(set(order.reshape(-1).tolist()))
  ((2, 3), 6)
  """
  check_shuffle(shuffle)
  num_batches = num_examples // batch_size
  order_key = run_key(key, "order")
  shuffled = epoch if shuffle == "every_epoch" else 0
  order = jax.random.permutation(
    jax.random.fold_in(order_key, shuffled), num_examples
  )
  order = order[: num_batches * batch_size].astype(jnp.int32)
  order = order.reshape(num_batches, batch_size)
  if shuffle == "rows":
    rows_key = jax.random.fold_in(run_key(key, "rows"), epoch)
    order = jax.random.permutation(rows_key, order, axis=1, independent=True)
  return order


def check_shuffle(shuffle: str) -> None:
  """Raises a ValueError unless `shuffle` is a known order.

  Args:
    shuffle: as for `epoch_order`.

  >>> check_shuffle("once")
  """
  if shuffle not in get_args(Shuffle):
    raise ValueError(
      f"shuffle must be one of {get_args(Shuffle)}, got {shuffle!r}"
    )
