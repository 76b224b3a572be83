"""Multi-layer perceptrons: hidden layers of one width, dropout after each.

The k-dropout paper's network is `mlp` with 2000 units: two hidden layers by
its text, three in the code that made its numbers.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments.shared import models
from experiments.shared.models import inits


class Mlp(nn.Module):
  """Flattens its input; each hidden layer is Dense, ReLU, dropout.

  Attributes:
    num_classes: size of the output.
    dropout: makes a dropout site from its name.
    hidden: units of a hidden layer.
    num_hidden: number of hidden layers.
    initialiser: name of the initialiser.
    dtype: of the computation.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  hidden: int = 512
  num_hidden: int = 2
  initialiser: str = "torch_linear"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return self.num_hidden

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
    x = x.reshape(x.shape[0], -1).astype(self.dtype)
    for i in range(self.num_hidden):
      x = nn.relu(self._dense(self.hidden, x, f"hidden_{i}"))
      x = self.dropout(name=f"dropout_{i}")(
        x,
        deterministic=not train,
        subnets=models.site_ids(subnets, i) if train else None,
        assignment=assignment,
      )
    return self._dense(self.num_classes, x, "logits")

  def _dense(self, features: int, x: Array, name: str) -> Array:
    layer = nn.Dense(
      features,
      dtype=self.dtype,
      name=name,
      **inits.layer_inits(self.initialiser, x.shape[-1]),
    )
    return layer(x)


def _build(options: models.Options) -> Mlp:
  return Mlp(
    num_classes=options.num_classes,
    dropout=options.dropout,
    initialiser=options.init,
    dtype=options.dtype,
    **options.given("hidden", "num_hidden"),
  )


MODELS = {"mlp": _build}
