"""Multi-layer perceptrons: hidden layers of one width, dropout after each.

`kdropout_mlp` is the k-dropout paper's network: 2000 units, PyTorch's
initialisation; two hidden layers by its text, three (the default) in the code
that made its numbers. `mlp1`, `mlp2` and `mlp3` are the gyro dropout paper's,
of 1024 units, Glorot uniform and without biases as in its authors' code; their
3, 4 and 4 layers include the one of logits. `mlp` is the k-dropout paper's,
smaller. `table9_mlp` is that of Srivastava et al.'s table 9: 1024, 1024 and,
last, 2048 units. All have an input site where inputs are dropped, too.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import dense


class Mlp(nn.Module):
  """Flattens its input; each hidden layer is dense, ReLU, dropout.

  Attributes:
    num_classes: size of the output.
    dropout: makes a dropout site from its name.
    hidden: units of a hidden layer.
    num_hidden: number of hidden layers.
    last_factor: units of the last hidden layer, in units of `hidden`.
    input_rate: probability of dropping an input.
    connections: makes a hidden layer that drops weights, in place of units.
    initialiser: name of the initialiser.
    use_bias: whether there are biases.
    implementation: of the masked products.
    dtype: of the computation.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  hidden: int = 512
  num_hidden: int = 2
  last_factor: int = 1
  input_rate: float = 0.0
  connections: Callable[..., nn.Module] | None = None
  initialiser: str = "torch_linear"
  use_bias: bool = True
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return self.num_hidden + (self.input_rate > 0)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B ..."],
    *,
    train: bool,
    subnets: UInt[Array, "..."] | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B C"]:
    """Returns logits [B, num_classes]."""
    widths = (self.hidden,) * (self.num_hidden - 1)
    return dense.fully_connected(
      x.reshape(x.shape[0], -1).astype(self.dtype),
      (*widths, self.last_factor * self.hidden),
      self.num_classes,
      dropout=self.dropout,
      layers=dense.Layers(
        self.initialiser, self.use_bias, self.dtype, self.connections
      ),
      call=dense.Call(train, subnets, assignment, self.implementation),
      input_rate=self.input_rate,
    )


def _build(
  options: models.Options,
  *,
  name: str,
  hidden: int,
  num_hidden: int,
  last_factor: int = 1,
  initialiser: str = "torch_linear",
  use_bias: bool = True,
) -> Mlp:
  options.refuse(name, "channels", "vocabulary")
  return Mlp(
    num_classes=options.num_classes,
    dropout=options.dropout,
    hidden=options.width(hidden),
    num_hidden=options.num_hidden or num_hidden,
    last_factor=last_factor,
    input_rate=options.input_rate or 0.0,
    connections=options.connections,
    initialiser=options.init or initialiser,
    use_bias=use_bias,
    implementation=options.implementation,
    dtype=options.dtype,
  )


def _gyro(name: str, num_hidden: int) -> Callable[[models.Options], Mlp]:
  return functools.partial(
    _build,
    name=name,
    hidden=1024,
    num_hidden=num_hidden,
    initialiser="glorot",
    use_bias=False,
  )


MODELS = {
  "mlp": functools.partial(_build, name="mlp", hidden=512, num_hidden=2),
  "kdropout_mlp": functools.partial(
    _build, name="kdropout_mlp", hidden=2000, num_hidden=3
  ),
  "table9_mlp": functools.partial(
    _build, name="table9_mlp", hidden=1024, num_hidden=3, last_factor=2
  ),
  "mlp1": _gyro("mlp1", 2),
  "mlp2": _gyro("mlp2", 3),
  "mlp3": _gyro("mlp3", 3),
}
