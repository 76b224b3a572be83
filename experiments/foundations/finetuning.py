"""From pretrained layers to a classifier that drops units.

Srivastava et al. 2014, by the notes (1.2): with weights that count for less at
test (``rescale="at_test"``) a unit of the pretrained network gets only what is
kept of its inputs, so pretrained weights are divided by what is kept. Inverted
dropout contains that already.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

import kdropout_jax as kd
from experiments.foundations import rbm as rbm_lib
from kdropout_jax.training import task as task_lib

_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """Hidden layers, each weights [I, O] and biases [O].

  Attributes:
    layers: the lowest first.
    is_scaled: whether weights were divided by what dropout keeps.
  """

  layers: tuple[tuple[Float[Array, "I O"], Float[Array, "O"]], ...]
  is_scaled: bool = False

  def scaled(self, rates: Sequence[float], rescale: str) -> "Pretrained":
    """Returns these layers with weights divided by what their inputs keep.

    Args:
      rates: probability of dropping an input of each layer.
      rescale: of the dropout that follows.

    Raises:
      ValueError: another scaling than at the test, a second time, or rates
        that do not fit.
    """
    if rescale != "at_test":
      raise ValueError(
        "rescale must be 'at_test' for pretrained weights to be scaled, got"
        f" {rescale!r}: it divides in training what would be divided here"
      )
    if self.is_scaled:
      raise ValueError(
        "pretrained weights must be scaled once, got some that are scaled"
        " already"
      )
    if len(rates) != len(self.layers) or not all(0 <= r < 1 for r in rates):
      raise ValueError(
        f"rates must be {len(self.layers)} numbers in [0, 1), got {rates}"
      )
    return Pretrained(
      tuple((w / (1 - r), b) for (w, b), r in zip(self.layers, rates)), True
    )


def stack(
  train: Callable[..., rbm_lib.Rbm],
  data: Any,
  widths: Sequence[int],
  key: Array,
  recipe: rbm_lib.Recipe,
) -> Pretrained:
  """Pretrains layer upon layer, each on the last one's probabilities.

  Args:
    train: `rbm.train` or `denoising.train`.
    data: [N, V] in [0, 1].
    widths: of the layers.
    key: of everything random.
    recipe: of each layer.
  """
  layers = []
  for width, own in zip(widths, jax.random.split(key, len(widths))):
    layer = train(data, width, own, recipe)
    layers.append((layer.weights, layer.hidden))
    data = rbm_lib.hidden_means(layer, jnp.asarray(data))
  return Pretrained(tuple(layers))


class Classifier(nn.Module):
  """Sigmoid units, as the machines have, and logits.

  Attributes:
    widths: of the hidden layers.
    num_classes: size of the output.
    rate: probability of dropping a hidden unit.
    input_rate: of dropping an input.
    rescale: as for `kd.dropout`.
  """

  widths: tuple[int, ...]
  num_classes: int = 10
  rate: float = 0.5
  input_rate: float = 0.2
  rescale: Any = "at_test"

  @property
  def rates(self) -> tuple[float, ...]:
    """Probability of dropping an input of each hidden layer."""
    return (self.input_rate,) + (self.rate,) * (len(self.widths) - 1)

  @nn.compact
  def __call__(
    self, x: Float[Array, "B I"], subnets: Any = None
  ) -> Float[Array, "B C"]:
    """Returns logits; drops units where `subnets` are given."""
    call = {"deterministic": subnets is None, "subnets": subnets}

    def drop(name, rate, x):
      return kd.linen.Dropout(rate, rescale=self.rescale, name=name)(x, **call)

    x = drop("dropout_input", self.input_rate, x)
    for i, width in enumerate(self.widths):
      x = nn.sigmoid(nn.Dense(width, name=f"hidden_{i}")(x))
      x = drop(f"dropout_{i}", self.rate, x)
    return nn.Dense(self.num_classes, name="logits")(x)

  def start(self, key: Array, num_inputs: int, given: Pretrained | None) -> Any:
    """Returns parameters, random but for those that are given."""
    params = dict(self.init(key, jnp.zeros((1, num_inputs)))["params"])
    for i, (weights, biases) in enumerate(given.layers if given else ()):
      params[f"hidden_{i}"] = {"kernel": weights, "bias": biases}
    return params


@functools.partial(
  jax.jit, static_argnames=("model", "num_steps", "batch_size")
)
def finetune(
  model: Classifier,
  params: Any,
  x: Float[Array, "N I"],
  labels: Int[Array, "N"],
  key: Array,
  learning_rate: Any,
  num_steps: int,
  batch_size: int = 50,
) -> Any:
  """Returns parameters after steps of SGD with momentum .9.

  Args:
    model: the classifier.
    params: where it starts.
    x: training inputs.
    labels: their classes.
    key: run-long; of rows and masks.
    learning_rate: may be traced.
    num_steps: how many.
    batch_size: rows of a step.
  """
  optimizer = optax.sgd(learning_rate, momentum=_MOMENTUM)

  def loss(params, rows, ids):
    logits: Any = model.apply(
      {"params": params}, x[rows], ids, rngs={"subnets": key}
    )
    return jnp.mean(task_lib.losses_and_hits(logits, labels[rows])[0])

  def step(carry, number):
    params, state = carry
    own = jax.random.fold_in(key, number)
    rows = jax.random.randint(own, (batch_size,), 0, len(x))
    ids = kd.subnet_ids(number, key, kd.Standard(), batch_size)
    gradient = jax.grad(loss)(params, rows, ids)
    updates, state = optimizer.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), None

  steps = jnp.arange(num_steps, dtype=jnp.int32)
  (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), steps)
  return params
