"""The MLPs and LeNet in flax.nnx: the linen networks' twins.

Their parameters have the linen ones' paths, so that ``nnx.update(twin,
params)`` moves weights over. They are no flags' models: the training loop runs
linen modules.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, UInt

import kdropout_jax as kd
from experiments.models import dense
from experiments.models import inits


class Network(nnx.Module):
  """Convolutions of 5x5, if any, then dense layers with dropout.

  Args:
    input_shape: of one input, [...] or [H, W, C].
    num_classes: size of the output.
    dropout: makes a dropout module from ``rngs=``, as a partial of
      `kd.nnx.Dropout` does.
    channels: of each convolution.
    pools: for each convolution, whether 2x2 max pooling follows it.
    hidden: units of a hidden dense layer.
    num_hidden: number of hidden dense layers.
    initialiser: name of the initialiser.
    use_bias: whether dense layers have biases.
    implementation: of the masked products.
    dtype: of the computation.
    rngs: streams "params", "dropout" and "subnets".
  """

  def __init__(
    self,
    input_shape: Sequence[int],
    num_classes: int,
    *,
    dropout: Callable[..., Any],
    channels: Sequence[int] = (),
    pools: Sequence[bool] = (),
    hidden: int,
    num_hidden: int,
    initialiser: str,
    use_bias: bool,
    implementation: str = "auto",
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.pools, self.num_sites = tuple(pools), num_hidden
    self.implementation, self.dtype = implementation, dtype
    shape = tuple(input_shape)
    for i, (width, pool) in enumerate(zip(channels, pools)):
      conv = _conv(shape[-1], width, initialiser, dtype, rngs)
      setattr(self, f"conv_{i}", conv)
      shape = (*(-(-n // (2 if pool else 1)) for n in shape[:2]), width)

    def layer(size: int, width: int, **settings: Any):
      return kd.nnx.MaskedDense(
        size,
        width,
        use_bias=use_bias,
        dtype=dtype,
        implementation=implementation,
        rngs=rngs,
        **settings,
        **inits.layer_inits(initialiser, size),
      )

    size, rows = math.prod(shape), {}
    for i in range(num_hidden):
      site = dropout(rngs=rngs)
      # The rule of the masks on either side: those of a model's sites agree.
      rows = {
        "row_layout": site.rule.row_layout,
        "batch_size": site.rule.batch_size,
      }
      hidden_layer = layer(size, hidden, activation="relu", **rows)
      setattr(self, f"hidden_{i}", hidden_layer)
      setattr(self, f"dropout_{i}", site)
      size = hidden
    self.logits = layer(size, num_classes, **rows)

  def __call__(
    self,
    x: Float[Array, "B ..."],
    *,
    train: bool,
    subnets: UInt[Array, "..."] | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B C"]:
    """Returns logits [B, num_classes]; as the linen models."""
    call = dense.Call(train, subnets, assignment, self.implementation)
    x = x.astype(self.dtype)
    for i, pool in enumerate(self.pools):
      x = nnx.relu(getattr(self, f"conv_{i}")(x))
      if pool:
        x = nnx.max_pool(x, (2, 2), (2, 2), "SAME")
    x, in_mask = x.reshape(x.shape[0], -1), None
    for i in range(self.num_sites):
      site, layer = getattr(self, f"dropout_{i}"), getattr(self, f"hidden_{i}")
      masks = call.masks(site, i, layer.out_features)
      x = self._dense(layer, x, call, in_mask, masks)
      x, in_mask = call.drop(site, i, x, masks), masks
    return self._dense(self.logits, x, call, in_mask, None)

  def _dense(self, layer, x, call, in_mask, out_mask):
    rows = {}
    if in_mask is not None or out_mask is not None:
      rows = {"assignment": call.assignment}
    return layer(x, in_mask=in_mask, out_mask=out_mask, **rows)


def mlp(
  input_shape: Sequence[int],
  num_classes: int,
  *,
  dropout: Callable[..., Any],
  rngs: nnx.Rngs,
  hidden: int = 512,
  num_hidden: int = 2,
  initialiser: str = "torch_linear",
  use_bias: bool = True,
  **settings: Any,
) -> Network:
  """Returns the twin of `mlp.Mlp`."""
  return Network(
    input_shape,
    num_classes,
    dropout=dropout,
    hidden=hidden,
    num_hidden=num_hidden,
    initialiser=initialiser,
    use_bias=use_bias,
    rngs=rngs,
    **settings,
  )


def lenet(
  input_shape: Sequence[int],
  num_classes: int,
  *,
  dropout: Callable[..., Any],
  rngs: nnx.Rngs,
  channels: Sequence[int] = (96, 256),
  hidden: int = 1024,
  **settings: Any,
) -> Network:
  """Returns the twin of the gyro dropout paper's LeNet."""
  return Network(
    input_shape,
    num_classes,
    dropout=dropout,
    channels=channels,
    pools=(True, False),
    hidden=hidden,
    num_hidden=2,
    initialiser="glorot",
    use_bias=False,
    rngs=rngs,
    **settings,
  )


def _conv(
  size: int, width: int, initialiser: str, dtype: Any, rngs: nnx.Rngs
) -> nnx.Conv:
  return nnx.Conv(
    size,
    width,
    (5, 5),
    padding="SAME",
    use_bias=False,
    dtype=dtype,
    rngs=rngs,
    kernel_init=inits.layer_inits(initialiser, 25 * size)["kernel_init"],
  )
