"""Dropout modules for flax.linen; public as ``kd.linen``."""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float, Int

from kdropout_jax import _keys
from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax.masks import sampling
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _linen_streams
from kdropout_jax.nn import _nnx_bridge
from kdropout_jax.nn import _streams


class Dropout(nn.Module):
  """A drop-in for `flax.linen.Dropout` that can follow a schedule.

  Called as Flax's own, it is Flax's own, bit for bit. With ``subnets=ids`` it
  is k-dropout: row r trains subnet ``ids[r * T // B]``, and a subnet looks the
  same whenever its id comes again. Its masks come from the key stream
  "subnets", which must hold the same key at every step of the run.

  Bernoulli masks cover every non-batch element that `broadcast_dims` leaves
  apart; other patterns cover the last axis, one mask for all positions.

  Masks are tied to the module's name: `nn.jit` and `nn.remat` change names
  that Flax makes up, so name a layer whose masks are to be rebuilt. Give a
  threefry key where the model splits its keys (`nn.scan`, `nn.vmap`).

  Attributes:
    rate: probability of DROPPING a unit.
    broadcast_dims: axes that share one mask.
    deterministic: if True nothing is dropped (but see `rescale`).
    rng_collection: stream of the per-step key, used without `subnets`.
    pattern: from rate to pattern, as `kd.Bernoulli` or
      ``functools.partial(kd.Blocks, block_size=64)``.
    rescale: "expected", "realised" or "at_test"; see `kd.dropout`.
    row_layout: "contiguous" or "tiled"; see `kd.dropout`.
    batch_size: rows of a full batch; a shorter one takes the first rows'
      subnets. The default is the rows at hand.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> ids = kd.subnet_ids(0, jax.random.key(0), kd.Sequential(k=97, m=1), 4)
  >>> layer = kd.linen.Dropout(0.5, deterministic=False)
  >>> rngs = {"subnets": jax.random.key(0)}
  >>> y = layer.apply({}, jnp.ones((4, 8)), subnets=ids, rngs=rngs)
  >>> bool((y[0] == y[3]).all())
  True
  """

  rate: float
  broadcast_dims: Sequence[int] = ()
  deterministic: bool | None = None
  rng_collection: str = "dropout"
  pattern: _dropout_rules.PatternLike = patterns.Bernoulli
  rescale: functional.Rescale = "expected"
  row_layout: functional.RowLayout = "contiguous"
  batch_size: int | None = None

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, "*shape"],
    deterministic: bool | None = None,
    rng: Key | None = None,
    *,
    subnets: Ids | blocks.Masks | None = None,
    assignment: Int[Array, "B"] | None = None,
    masks: functional.MasksLike | None = None,
  ) -> Float[Array, "*shape"]:
    """Drops units of `inputs` and scales the rest.

    Args:
      inputs: [B, ..., W]; of any rank without `subnets`, else from 2.
      deterministic: as the field; exactly one of the two must be given.
      rng: overrides the module's stream: the per-step key or, with `subnets`,
        the layer's run-long key.
      subnets: ids [T] of the subnets that train at this step, or their
        masks, as `kd.masks_for_steps` samples them.
      assignment: int32 [B] of slots in [0, T), overriding `row_layout`.
      masks: masks to apply in place of sampled ones, such as those of
        `masks`.

    Raises:
      ValueError: no key stream, both or no `deterministic`, wrong inputs.
    """
    return make_rule(self, self.broadcast_dims).run(
      inputs,
      nn.merge_param("deterministic", self.deterministic, deterministic),
      lambda: step_key(self, rng),
      lambda: run_key(self, rng),
      subnets=subnets,
      masks=masks,
      assignment=assignment,
    )

  def masks(
    self, width: int, subnets: Ids | blocks.Masks, rng: Key | None = None
  ) -> blocks.Masks:
    """Draws the masks of `subnets` over `width` units without applying them.

    For `MaskedDense` and other places that use one mask twice; give them to
    `__call__` by ``masks=``. Masks in the place of ids are handed on.
    """
    return draw_masks(self, width, subnets, rng)


class SpatialDropout(nn.Module):
  """Drops whole feature maps (Tompson et al. 2015, "Object Localization").

  Inputs are channels last, [B, ..., C], of rank 3 or more; all positions of a
  row share one mask over the channels. Otherwise as `Dropout`, with the same
  fields but `broadcast_dims`.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> layer = kd.linen.SpatialDropout(0.5, deterministic=False)
  >>> x = jnp.ones((2, 5, 5, 8))
  >>> y = layer.apply({}, x, rngs={"dropout": jax.random.key(0)})
  >>> bool((y == y[:, :1, :1]).all())
  True
  """

  rate: float
  deterministic: bool | None = None
  rng_collection: str = "dropout"
  pattern: _dropout_rules.PatternLike = patterns.Bernoulli
  rescale: functional.Rescale = "expected"
  row_layout: functional.RowLayout = "contiguous"
  batch_size: int | None = None

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, "B ... C"],
    deterministic: bool | None = None,
    rng: Key | None = None,
    *,
    subnets: Ids | blocks.Masks | None = None,
    assignment: Int[Array, "B"] | None = None,
    masks: functional.MasksLike | None = None,
  ) -> Float[Array, "B ... C"]:
    """Drops channels of `inputs`; arguments as for `Dropout`."""
    return make_rule(self, _dropout_rules.spatial_dims(inputs)).run(
      inputs,
      nn.merge_param("deterministic", self.deterministic, deterministic),
      lambda: step_key(self, rng),
      lambda: run_key(self, rng),
      subnets=subnets,
      masks=masks,
      assignment=assignment,
    )

  def masks(
    self, width: int, subnets: Ids | blocks.Masks, rng: Key | None = None
  ) -> blocks.Masks:
    """Draws masks over `width` channels, as `Dropout.masks` does."""
    return draw_masks(self, width, subnets, rng)


def make_rule(
  module, broadcast_dims: Sequence[int] = ()
) -> _dropout_rules.DropoutRule:
  """Builds the rule of a module from its fields."""
  _dropout_rules.check_fields(module)
  return _dropout_rules.make(
    module.rate,
    module.pattern,
    broadcast_dims,
    path=_linen_streams.path(module),
    rescale=module.rescale,
    row_layout=module.row_layout,
    batch_size=module.batch_size,
  )


def step_key(module, rng: Key | None) -> Key:
  """Returns the key of this call, from the module's `rng_collection`."""
  return module.make_rng(module.rng_collection) if rng is None else rng


def run_key(module: nn.Module, rng: Key | None) -> Key:
  """Returns the run-long key of `module`, or raises an error with the fixes.

  Flax would fall back to the "params" stream; only `init` may do so, where
  masks decide nothing.
  """
  if rng is not None:
    return rng
  if not module.has_rng(_streams.STREAM) and not module.is_initializing():
    raise _streams.missing(module.name or type(module).__name__)
  _nnx_bridge.hold_run_key()
  return module.make_rng(_streams.STREAM)


def draw_masks(
  module: nn.Module, width: int, subnets: Ids | blocks.Masks, rng: Key | None
) -> blocks.Masks:
  """Draws a module's masks over its last axis."""
  if isinstance(subnets, blocks.Masks):
    return blocks.as_masks(subnets, width)
  ids = _streams.check_subnets(subnets)
  key = _keys.as_threefry(run_key(module, rng))
  return sampling.subnet_masks(key, ids, width, make_rule(module).pattern)
