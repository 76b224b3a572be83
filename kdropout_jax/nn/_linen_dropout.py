"""Dropout modules for flax.linen; see `kdropout_jax.nn.linen`."""

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
from kdropout_jax.nn import _sites


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
  pattern: _sites.PatternFn = patterns.Bernoulli
  rescale: functional.Rescale = "expected"
  row_layout: functional.RowLayout = "contiguous"
  batch_size: int | None = None

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, "B ... W"],
    deterministic: bool | None = None,
    rng: Key | None = None,
    *,
    subnets: Ids | None = None,
    assignment: Int[Array, "B"] | None = None,
    masks: functional.MasksLike | None = None,
  ) -> Float[Array, "B ... W"]:
    """Drops units of `inputs` and scales the rest.

    Args:
      inputs: [B, ..., W]; of any rank without `subnets`, else from 2.
      deterministic: as the field; exactly one of the two must be given.
      rng: overrides the module's stream: the per-step key or, with `subnets`,
        the layer's run-long key.
      subnets: ids [T] of the subnets that train at this step.
      assignment: int32 [B] of slots in [0, T), overriding `row_layout`.
      masks: masks to apply in place of sampled ones, such as those of
        `masks`.

    Raises:
      ValueError: no key stream, both or no `deterministic`, wrong inputs.
    """
    deterministic = nn.merge_param(
      "deterministic", self.deterministic, deterministic
    )
    _sites.check_source(subnets, masks, assignment)
    site = self._site()
    if subnets is not None or masks is not None:
      inputs = functional.check_inputs(inputs)
    if site.is_off(deterministic):
      return site.without_masks(inputs, deterministic)
    if masks is not None:
      return site.apply(inputs, masks, assignment)
    if subnets is None:
      key = self.make_rng(self.rng_collection) if rng is None else rng
      return site.draw_and_apply(inputs, key)
    if inputs.size == 0:
      return inputs
    ids = _sites.check_subnets(subnets)
    key = subnet_key(self) if rng is None else rng
    return site.apply(inputs, site.sample(inputs, key, ids), assignment)

  def masks(
    self, width: int, subnets: Ids, rng: Key | None = None
  ) -> blocks.Masks:
    """Draws the masks of `subnets` over `width` units without applying them.

    For `MaskedDense` and the other places that use one mask twice; give them
    to `__call__` by ``masks=``.
    """
    ids = _sites.check_subnets(subnets)
    key = subnet_key(self) if rng is None else rng
    key = _keys.as_threefry(key)
    return sampling.subnet_masks(key, ids, width, self._site().pattern)

  def _site(self) -> _sites.Site:
    return _sites.make(
      self.rate,
      self.pattern,
      self.broadcast_dims,
      rescale=self.rescale,
      row_layout=self.row_layout,
      batch_size=self.batch_size,
    )


def subnet_key(module: nn.Module) -> Key:
  """Returns the run-long key of `module`, or raises an error with the fixes.

  Flax would fall back to the "params" stream; only `init` may do so, where
  masks decide nothing.
  """
  if not module.has_rng(_sites.STREAM) and not module.is_initializing():
    raise _sites.missing_stream(module.name or type(module).__name__)
  return module.make_rng(_sites.STREAM)
