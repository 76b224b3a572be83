"""Single training iterations of the gyro dropout paper's networks, timed.

Its figure 7: conventional, gyro and block-wise dropout; whole iterations
(masks, forward, backward, RMSProp), and forward and backward apart. Backward
is the time of both less that of forward, round by round. The three differ in
their dropout alone; conventional is `flax.linen.Dropout`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

import kdropout_jax as kd
from experiments import models
from experiments.bench import harness
from experiments.bench import timing
from experiments.run import presets

BASELINE = "conventional"
METHODS = (BASELINE, "gyro", "blockwise")
PHASES = ("iteration", "forward", "backward")

_RUN_STEPS = 19_500  # 100 epochs of 50,000 images


@dataclasses.dataclass(frozen=True)
class Network:
  """A network of figure 7 and the batch that trains it.

  Attributes:
    name: for the table.
    part: what the figure shows it as: mlp, packet_mlp, cnn or fc.
    model: of `experiments.models`.
    inputs: shape of an example.
    total: subnets of the run (Sigma, table 3).
    concurrent: subnets of a window (tau, table 3).
    num_classes: outputs.
    batch_size: rows of a batch.
    rows_per_subnet: rows of a block of block-wise dropout.
    block_size: units of such a block.
    hidden: units of a hidden dense layer.
    channels: of the convolutions; None: the model's own.
    rate: probability of dropping.
    dtype: of the computation.
  """

  name: str
  part: str
  model: str
  inputs: tuple[int, ...]
  total: int
  concurrent: int
  num_classes: int = 10
  batch_size: int = 256
  rows_per_subnet: int = presets.BLOCK_ROWS
  block_size: int = presets.BLOCK_SIZE
  hidden: int = 1024
  channels: tuple[int, ...] | None = None
  rate: float = 0.5
  dtype: str = "float32"


_IMAGE = (32, 32, 3)
_CROP = (24, 24, 3)

# The dense layers of a convolutional network are those of MLP1 on its last
# feature maps: 12 x 12 x 256 of LeNet, 6 x 6 x 384 of AlexNet.
NETWORKS = {
  net.name: net
  for net in (
    Network("mlp1", "mlp", "mlp1", _IMAGE, 1024, 8),
    Network("mlp2", "mlp", "mlp2", _IMAGE, 256, 16),
    # The features of NSL-KDD; its labels are normal and attack.
    Network("mlp3", "packet_mlp", "mlp3", (122,), 1024, 8, num_classes=2),
    Network("lenet", "cnn", "lenet", _CROP, 256, 16),
    Network("lenet_fc", "fc", "mlp1", (36_864,), 256, 16),
    Network("alexnet", "cnn", "alexnet", _CROP, 256, 16),
    Network("alexnet_fc", "fc", "mlp1", (13_824,), 256, 16),
  )
}

LossFn = Callable[..., Array]
"""From parameters, inputs, labels and the step to a loss."""


def shrunk(net: Network) -> Network:
  """Returns the same kind of network at a size that proves that it runs."""
  inputs = {"cnn": (8, 8, 3), "fc": (64,)}.get(net.part, (32,))
  channels = {"lenet": (4, 8), "alexnet": (4, 8, 8)}.get(net.model)
  return dataclasses.replace(
    net,
    inputs=inputs,
    channels=channels,
    hidden=64,
    batch_size=32,
    rows_per_subnet=16,
  )


class _FlaxSite(nn.Module):
  """Flax's own dropout where our models want a dropout site."""

  rate: float

  @nn.compact
  def __call__(self, x, *, deterministic, **_):
    return nn.Dropout(self.rate, deterministic=deterministic)(x)


def measure(
  net: Network,
  rounds: int,
  max_steps: int,
  flops_per_call: float,
  on_round: Callable[[int], Any] | None = None,
) -> list[dict[str, Any]]:
  """Times all methods and phases in turn.

  Args:
    net: the network.
    rounds: timed rounds.
    max_steps: steps of one call, at most.
    flops_per_call: dense operations that a call should hold.
    on_round: called with the number of rounds done.

  Returns:
    One row a method, phase and round (its "seed"), with the milliseconds of
    a step and, in per cent, how much more throughput than conventional
    dropout has in that round.
  """
  num_steps = max(1, min(max_steps, int(flops_per_call / flops(net))))
  programs = {
    (method, phase): program(net, method, phase, num_steps)
    for method in METHODS
    for phase in ("iteration", "forward", "both")
  }
  timed = timing.interleave(programs, rounds, on_round)
  seconds = {key: t.seconds / num_steps for key, t in timed.items()}
  for method in METHODS:
    both = seconds.pop((method, "both"))
    seconds[method, "backward"] = both - seconds[method, "forward"]
  return [
    {
      "model": net.name,
      "part": net.part,
      "method": method,
      "phase": phase,
      "seed": number,
      "batch_size": net.batch_size,
      "ms": 1e3 * each,
      "speedup_percent": 100 * (whole / each - 1) if each > 0 else None,
    }
    for (method, phase), values in seconds.items()
    for number, (each, whole) in enumerate(
      zip(values.tolist(), seconds[BASELINE, phase].tolist())
    )
  ]


def claim_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns the rows that the paper's claims are about.

  Whole iterations of every network; forward and backward apart of the MLPs,
  as in section 5.4, and of block-wise dropout alone.
  """
  found = []
  for row in rows:
    whole = row["phase"] == "iteration"
    if row["method"] == BASELINE or row["speedup_percent"] is None:
      continue
    is_mlp = row["part"] in ("mlp", "packet_mlp")
    if whole or (row["method"] == "blockwise" and is_mlp):
      found.append(row | {"part": row["part"] if whole else row["phase"]})
  return found


def flops(net: Network) -> float:
  """Returns the operations of forward and backward, nothing skipped."""
  loss_fn, params, x, labels = _task(net, BASELINE)
  both = jax.jit(_gradients(net, loss_fn))
  return both.lower(params, x, labels, 0).cost_analysis()["flops"]  # pyright: ignore[reportArgumentType, reportCallIssue, reportIndexIssue, reportOptionalSubscript]


def program(
  net: Network, method: str, phase: str, num_steps: int
) -> timing.Program:
  """Returns a compiled scan: "iteration", "forward", or "both" ways."""
  loss_fn, params, x, labels = _task(net, method)
  gradients = _gradients(net, loss_fn)
  optimizer = optax.rmsprop(
    7e-3, decay=0.9, eps=1.0, initial_scale=1.0, momentum=0.9
  )

  def forward(step, operands):
    return operands, loss_fn(*operands, step)

  def both(step, operands):
    params, x, labels = operands
    return operands, gradients(params, x, labels, step)

  def iteration(step, operands):
    params, opt_state, x, labels = operands
    loss, (grads, dx) = gradients(params, x, labels, step)
    trained = harness.update(optimizer, (params, opt_state), grads)
    return (*trained, x, labels), (loss, dx)

  if phase == "iteration":
    operands = (params, optimizer.init(params), x, labels)
    return timing.repeated(iteration, operands, num_steps)
  fn = {"forward": forward, "both": both}[phase]
  return timing.repeated(fn, (params, x, labels), num_steps)


def build(net: Network, method: str) -> nn.Module:
  """Returns the network with a method's dropout."""
  blocks = functools.partial(kd.Blocks, block_size=net.block_size)
  sites = {
    BASELINE: functools.partial(_FlaxSite, net.rate),
    "gyro": functools.partial(kd.linen.Dropout, net.rate, pattern=kd.Bernoulli),
    "blockwise": functools.partial(kd.linen.Dropout, net.rate, pattern=blocks),
  }
  options = models.Options(
    num_classes=net.num_classes,
    dropout=sites[method],
    hidden=net.hidden,
    channels=net.channels,
    dtype=jnp.dtype(net.dtype),
  )
  return models.build(net.model, options)


def arguments(net: Network, method: str, step: Any) -> dict[str, Any]:
  """Returns what a method gives the model at a step: ids and keys."""
  run_key = jax.random.key(3)
  if method == BASELINE:
    dropout = jax.random.fold_in(run_key, step)
    return {"train": True, "rngs": {"dropout": dropout}}
  schedule = kd.Gyro(
    total=net.total,
    concurrent=net.concurrent,
    num_steps=_RUN_STEPS,
    rows_per_subnet=net.rows_per_subnet if method == "blockwise" else None,
  )
  ids = kd.subnet_ids(step, run_key, schedule, net.batch_size)
  return {"train": True, "subnets": ids, "rngs": {"subnets": run_key}}


def _gradients(net: Network, loss_fn: LossFn):
  """Returns the loss, its gradient, and that of the inputs where it is needed.

  Convolutions below dense layers need it; a first layer's inputs do not.
  """

  def with_inputs(params, x, labels, step):
    return jax.value_and_grad(loss_fn, argnums=(0, 1))(params, x, labels, step)

  def without(params, x, labels, step):
    loss, grads = jax.value_and_grad(loss_fn)(params, x, labels, step)
    return loss, (grads, ())

  return with_inputs if net.part == "fc" else without


def _task(net: Network, method: str) -> tuple[LossFn, Any, Array, Array]:
  """Returns a method's loss, and parameters, inputs and labels for it."""
  model = build(net, method)

  def loss_fn(params, x, labels, step):
    own = arguments(net, method, step)
    logits: Any = model.apply({"params": params}, x, **own)
    return harness.cross_entropy(logits, labels)

  # Programs are given their operands to keep: each gets copies.
  return loss_fn, *jax.tree.map(jnp.array, _operands(net))


@functools.lru_cache(maxsize=1)
def _operands(net: Network) -> tuple[Any, Any, Any]:
  """Returns parameters, inputs and labels, the same for every method."""
  model = build(net, BASELINE)
  x_key, label_key, init_key = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(x_key, (net.batch_size, *net.inputs), net.dtype)
  labels = jax.random.randint(label_key, (net.batch_size,), 0, net.num_classes)
  init = jax.jit(functools.partial(model.init, train=False))
  params = init(init_key, x[:2])["params"]
  return jax.tree.map(np.asarray, (params, x, labels))
