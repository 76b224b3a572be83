"""One member on one device: a training step, many of them, an evaluation.

`run_steps` is the function that a program runs between two looks of the host.
A variant that trains the same steps in another way (each window on a small
network, say) takes its place by having its signature.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from kdropout_jax import config
from kdropout_jax import functional
from kdropout_jax._types import Key
from kdropout_jax._types import Step
from kdropout_jax.masks import guided
from kdropout_jax.masks import schedules
from kdropout_jax.training import batches as batches_lib
from kdropout_jax.training import parallel
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib

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
  """

  inputs: Any
  labels: Int[Array, "N ..."]

  def take(self, rows: Int[Array, "B"]) -> "Data":
    """Returns the examples at `rows`."""
    return jax.tree.map(lambda x: x[rows], self)


@dataclasses.dataclass(frozen=True)
class Sums:
  """Sums over the steps of a dispatch.

  Attributes:
    loss: sum of the losses of the batches.
    accuracy: sum of their accuracies.
    first_bad: first step whose loss was not finite, or `NO_STEP`.
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


for _cls in (Data, Sums):
  jax.tree_util.register_dataclass(
    _cls, [f.name for f in dataclasses.fields(_cls)], []
  )


def init_state(
  task: Task, member: state_lib.Members, example: Any
) -> state_lib.TrainState:
  """Returns the state of `member` before step 0.

  Args:
    task: the task.
    member: a member, without its leading axis.
    example: stored inputs of one example or more, [B, ...].
  """
  init_key = rng.run_key(member.key, "init")
  # No dropout at initialisation: parameters must not depend on the method.
  variables = task.model.init(
    {"params": init_key}, task.preprocess(example), train=False
  )
  collections = {k: v for k, v in variables.items() if k != "params"}
  optimizer = task.make_optimizer(member.learning_rate)
  schedule: Any = member.schedule
  is_guided = isinstance(schedule, guided.Guided)
  return state_lib.TrainState(
    params=variables["params"],
    collections=collections,
    opt_state=optimizer.init(variables["params"]),
    schedule=guided.init(schedule) if is_guided else (),
  )


def train_step(
  task: Task,
  member: state_lib.Members,
  state: state_lib.TrainState,
  step: Step,
  batch: Data,
  shard: parallel.Shard,
) -> tuple[state_lib.TrainState, tuple[Float[Array, ""], Float[Array, ""]]]:
  """Trains on one batch.

  Args:
    task: the task.
    member: the member.
    state: its state before the step.
    step: number of the step, from 0.
    batch: the device's rows.
    shard: which rows they are.

  Returns:
    The new state, and the loss and accuracy of the global batch.
  """
  loss_fn = make_loss(task, member, state.collections, step, batch, shard)
  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (accuracy, updated)), grads = grad_fn(state.params)
  grads, loss, accuracy, updated = parallel.mean(
    (grads, loss, accuracy, updated)
  )
  state = apply_gradients(task, member, state, grads)
  return dataclasses.replace(state, collections=updated), (loss, accuracy)


def apply_gradients(
  task: Task, member: state_lib.Members, state: state_lib.TrainState, grads: Any
) -> state_lib.TrainState:
  """Returns the state with the optimizer's update of the parameters."""
  optimizer = task.make_optimizer(member.learning_rate)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return dataclasses.replace(state, params=params, opt_state=opt_state)


def make_loss(
  task: Task,
  member: state_lib.Members,
  collections: Any,
  step: Step,
  batch: Data,
  shard: parallel.Shard,
) -> Callable[[Any], tuple[Float[Array, ""], tuple[Float[Array, ""], Any]]]:
  """Returns the loss of a device's rows as a function of the parameters.

  It returns the loss, and beside it the accuracy and the model's other
  variables afterwards. Arguments as for `train_step`.
  """
  ids, slots = subnets(task, member, step, batch, shard)
  row_losses = make_row_losses(
    task, member, collections, step, batch, shard, ids, slots
  )

  def loss_fn(params):
    losses, hits, updated = row_losses(params)
    return jnp.mean(losses), (jnp.mean(hits), updated)

  return loss_fn


def make_row_losses(
  task: Task,
  member: state_lib.Members,
  collections: Any,
  step: Step,
  batch: Data,
  shard: parallel.Shard,
  ids: UInt[Array, "..."] | None,
  slots: Int[Array, "rows"] | None = None,
) -> Callable[[Any], tuple[Float[Array, "rows"], Float[Array, "rows"], Any]]:
  """Returns the losses and hits of a device's rows under chosen subnets.

  A function of the parameters, which returns the model's other variables
  afterwards as well. Arguments as for `train_step`, and what `subnets` returns.
  """
  rngs = rng.step_rngs(member.key, step, shard.device)
  inputs = batch.inputs
  if task.augment is not None:
    augment_key = rng.step_key(member.key, "augment", step)
    inputs = task.augment(inputs, jax.random.fold_in(augment_key, shard.device))
  inputs = task.preprocess(inputs)

  def row_losses(params):
    logits, updated = task.model.apply(
      {"params": params, **collections},
      inputs,
      train=True,
      subnets=ids,
      assignment=slots,
      rngs=rngs,
      mutable=list(collections),
    )
    losses, hits = task.score(logits, batch.labels, inputs)
    return losses, hits, updated

  return row_losses


def run_steps(
  task: Task,
  member: state_lib.Members,
  state: state_lib.TrainState,
  start: Int[Array, ""],
  count: Int[Array, ""],
  data: Data,
  shard: parallel.Shard,
  one_step: Callable[..., Any] = train_step,
) -> tuple[state_lib.TrainState, Sums]:
  """Trains steps `start` to ``start + count`` on data that is on the device.

  Both numbers are traced: one program serves every length, so that where a
  run is cut into dispatches changes neither its bits nor its compilation.
  `one_step` has the signature of `train_step`.
  """
  batches = batches_lib.Batches(task, member, start, data, shard)

  def body(step, carry):
    state, order, sums = carry
    batch, order = batches.read(step, order)
    state, (loss, accuracy) = one_step(task, member, state, step, batch, shard)
    return state, order, add_step(sums, step, loss, accuracy)

  state, _, sums = jax.lax.fori_loop(
    start, start + count, body, (state, batches.no_order(), Sums.zero())
  )
  return state, sums


def add_step(
  sums: Sums, step: Step, loss: Float[Array, ""], accuracy: Float[Array, ""]
) -> Sums:
  """Adds one step's loss and accuracy to `sums`."""
  bad = jnp.where(
    jnp.isfinite(loss), jnp.uint32(NO_STEP), jnp.asarray(step, jnp.uint32)
  )
  return Sums(
    loss=sums.loss + loss,
    accuracy=sums.accuracy + accuracy,
    first_bad=jnp.minimum(sums.first_bad, bad),
  )


def subnets(
  task: Task,
  member: state_lib.Members,
  step: Step,
  batch: Data,
  shard: parallel.Shard,
) -> tuple[UInt[Array, "..."] | None, Int[Array, "rows"] | None]:
  """Returns the ids that a device's rows train, and their slots.

  Per-layer schedules give ids [L, T], one row for each dropout site.
  """
  if member.schedule is None:
    return None, None
  if isinstance(member.schedule, guided.Guided):
    raise ValueError(
      "schedule has a state, which this step does not carry: train kd.Guided"
      " with kdropout_jax.training.guided.run_steps"
    )
  ids = global_ids(task, member.key, member.schedule, step)
  if task.assign is not None:
    return ids, task.assign(batch.inputs, batch.labels)
  return parallel.subnets_on_device(
    ids,
    shard,
    batch_size=task.batch_size,
    num_devices=task.num_devices,
    row_layout=task.row_layout,
    rescale=task.rescale,
  )


def global_ids(
  task: Task, key: Key, schedule: config.Schedule, step: Step
) -> UInt[Array, "..."]:
  """Returns the ids of the whole batch: [T], or [L, T] where layers draw."""
  key = rng.run_key(key, rng.SUBNETS)
  if not schedule.per_layer:
    return schedules.subnet_ids(step, key, schedule, task.batch_size)
  layers = jnp.arange(task.num_sites, dtype=jnp.uint32)
  return jax.vmap(
    lambda layer: schedules.subnet_ids(
      step, key, schedule, task.batch_size, layer
    )
  )(layers)
