"""Two tasks in one network: one subnet a task, or all units for both.

Digits 0 to 4 are task A, 5 to 9 task B, and both are told among five classes
by the same outputs, so that an image alone says what is right. Each task
trains its own fixed subnet through the per-example `assignment`, or, as a
control, every unit ("shared") or a fresh subnet each row ("standard").
Written on the functional core alone.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import kdropout_jax as kd
from experiments import data as data_lib
from experiments.models import inits
from experiments.report import rows as rows_lib

NUM_CLASSES = 5
RATE = 0.5
DEPTH = 2

METHODS = ("shared", "standard", "task_subnets", "disjoint_subnets")
"""The last has two subnets without a common unit, the one before any two."""

TASK_METHODS = METHODS[2:]


@dataclasses.dataclass(frozen=True)
class Sizes:
  """A scale's values.

  Attributes:
    hidden: units of each of the two hidden layers.
    num_steps: of the joint run, and of both tasks in turn together.
    batch_size: rows of a batch.
    learning_rate: Adam's.
    seeds: seeds of a method.
  """

  hidden: int
  num_steps: int
  batch_size: int
  learning_rate: float
  seeds: int


SIZES = {
  "cpu": Sizes(256, 1200, 64, 1e-3, 10),
  "smoke": Sizes(32, 120, 32, 3e-3, 2),
}


@dataclasses.dataclass(frozen=True)
class Tasks:
  """Examples of both tasks.

  Attributes:
    x: float32 [N, I].
    y: int32 [N], the class within its task.
    task: int32 [N], 0 or 1.
  """

  x: Float[Array, "N I"]
  y: Int[Array, "N"]
  task: Int[Array, "N"]


jax.tree_util.register_dataclass(Tasks, ["x", "y", "task"], [])


def load() -> tuple[Tasks, Tasks]:
  """Returns the training and the test examples of the embedded digits."""
  digits = data_lib.load("digits")
  pixels = data_lib.fit_pixels(digits.train_x, "signed", digits.info.pixel_max)

  def tasks(x, labels):
    rows = jnp.asarray(pixels(jnp.asarray(x))).reshape(len(labels), -1)
    labels = jnp.asarray(labels, jnp.int32)
    return Tasks(rows, labels % NUM_CLASSES, labels // NUM_CLASSES)

  return (
    tasks(digits.train_x, digits.train_labels),
    tasks(digits.test_x, digits.test_labels),
  )


def init(key: Array, num_inputs: int, hidden: int) -> dict[str, Any]:
  """Returns the parameters of a network, by PyTorch's initialisation."""
  widths = [num_inputs, *[hidden] * DEPTH, NUM_CLASSES]
  params = {}
  for i, (fan_in, fan_out) in enumerate(zip(widths, widths[1:])):
    own = inits.layer_inits("torch_linear", fan_in)
    w_key, b_key = jax.random.split(jax.random.fold_in(key, i))
    params[f"layer_{i}"] = {
      "kernel": own["kernel_init"](w_key, (fan_in, fan_out)),
      "bias": own["bias_init"](b_key, (fan_out,)),
    }
  return params


def logits(
  params: Any, x: Float[Array, "B I"], masks: Any = None, slots: Any = None
) -> Float[Array, "B C"]:
  """Returns the logits of a network, or of the subnets that `slots` name.

  Args:
    params: of `init`.
    x: [B, I].
    masks: of each hidden layer; None: all units.
    slots: int32 [B], which of the T masks a row has; None: T = B, its own.
  """
  for i in range(DEPTH):
    x = jax.nn.relu(_affine(params, i, x))
    if masks is not None:
      x = kd.dropout(x, masks[i], rate=RATE, assignment=slots)
  return _affine(params, DEPTH, x)


def masks_at(
  method: str, key: Array, step: Any, sizes: Sizes
) -> list[kd.Masks] | None:
  """Returns the masks of each hidden layer at a step, None without dropout.

  Those of tasks are masks [2, W], the same at every step: ``kd.Sequential``
  with k = all steps and m = the number of tasks.
  """
  if method == "shared":
    return None
  schedule, pattern = kd.Standard(), kd.Bernoulli(RATE)
  if method in TASK_METHODS:
    schedule = kd.Sequential(k=sizes.num_steps, m=2)
    pattern = kd.ExactCount(RATE)
  ids = kd.subnet_ids(step, key, schedule, sizes.batch_size)
  layers = [
    kd.subnet_masks(jax.random.fold_in(key, i), ids, sizes.hidden, pattern)
    for i in range(DEPTH)
  ]
  if method != "disjoint_subnets":
    return layers
  return [_with_complement(masks) for masks in layers]


@functools.partial(jax.jit, static_argnames=("method", "sizes"))
def train(
  key: Array,
  params: Any,
  data: Tasks,
  rows: Int[Array, "N"],
  num_rows: Int[Array, ""],
  start: Int[Array, ""],
  stop: Int[Array, ""],
  *,
  method: str,
  sizes: Sizes,
) -> Any:
  """Returns the parameters after steps `start` to `stop`, with a fresh Adam.

  Args:
    key: of the run.
    params: to start from.
    data: training examples.
    rows: numbers of the examples to train on, the first `num_rows` of them.
    num_rows: traced, so that one program serves both tasks.
    start: the first step.
    stop: the step after the last.
    method: of `METHODS`.
    sizes: the scale's.
  """
  batch_key, run_key = jax.random.split(key)
  optimizer = optax.adam(sizes.learning_rate)

  def loss_fn(params, step, batch):
    masks = masks_at(method, run_key, step, sizes)
    slots = batch.task if method in TASK_METHODS else None
    found = logits(params, batch.x, masks, slots)
    losses = optax.softmax_cross_entropy_with_integer_labels(found, batch.y)
    return losses.mean()

  def one_step(step, carry):
    params, opt_state = carry
    own = jax.random.fold_in(batch_key, step)
    picks = jax.random.randint(own, (sizes.batch_size,), 0, num_rows)
    batch = jax.tree.map(lambda leaf: leaf[rows[picks]], data)
    grads = jax.grad(loss_fn)(params, step, batch)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  carry = (params, optimizer.init(params))
  return jax.lax.fori_loop(start, stop, one_step, carry)[0]


@functools.partial(jax.jit, static_argnames=("method", "sizes"))
def accuracies(
  key: Array, params: Any, data: Tasks, *, method: str, sizes: Sizes
) -> dict[str, Float[Array, ""]]:
  """Returns the accuracy on each task: {"a", "b"}, and of all units as well.

  A task's own subnet answers where there is one, otherwise the whole network.
  """
  _, run_key = jax.random.split(key)
  whole = logits(params, data.x)
  own = whole
  if method in TASK_METHODS:
    masks = masks_at(method, run_key, 0, sizes)
    own = logits(params, data.x, masks, data.task)
  found = {}
  for suffix, scores in (("", own), ("_whole", whole)):
    hits = (jnp.argmax(scores, axis=1) == data.y).astype(jnp.float32)
    for number, name in enumerate("ab"):
      is_task = (data.task == number).astype(jnp.float32)
      found[name + suffix] = jnp.sum(hits * is_task) / jnp.sum(is_task)
  return found


def run(method: str, sizes: Sizes, seeds: int) -> list[rows_lib.Row]:
  """Trains a method jointly and in turn; returns a row a seed, in points."""
  train_data, test_data = load()
  keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
  num_inputs = train_data.x.shape[1]

  @jax.jit
  @jax.vmap
  def start_of(key):
    return init(jax.random.fold_in(key, 1), num_inputs, sizes.hidden)

  start = start_of(keys)
  options: dict[str, Any] = {"method": method, "sizes": sizes}
  learn = jax.vmap(functools.partial(train, **options), (0, 0, *[None] * 5))
  score = jax.vmap(functools.partial(accuracies, **options), (0, 0, None))
  everything, of_a, of_b = (_rows(train_data, task) for task in (None, 0, 1))
  half, whole = sizes.num_steps // 2, sizes.num_steps
  joint = learn(keys, start, train_data, *everything, 0, whole)
  after_a = learn(keys, start, train_data, *of_a, 0, half)
  after_b = learn(keys, after_a, train_data, *of_b, half, whole)
  found = {
    name: score(keys, params, test_data)
    for name, params in (
      ("joint", joint),
      ("after_a", after_a),
      ("after_b", after_b),
    )
  }
  points = jax.tree.map(lambda x: 100 * np.asarray(x, np.float64), found)
  return [
    {
      "method": method,
      "kind": "task" if method in TASK_METHODS else "control",
      "seed": seed,
      "joint": float((points["joint"]["a"] + points["joint"]["b"])[seed]) / 2,
      "forgetting": float(
        (points["after_a"]["a"] - points["after_b"]["a"])[seed]
      ),
      **{
        f"{name}_{task}": float(values[seed])
        for name, scores in points.items()
        for task, values in scores.items()
      },
    }
    for seed in range(seeds)
  ]


def _rows(data: Tasks, task: int | None) -> tuple[Array, Array]:
  """Returns the examples of a task first, and how many they are."""
  numbers = np.asarray(data.task)
  chosen = np.ones(len(numbers), bool) if task is None else numbers == task
  order = np.argsort(~chosen, kind="stable").astype(np.int32)
  return jnp.asarray(order), jnp.int32(chosen.sum())


def _with_complement(masks: kd.Masks) -> kd.Masks:
  """Returns the first mask and what it drops, as two."""
  first = masks.keep[0]
  keep = jnp.stack([first, ~first])
  # Half of the units each, exactly, where their number is even.
  assert masks.num_kept is not None and 2 * masks.num_kept == masks.width
  return dataclasses.replace(masks, keep=keep)


def _affine(params, number: int, x):
  layer = params[f"layer_{number}"]
  return x @ layer["kernel"] + layer["bias"][None]
