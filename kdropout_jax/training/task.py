"""What is trained, on which examples, and which part of it a device has.

Types alone, below everything that computes with them: a task and its examples
are the same for all members and devices, a `Worker` is one of them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from kdropout_jax import functional
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib

__all__ = (
  "Data",
  "NO_STEP",
  "Shard",
  "Subnets",
  "Sums",
  "Task",
  "Worker",
  "losses_and_hits",
)

NO_STEP = 2**32 - 1
"""The `first_bad` of a run whose losses were all finite."""


def losses_and_hits(
  logits: Float[Array, "B ... C"],
  labels: Int[Array, "B ..."],
  inputs: Any = None,
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
  """Returns each row's cross entropy, and 1 where it is classified rightly.

  A row may have several labels (the start and the end of a span): the cross
  entropy is their mean, and all must be right.

  Args:
    logits: [B, ..., C], of any float dtype.
    labels: int [B, ...], of classes.
    inputs: not asked; a task's `score` gets them.

  >>> logits = jnp.array([[0.0, 9.0], [9.0, 0.0]])
  >>> losses_and_hits(logits, jnp.array([1, 1]))[1].tolist()
  [1.0, 0.0]
  """
  del inputs
  logits = logits.astype(jnp.float32)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  hits = jnp.argmax(logits, axis=-1) == labels
  others = tuple(range(1, labels.ndim))
  losses, hits = jnp.mean(losses, others), jnp.all(hits, others)
  return losses, hits.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Task:
  """What the members of a program have in common; static.

  Attributes:
    model: called as ``model.apply(variables, x, train=bool, subnets=ids or
      None, assignment=slots or None, rngs=..., mutable=...)``.
    make_optimizer: from a learning rate, which may be traced, to an optimizer.
    batch_size: rows B of the global batch.
    num_train: training examples, the first rows of the data.
    num_devices: devices D.
    shuffle: what an epoch reshuffles.
    row_layout: the model's, needed to split rows over devices.
    rescale: likewise.
    num_sites: dropout sites of the model, for per-layer schedules.
    preprocess: from stored inputs [B, ...] to the model's.
    augment: from a batch of stored inputs and a key to another batch.
    assign: from inputs and labels of a batch to int32 [B] of slots, for
      subnets that depend on the example.
    score: from logits, labels and the model's inputs to the losses and the
      hits of the rows, float32 [B] each.
    watched: whether the output of a call, (module, method's name), enters the
      penalty.
    penalty: from a list of these outputs to a number that is added to the loss
      of each row; None: no penalty.
  """

  model: nn.Module
  make_optimizer: Callable[[Any], optax.GradientTransformation]
  batch_size: int
  num_train: int
  num_devices: int = 1
  shuffle: rng.Shuffle = "every_epoch"
  row_layout: functional.RowLayout = "contiguous"
  rescale: functional.Rescale = "expected"
  num_sites: int = 1
  preprocess: Callable[[Any], Any] = lambda x: x
  augment: Callable[[Any, Key], Any] | None = None
  assign: Callable[[Any, Array], Int[Array, "B"]] | None = None
  score: Callable[[Any, Any, Any], tuple[Array, Array]] = losses_and_hits
  watched: Callable[[nn.Module, str], bool] = lambda *_: False
  penalty: Callable[[list[Any]], Array] | None = None

  @property
  def steps_per_epoch(self) -> int:
    """Full batches in the training set."""
    return self.num_train // self.batch_size


@dataclasses.dataclass(frozen=True)
class Data:
  """Examples on the device, of all splits: training ones first.

  Attributes:
    inputs: an array [N, ...], or a tree of them.
    labels: int32 [N], or [N, ...] where a row has several.

  >>> data = Data(jnp.arange(6.0).reshape(3, 2), jnp.arange(3))
  >>> data.take(np.array([2, 0])).labels.tolist()
  [2, 0]
  """

  inputs: Any
  labels: Int[Array, "N ..."]

  def take(self, rows: Int[Array | np.ndarray, "B"]) -> "Data":
    """Returns the examples at `rows`.

    Args:
      rows: numbers of examples.
    """
    return jax.tree.map(lambda x: x[rows], self)


@dataclasses.dataclass(frozen=True)
class Sums:
  """Sums over the steps of a dispatch.

  Attributes:
    loss: sum of the losses of the batches.
    accuracy: sum of their accuracies.
    first_bad: first step whose loss was not finite, or `NO_STEP`.

  >>> sums = Sums.zero().add(7, jnp.float32(jnp.nan), jnp.float32(1.0))
  >>> int(sums.first_bad), float(sums.accuracy)
  (7, 1.0)
  """

  loss: Float[Array, ""]
  accuracy: Float[Array, ""]
  first_bad: UInt[Array, ""]

  @classmethod
  def zero(cls) -> "Sums":
    """Returns the sums over no steps."""
    return cls(
      loss=jnp.zeros(()),
      accuracy=jnp.zeros(()),
      first_bad=jnp.uint32(NO_STEP),
    )

  def add(
    self, step: Step, loss: Float[Array, ""], accuracy: Float[Array, ""]
  ) -> "Sums":
    """Returns the sums with one step's loss and accuracy added.

    Args:
      step: number of the step.
      loss: its mean loss.
      accuracy: its mean accuracy.
    """
    bad = jnp.where(
      jnp.isfinite(loss), jnp.uint32(NO_STEP), jnp.asarray(step, jnp.uint32)
    )
    return Sums(
      loss=self.loss + loss,
      accuracy=self.accuracy + accuracy,
      first_bad=jnp.minimum(self.first_bad, bad),
    )


@dataclasses.dataclass(frozen=True)
class Shard:
  """The share of a batch that one device has.

  Attributes:
    device: int32 [], the device's number among all.
    rows: int32 [B / D], the numbers of its rows in the global batch.
  """

  device: Int[Array, ""]
  rows: Int[Array, "rows"]


@dataclasses.dataclass(frozen=True)
class Subnets:
  """The subnets that the rows of a device train.

  Attributes:
    ids: uint32 [T], or [L, T], one row for each dropout site, where layers
      draw their own; None: no dropout.
    slots: int32 [rows], which of the T each row trains; None: by the rule of
      the task's `row_layout`.
  """

  ids: UInt[Array, "..."] | None = None
  slots: Int[Array, "rows"] | None = None


for _cls in (Data, Sums, Shard, Subnets):
  jax.tree_util.register_dataclass(
    _cls, [f.name for f in dataclasses.fields(_cls)], []
  )


@dataclasses.dataclass(frozen=True)
class Worker:
  """One member on one device: what every step of theirs has in common.

  Attributes:
    task: what the members of the program have in common.
    member: the member, without its leading axis.
    shard: the device's share of each batch.
  """

  task: Task
  member: state_lib.Members
  shard: Shard
