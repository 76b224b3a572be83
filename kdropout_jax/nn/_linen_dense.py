"""Dense layers with masks for flax.linen; public as ``kd.linen``."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.linen import dtypes
from jaxtyping import Array, Float, Int

from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax.nn import _dense_layers
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _linen_dropout


class MaskedDense(nn.Dense):
  """A drop-in for `flax.linen.Dense` that skips what masks drop.

  Parameters, initialisation and, without masks, outputs are those of Flax's
  own. With masks it computes ``act((x * in_mask) @ w + b) * out_mask`` by
  `kd.masked_matmul`; nothing is rescaled here, that is the dropout's job.
  Masks of non-contiguous rows (`assignment`, "tiled", a short batch), and
  layers with a precision or a `dot_general` of their own, are masked densely.

  Attributes:
    activation: "relu" or None; fused into the product.
    implementation: "auto", or one of `kd.masked_matmul` by name.
    row_layout: "contiguous" or "tiled"; see `kd.dropout`.
    batch_size: rows of a full batch; the default is the rows at hand.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> x, masks = jnp.ones((2, 3)), jnp.array([[True, False]])
  >>> layer = kd.linen.MaskedDense(2)
  >>> variables = layer.init(jax.random.key(0), x)
  >>> layer.apply(variables, x, out_mask=masks)[:, 1].tolist()
  [0.0, 0.0]
  """

  activation: str | None = None
  implementation: str = "auto"
  row_layout: functional.RowLayout = "contiguous"
  batch_size: int | None = None

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, "B ... I"],
    *,
    in_mask: functional.MasksLike | None = None,
    out_mask: functional.MasksLike | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ... O"]:
    """Applies the layer to the last axis of `inputs`.

    Args:
      inputs: [B, ..., I].
      in_mask: `Masks` or bool [T, I]; dropped inputs count as zero.
      out_mask: `Masks` or bool [T, O]; dropped outputs come back zero.
      assignment: int32 [B] of slots in [0, T), overriding `row_layout`.

    Raises:
      ValueError: masks that do not fit.
      UnsupportedError: the named implementation cannot do this here.
    """
    _dense_layers.check_features(self.features, self.use_bias)
    own = (self.precision, self.dot_general, self.dot_general_cls)
    return _dense_layers.masked_dense(
      self,
      inputs,
      super().__call__,
      lambda: _operands(self, inputs),
      is_plain=own == (None, None, None),
      in_mask=in_mask,
      out_mask=out_mask,
      assignment=assignment,
    )


class DropConnectDense(nn.Module):
  """A dense layer that drops weights and biases (Wan et al. 2013).

  Each row trains under a mask of its own over the weights AND the biases, or,
  with ``subnets=ids``, each group under its subnet's. The masked weights of
  all rows, or of all subnets, are in memory.

  Attributes:
    features: number O of outputs.
    rate: probability of DROPPING a weight or bias.
    deterministic: if True nothing is dropped, and `inference` says what is
      returned.
    inference: "mean", the mean network; or "moments", the activation averaged
      over a Gaussian of matching mean and variance (section 3.2 of the paper),
      which reads `rng_collection`.
    activation: what follows the layer; applied by it. "moments" needs one.
    num_samples: draws of "moments".
    use_bias: whether there are biases.
    dtype: of the computation; inferred by default.
    param_dtype: of the parameters.
    kernel_init: initializer of the weights [I, O].
    bias_init: initializer of the biases [O].
    rng_collection: stream of the per-step key, used without `subnets`.
    pattern: as for `Dropout`, over the flattened weights and biases.
    rescale: as for `kd.dropout`; "at_test" is the paper's own formula.
    row_layout: as for `kd.dropout`.
    batch_size: as for `Dropout`.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> layer = kd.linen.DropConnectDense(4, rate=0.5, deterministic=True)
  >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 3)))
  >>> layer.apply(variables, jnp.ones((2, 3))).shape
  (2, 4)
  """

  features: int
  rate: float = 0.5
  deterministic: bool | None = None
  inference: _dense_layers.Inference = "mean"
  activation: Callable[[Array], Array] | None = None
  num_samples: int = 1000
  use_bias: bool = True
  dtype: Any = None
  param_dtype: Any = jnp.float32
  kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
  bias_init: Callable[..., Any] = nn.initializers.zeros_init()
  rng_collection: str = "dropout"
  pattern: _dropout_rules.PatternLike = patterns.Bernoulli
  rescale: functional.Rescale = "expected"
  row_layout: functional.RowLayout = "contiguous"
  batch_size: int | None = None

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, "B ... I"],
    deterministic: bool | None = None,
    rng: Key | None = None,
    *,
    subnets: Ids | blocks.Masks | None = None,
    assignment: Int[Array, "B"] | None = None,
  ) -> Float[Array, "B ... O"]:
    """Applies the layer to the last axis of `inputs`; see `Dropout`."""
    _dense_layers.check_features(self.features, self.use_bias)
    _dropout_rules.check_fields(self)
    deterministic = nn.merge_param(
      "deterministic", self.deterministic, deterministic
    )
    layer = _dense_layers.DropConnect(
      _linen_dropout.make_rule(self),
      self.inference,
      self.activation,
      self.num_samples,
    )
    return layer.run(
      *_operands(self, inputs),
      deterministic,
      lambda: _linen_dropout.step_key(self, rng),
      lambda: _linen_dropout.run_key(self, rng),
      subnets=subnets,
      assignment=assignment,
    )


def _operands(module, inputs) -> tuple[Array, Array, Array | None]:
  """Declares kernel and bias as `nn.Dense` does; returns promoted operands."""
  shape = (jnp.shape(inputs)[-1], module.features)
  kernel = module.param("kernel", module.kernel_init, shape, module.param_dtype)
  bias = None
  if module.use_bias:
    bias = module.param(
      "bias", module.bias_init, (module.features,), module.param_dtype
    )
  x, w, b = dtypes.promote_dtype(inputs, kernel, bias, dtype=module.dtype)
  return x, w, b
