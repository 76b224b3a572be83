"""Timed programs of whole training steps, method by method.

A candidate is a function from a `Network` to a `timing.Program`; to add one,
add it to `CANDIDATES`. The baseline is what users run today:
`flax.linen.Dropout`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import kdropout_jax as kd
from experiments import models
from experiments.bench import apart
from experiments.bench import harness
from experiments.bench import timing
from kdropout_jax.ops import dispatch
from kdropout_jax.subnets import sites

BASELINE = "conventional"
OPTIMIZER = optax.adam(5e-4)
_PARTITION = functools.partial(kd.ExactCount, partition=True)
_MAX_AHEAD = 16  # subnets of a step whose masks are sampled before a scan


@dataclasses.dataclass(frozen=True)
class Network:
  """A multi-layer perceptron of the papers, and the batch that trains it.

  Attributes:
    name: for the table.
    hidden: units of a hidden layer.
    num_hidden: hidden layers.
    use_bias: whether there are biases.
    inputs: features of an example.
    batch_size: rows of a batch.
    rate: probability of dropping.
    dtype: of the computation.
  """

  name: str
  hidden: int
  num_hidden: int
  use_bias: bool
  inputs: int = 3072
  batch_size: int = 512
  rate: float = 0.5
  dtype: str = "float32"


# Figure 7 of the gyro dropout paper; MLP3 reads packets: NSL-KDD's features.
NETWORKS = {
  "mlp1": Network("mlp1", 1024, 2, use_bias=False),
  "mlp2": Network("mlp2", 1024, 3, use_bias=False),
  "mlp3": Network("mlp3", 1024, 3, use_bias=False, inputs=122),
  "kdropout": Network("kdropout", 2048, 2, use_bias=True),
}


class _FlaxMlp(nn.Module):
  """The baseline: Dense, ReLU and Flax's own Dropout."""

  network: Network

  @nn.compact
  def __call__(self, x, *, train):
    net = self.network
    layer = functools.partial(
      nn.Dense, use_bias=net.use_bias, dtype=jnp.dtype(net.dtype)
    )
    for _ in range(net.num_hidden):
      x = nn.relu(layer(net.hidden)(x))
      x = nn.Dropout(net.rate, deterministic=not train)(x)
    return layer(10)(x)


def conventional(net: Network, num_steps: int) -> timing.Program:
  """Fresh Bernoulli units for every row at every step, by Flax."""
  model, key = _FlaxMlp(net), jax.random.key(3)

  def loss_fn(params, step, x, labels):
    rngs = {"dropout": jax.random.fold_in(key, step)}
    logits: Any = model.apply({"params": params}, x, train=True, rngs=rngs)
    return harness.cross_entropy(logits, labels)

  return _scan_program(net, model, loss_fn, num_steps, ideal=1.0)


def masked(
  net: Network,
  num_steps: int,
  *,
  pattern: Callable[..., Any],
  make_schedule: Callable[[Network], Any],
  implementation: str = "auto",
) -> timing.Program:
  """A schedule's subnets, masked in the full-size step."""
  schedule = make_schedule(net)
  model = _model(net, pattern, implementation)
  key = jax.random.key(3)
  params, *batch = _operands(net, model)

  def loss_fn(params, step, x, labels, masks=None):
    ids = kd.subnet_ids(step, key, schedule, net.batch_size)
    with sites.feeding(masks or {}):
      return _loss(model, key, params, x, labels, ids)

  return harness.scanned(
    jax.grad(loss_fn),
    OPTIMIZER,
    params,
    tuple(batch),
    num_steps,
    ideal_ratio(net, pattern(net.rate).num_kept(net.hidden)),
    _sampler(net, model, schedule, (params, *batch)),
  )


def _sampler(net: Network, model, schedule, operands):
  """Returns what samples a step's masks ahead, as the training loop does.

  None on a CPU, where masks are cheap within the step, and where a step has
  so many that a chunk of steps' would not fit its budget.
  """
  if dispatch.current_target() is None:
    return None
  if schedule.num_concurrent(net.batch_size) > _MAX_AHEAD:
    return None
  key = jax.random.key(3)
  loss_fn = functools.partial(_loss, model, key)

  def sample(step):
    ids = kd.subnet_ids(step, key, schedule, net.batch_size)
    return kd.subnets.sample_masks(loss_fn, *operands, ids)

  return sample


def small(
  net: Network,
  num_steps: int,
  *,
  make_schedule: Callable[[Network], Any],
  pattern: Callable[..., Any] = kd.ExactCount,
) -> timing.Program:
  """A schedule's subnets as small networks, in the full-size step."""
  model, key = _model(net, pattern), jax.random.key(3)
  schedule = make_schedule(net)
  params, x, labels = _operands(net, model)
  loss_fn = functools.partial(_loss, model, key)
  ids = kd.subnet_ids(0, key, schedule, net.batch_size)
  layout = kd.subnets.layout(
    model, {"params": params}, x[:2], train=True, subnets=ids
  )

  def losses(params, x, labels):
    logits: Any = model.apply({"params": params}, x, train=True)
    return harness.row_losses(logits, labels)

  value_and_grad = kd.subnets.value_and_grad(losses, layout)

  def gradients(params, step, x, labels, masks=None):
    if masks is None:
      ids = kd.subnet_ids(step, key, schedule, net.batch_size)
      masks = kd.subnets.sample_masks(loss_fn, params, x, labels, ids)
    return value_and_grad(params, masks, x, labels)[1]

  return harness.scanned(
    gradients,
    OPTIMIZER,
    params,
    (x, labels),
    num_steps,
    ideal_ratio(net, pattern(net.rate).num_kept(net.hidden)),
    _sampler(net, model, schedule, (params, x, labels)),
  )


def windowed(
  net: Network,
  num_steps: int,
  *,
  window: Callable[..., Any],
  pattern: Callable[..., Any],
  size: int,
  k: int,
  rate: float | None = None,
) -> timing.Program:
  """Windows of k steps of a group of `size` subnets, as `apart` trains them."""
  del num_steps  # One call is one window.
  net = net if rate is None else dataclasses.replace(net, rate=rate)
  model = _model(net, pattern)
  params, *batch = _operands(net, model)
  layout = kd.subnets.layout(
    model, {"params": params}, batch[0][:2], train=True
  )
  run = window(model, layout, OPTIMIZER, tuple(batch), size, k)
  state = (jnp.int32(0), params, OPTIMIZER.init(params))
  ideal = ideal_ratio(net, pattern(net.rate).num_kept(net.hidden))
  return timing.Program(timing.donating(run, state), state, k, ideal)


def _sequential(m: int, implementation: str = "auto"):
  return functools.partial(
    masked,
    pattern=kd.ExactCount,
    make_schedule=lambda net: kd.Sequential(k=97, m=m),
    implementation=implementation,
  )


def _small(m: int):
  return functools.partial(
    small, make_schedule=lambda net: kd.Sequential(k=97, m=m)
  )


def _of(pattern, schedule):
  return functools.partial(
    masked, pattern=pattern, make_schedule=lambda net: schedule
  )


def _gyro(pattern, **rows):
  return _of(
    pattern, kd.Gyro(total=1024, concurrent=8, num_steps=29_100, **rows)
  )


def _balanced(size: int):
  return functools.partial(kd.ExactCount, balanced=size)


def _blocks(size: int):
  return functools.partial(kd.Blocks, block_size=size)


CANDIDATES: dict[str, Callable[[Network, int], timing.Program]] = {
  BASELINE: conventional,
  "gyro T=8": _gyro(kd.Bernoulli),
  "standard": _of(kd.Bernoulli, kd.Standard()),
  "pooled T=8": _of(kd.ExactCount, kd.Pooled(pool_size=50, m=8)),
  "block-wise gyro T=8": _gyro(_blocks(32)),
  "block-wise 128 gyro T=8": _gyro(_blocks(128)),
  "block-wise gyro 128 rows": _gyro(_blocks(32), rows_per_subnet=128),
  "sequential T=1 dense": _sequential(1, "dense"),
  "sequential T=1 compact": _sequential(1, "compact"),
  **{f"sequential T={m}": _sequential(m) for m in (1, 2, 4, 8, 16)},
  **{f"small T={m}": _small(m) for m in (1, 2, 4, 8, 16)},
  **{
    f"extracted T=1 k={k} {name}": functools.partial(
      windowed,
      window=functools.partial(apart.extracted, dropped_weights=name),
      pattern=kd.ExactCount,
      size=1,
      k=k,
    )
    for k, name in ((97, "caught_up"), (97, "frozen"), (970, "caught_up"))
  },
  "partition T=2": _of(_PARTITION, kd.Sequential(k=97, m=2)),
  **{
    f"balanced T={m}": _of(_balanced(m), kd.Sequential(k=97, m=m))
    for m in (4, 8, 16)
  },
  **{
    f"disjoint P={p} rate={1 - 1 / p:g} k=97 caught_up": functools.partial(
      windowed,
      window=apart.disjoint,
      pattern=_PARTITION,
      size=p,
      k=97,
      rate=1 - 1 / p,
    )
    for p in (2, 4, 8)
  },
  **{
    f"permuted T={m} k={k}": functools.partial(
      windowed, window=apart.permuted, pattern=_balanced(m), size=m, k=k
    )
    for m, k in ((2, 97), (4, 10), (4, 97), (8, 10), (8, 97), (16, 97))
  },
}
"""{name: function of a network and a number of steps}."""


def measure(
  net: Network,
  names: Sequence[str],
  num_steps: int,
  rounds: int,
  on_round: Callable[[int], Any] | None = None,
) -> list[dict[str, Any]]:
  """Times candidates in turn, the baseline among them; one row each."""
  names = [BASELINE, *(name for name in names if name != BASELINE)]
  programs = {name: CANDIDATES[name](net, num_steps) for name in names}
  timings = timing.interleave(programs, rounds, on_round)
  per_step = {
    name: timing.Timing(timings[name].seconds / program.num_steps)
    for name, program in programs.items()
  }
  return [
    {
      "part": "step",
      "network": net.name,
      "batch_size": net.batch_size,
      "width": net.hidden,
      "rate": net.rate,
      "dtype": net.dtype,
      "candidate": name,
      "ms": timed.median * 1e3,
      "ideal": programs[name].ideal,
      "over_conventional": timed.speedup_over(per_step[BASELINE]),
    }
    for name, timed in per_step.items()
  ]


def ideal_ratio(net: Network, num_kept: int | None) -> float | None:
  """Returns all multiplications of a step over those of kept units.

  The first layer has no dx. The optimizer and the masks are not counted.

  Args:
    net: the network.
    num_kept: units that every layer keeps, or blocks where it has blocks;
      None where the count varies.
  """
  if num_kept is None:
    return None
  share = 1 - net.rate
  first, last = net.inputs * net.hidden, net.hidden * 10
  middle = (net.num_hidden - 1) * net.hidden**2
  whole = 2 * first + 3 * middle + 3 * last
  left = 2 * first * share + 3 * middle * share**2 + 3 * last * share
  return whole / left


def _model(net: Network, pattern, implementation: str = "auto") -> nn.Module:
  site = functools.partial(kd.linen.Dropout, net.rate, pattern=pattern)
  options = models.Options(
    num_classes=10,
    dropout=site,
    hidden=net.hidden,
    num_hidden=net.num_hidden,
    dtype=jnp.dtype(net.dtype),
    implementation=implementation,
  )
  return models.build("mlp", options).clone(use_bias=net.use_bias)


def _loss(model, key, params, x, labels, ids):
  logits = model.apply(
    {"params": params}, x, train=True, subnets=ids, rngs={"subnets": key}
  )
  return harness.cross_entropy(logits, labels)


def _operands(net: Network, model: nn.Module):
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (net.batch_size, net.inputs))
  labels = jax.random.randint(keys[1], (net.batch_size,), 0, 10)
  params = model.init(keys[2], x[:2], train=False)["params"]
  return params, x, labels


def _scan_program(net, model, loss_fn, num_steps, ideal) -> timing.Program:
  params, *batch = _operands(net, model)
  return harness.scanned(
    jax.grad(loss_fn), OPTIMIZER, params, tuple(batch), num_steps, ideal
  )
