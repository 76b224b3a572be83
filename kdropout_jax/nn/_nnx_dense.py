"""Dense layers with masks for flax.nnx; public as ``kd.nnx``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Ids
from kdropout_jax.nn import _dense_layers
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _nnx_dropout
from kdropout_jax.nn import _subnet_visitor


class MaskedDense(nnx.Linear):
  """A drop-in for `flax.nnx.Linear` that skips what masks drop.

  See `kd.linen.MaskedDense`: same behaviour, Flax's own parameters.

  Args:
    in_features: number I of inputs.
    out_features: number O of outputs.
    activation: "relu" or None; fused into the product.
    implementation: "auto", or one of `kd.masked_matmul` by name.
    row_layout: "contiguous" or "tiled"; see `kd.dropout`.
    batch_size: rows of a full batch; the default is the rows at hand.
    **linear: further arguments of `nnx.Linear`, such as ``rngs=``.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> layer = kd.nnx.MaskedDense(3, 2, rngs=nnx.Rngs(0))
  >>> masks = jnp.array([[True, False]])
  >>> layer(jnp.ones((2, 3)), out_mask=masks)[:, 1].tolist()
  [0.0, 0.0]
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    activation: str | None = None,
    implementation: str = "auto",
    row_layout: functional.RowLayout = "contiguous",
    batch_size: int | None = None,
    **linear,
  ):
    _check_features(in_features, out_features, linear)
    super().__init__(in_features, out_features, **linear)
    self.activation = activation
    self.implementation = implementation
    self.row_layout = row_layout
    self.batch_size = batch_size

  visited_as = ""  # its name, in a model that `kd.subnets` runs

  def __call__(
    self,
    inputs: Float[Array, "B ... I"],
    out_sharding=None,
    *,
    in_mask: functional.MasksLike | None = None,
    out_mask: functional.MasksLike | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ... O"]:
    """Applies the layer; arguments as for `kd.linen.MaskedDense`."""
    if _subnet_visitor.visitor_of(self) is not None:
      in_mask = out_mask = None  # The visitor of the dropouts masks all.
    plain = (None, jax.lax.dot_general, None, None)
    own = (
      self.precision,
      self.dot_general,
      self.preferred_element_type,
      out_sharding,
    )
    return _dense_layers.masked_dense(
      self,
      inputs,
      lambda x: super(MaskedDense, self).__call__(x, out_sharding),
      lambda: _operands(self, inputs),
      is_plain=own == plain,
      in_mask=in_mask,
      out_mask=out_mask,
      assignment=assignment,
    )


class DropConnectDense(nnx.Module):
  """A dense layer that drops weights and biases (Wan et al. 2013).

  See `kd.linen.DropConnectDense`: same behaviour. The parameters are those of
  `nnx.Linear`; keys come as for `Dropout`.

  Args:
    in_features: number I of inputs.
    out_features: number O of outputs.
    rate: probability of DROPPING a weight or bias.
    deterministic: if True, `inference` says what is returned.
    inference: "mean" or "moments".
    activation: what follows the layer; applied by it. "moments" needs one.
    num_samples: draws of "moments".
    rng_collection: stream of the per-step key, used without `subnets`.
    pattern: as for `Dropout`, over the flattened weights and biases.
    rescale: as for `kd.dropout`; "at_test" is the paper's own formula.
    row_layout: as for `kd.dropout`.
    batch_size: as for `Dropout`.
    rngs: where parameters and keys come from.
    **linear: further arguments of `nnx.Linear`, such as ``use_bias=``.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> layer = kd.nnx.DropConnectDense(3, 4, rate=0.5, rngs=nnx.Rngs(0))
  >>> layer(jnp.ones((2, 3))).shape
  (2, 4)
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    rate: float = 0.5,
    deterministic: bool | None = False,
    inference: _dense_layers.Inference = "mean",
    activation: Callable[[Array], Array] | None = None,
    num_samples: int = 1000,
    rng_collection: str = "dropout",
    pattern: _dropout_rules.PatternLike = patterns.Bernoulli,
    rescale: functional.Rescale = "expected",
    row_layout: functional.RowLayout = "contiguous",
    batch_size: int | None = None,
    rngs: nnx.Rngs,
    **linear: Any,
  ):
    _check_features(in_features, out_features, linear)
    parameters = nnx.Linear(in_features, out_features, rngs=rngs, **linear)
    self.kernel, self.bias = parameters.kernel, parameters.bias
    self.promote_dtype = parameters.promote_dtype
    self.dtype = parameters.dtype
    self.deterministic = deterministic
    self.rng_collection = rng_collection
    _dropout_rules.check_fields(self)
    rule = _dropout_rules.make(
      rate,
      pattern,
      rescale=rescale,
      row_layout=row_layout,
      batch_size=batch_size,
    )
    self.layer = _dense_layers.DropConnect(
      rule, inference, activation, num_samples
    )
    self.rngs = _nnx_dropout.fork(rngs, rng_collection)
    self.layer_key = _nnx_dropout.draw_layer_key(rngs, self.rngs)

  def __call__(
    self,
    inputs: Float[Array, "B ... I"],
    *,
    deterministic: bool | None = None,
    rngs: _nnx_dropout.Rngs | None = None,
    subnets: Ids | blocks.Masks | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ... O"]:
    """Applies the layer to the last axis of `inputs`; see `Dropout`."""
    return self.layer.run(
      *_operands(self, inputs),
      _nnx_dropout.is_deterministic(self, deterministic),
      lambda: _nnx_dropout.step_key(self, rngs),
      lambda: _nnx_dropout.run_key(self, rngs),
      subnets=subnets,
      assignment=assignment,
    )

  def set_view(self, deterministic: bool | None = None):
    """Serves `nnx.view`.

    Args:
      deterministic: if True, nothing is dropped.
    """
    if deterministic is not None:
      self.deterministic = deterministic


def _check_features(in_features, out_features, linear) -> None:
  use_bias = linear.get("use_bias", True)
  _dense_layers.check_features(in_features, use_bias, "in_features")
  _dense_layers.check_features(out_features, use_bias, "out_features")


def _operands(module, inputs) -> tuple[Array, Array, Array | None]:
  bias = None if module.bias is None else module.bias[...]
  x, w, b = module.promote_dtype(
    (jnp.asarray(inputs), module.kernel[...], bias), dtype=module.dtype
  )
  return x, w, b
