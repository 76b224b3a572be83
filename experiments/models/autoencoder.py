"""Plain autoencoder, 784-256-784, after Srivastava et al. 2014 (section 7).

One hidden layer of rectified units with dropout, whose learnt features their
figure 7 compares. Its labels are its inputs, and its outputs are linear.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

from experiments import models
from experiments.models import dense


class Autoencoder(nn.Module):
  """Flattens its input; encodes it by dense, ReLU, dropout; decodes by dense.

  Attributes:
    dropout: makes a dropout site from its name.
    hidden: units of the code.
    input_rate: probability of dropping an input (a denoising autoencoder).
    connections: makes a hidden layer that drops weights, in place of units.
    initialiser: name of the initialiser.
    implementation: of the masked products.
    dtype: of the computation.
  """

  dropout: Callable[..., nn.Module]
  hidden: int = 256
  input_rate: float = 0.0
  connections: Callable[..., nn.Module] | None = None
  initialiser: str = "glorot"
  implementation: str = "auto"
  dtype: Any = jnp.float32

  @property
  def num_sites(self) -> int:
    """Number of dropout sites."""
    return 1 + (self.input_rate > 0)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B ..."],
    *,
    train: bool,
    subnets: UInt[Array, "..."] | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B I"]:
    """Returns the I values of each input, [B, I], as they are read back."""
    x = x.reshape(x.shape[0], -1).astype(self.dtype)
    return dense.fully_connected(
      x,
      (self.hidden,),
      x.shape[-1],
      dropout=self.dropout,
      layers=dense.Layers(self.initialiser, True, self.dtype, self.connections),
      call=dense.Call(train, subnets, assignment, self.implementation),
      input_rate=self.input_rate,
    )

  def losses_and_hits(
    self,
    outputs: Float[Array, "B I"],
    labels: Any,
    inputs: Float[Array, "B ..."],
  ) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Returns each row's mean squared error, and its share of values read back.

    A value counts as read back within 0.1 of it.
    """
    del labels
    wanted = jnp.reshape(inputs, outputs.shape).astype(jnp.float32)
    errors = outputs.astype(jnp.float32) - wanted
    hits = (jnp.abs(errors) < 0.1).astype(jnp.float32)
    return jnp.mean(errors**2, axis=-1), jnp.mean(hits, axis=-1)


def _build(options: models.Options) -> Autoencoder:
  options.refuse("autoencoder", "channels", "num_hidden", "vocabulary")
  return Autoencoder(
    dropout=options.dropout,
    hidden=options.width(256),
    input_rate=options.input_rate or 0.0,
    connections=options.connections,
    initialiser=options.init or "glorot",
    implementation=options.implementation,
    dtype=options.dtype,
  )


MODELS = {"autoencoder": _build}
