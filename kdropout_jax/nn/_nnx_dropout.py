"""Dropout modules for flax.nnx; public as ``kd.nnx``.

They do what the linen modules do, and say so there; a key comes from another
place. A layer's run-long key is drawn when the module is built and is part of
its state, as raw words, so that it survives split, merge and checkpoints.
"""

from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from kdropout_jax import _checks
from kdropout_jax import _keys
from kdropout_jax import blocks
from kdropout_jax import functional
from kdropout_jax import patterns
from kdropout_jax._types import Ids
from kdropout_jax._types import Key
from kdropout_jax.masks import sampling
from kdropout_jax.nn import _dropout_rules
from kdropout_jax.nn import _streams
from kdropout_jax.nn import _subnet_visitor

Rngs = nnx.Rngs | nnx.RngStream | Key


class LayerKey(nnx.Variable):
  """The words, uint32 [..., 2], of a layer's run-long key."""


class Dropout(nnx.Module):
  """A drop-in for `flax.nnx.Dropout` that can follow a schedule.

  Called as Flax's own, it is Flax's own, bit for bit. With ``subnets=ids`` it
  is k-dropout, by masks from the layer key that it drew when it was built:
  from the stream "subnets" of its `rngs`, or, without one, from its dropout
  stream. Give every place a module of its own: one that is called twice
  in a forward pass drops the same units twice.

  Args:
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
    rngs: where the keys come from.

  Raises:
    ValueError: a wrong setting.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> layer = kd.nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=0, subnets=1))
  >>> y = layer(jnp.ones((4, 8)), subnets=jnp.array([5]))
  >>> bool((y[0] == y[3]).all())
  True
  """

  def __init__(
    self,
    rate: float,
    *,
    broadcast_dims: Sequence[int] = (),
    deterministic: bool | None = False,
    rng_collection: str = "dropout",
    pattern: _dropout_rules.PatternLike = patterns.Bernoulli,
    rescale: functional.Rescale = "expected",
    row_layout: functional.RowLayout = "contiguous",
    batch_size: int | None = None,
    rngs: nnx.Rngs | nnx.RngStream | None = None,
  ):
    _checks.check_axes("broadcast_dims", broadcast_dims)
    self.rate = rate
    self.broadcast_dims = tuple(broadcast_dims)
    self.deterministic = deterministic
    self.rng_collection = rng_collection
    _dropout_rules.check_fields(self)
    self.rule = _dropout_rules.make(
      rate,
      pattern,
      broadcast_dims,
      rescale=rescale,
      row_layout=row_layout,
      batch_size=batch_size,
    )
    self.rngs = fork(rngs, rng_collection)
    self.layer_key = draw_layer_key(rngs, self.rngs)

  visited_as = ""  # its layer's name, in a model that `kd.subnets` runs

  def __call__(
    self,
    inputs: Float[Array, "*shape"],
    *,
    deterministic: bool | None = None,
    rngs: Rngs | None = None,
    subnets: Ids | blocks.Masks | None = None,
    assignment: Int[Array, "B"] | None = None,
    masks: functional.MasksLike | None = None,
  ) -> Float[Array, "..."]:
    """Drops units of `inputs` and scales the rest.

    Args:
      inputs: [B, ..., W]; of any rank without `subnets`, else from 2.
      deterministic: overrides the attribute.
      rngs: overrides the module's: streams or a key for this call or, with
        `subnets`, the layer's run-long key (streams are not asked for it).
      subnets: ids [T] of the subnets that train at this step, or their
        masks, as `kd.masks_for_steps` samples them.
      assignment: int32 [B] of slots in [0, T), overriding `row_layout`.
      masks: masks to apply in place of sampled ones.

    Raises:
      ValueError: no key, no `deterministic`, wrong inputs.
    """
    visit = _subnet_visitor.visitor_of(self)
    if visit is not None and self.rate > 0.0:
      return visit(
        self.visited_as,
        _subnet_visitor.Visited(
          inputs.shape[-1],
          self.rule_for(inputs),
          is_deterministic(self, deterministic),
          lambda: self._draw(inputs, subnets, masks, rngs),
        ),
        inputs,
      )
    return self.rule_for(inputs).run(
      inputs,
      is_deterministic(self, deterministic),
      lambda: step_key(self, rngs),
      lambda: run_key(self, rngs),
      subnets=subnets,
      masks=masks,
      assignment=assignment,
    )

  def masks(
    self, width: int, subnets: Ids | blocks.Masks, rngs: Key | None = None
  ) -> blocks.Masks:
    """Draws the masks of `subnets` over `width` units without applying them.

    For `MaskedDense` and other places that use one mask twice; give them to
    `__call__` by ``masks=``. Masks in the place of ids are handed on.
    """
    if isinstance(subnets, blocks.Masks):
      return blocks.as_masks(subnets, width)
    ids = _streams.check_subnets(subnets)
    key = _keys.as_threefry(run_key(self, rngs))
    return sampling.subnet_masks(key, ids, width, self.rule.pattern)

  def rule_for(self, inputs: Array) -> _dropout_rules.DropoutRule:
    """Returns the settings for inputs like these."""
    del inputs
    return self.rule

  def _draw(self, inputs, subnets, masks, rngs) -> blocks.Masks | None:
    """Returns the masks that a call with these arguments applies."""
    subnets, masks = _streams.source(subnets, masks, None)
    if masks is not None:
      return _streams.given_masks(masks)
    if subnets is None:
      return None
    ids = _streams.check_subnets(subnets)
    return self.rule_for(inputs).sample(inputs, run_key(self, rngs), ids)

  def set_view(self, deterministic: bool | None = None):
    """Serves `nnx.view`.

    Args:
      deterministic: if True, nothing is dropped.
    """
    if deterministic is not None:
      self.deterministic = deterministic


class SpatialDropout(Dropout):
  """Drops whole feature maps (Tompson et al. 2015, "Object Localization").

  Inputs are channels last, [B, ..., C], of rank 3 or more; all positions of a
  row share one mask over the channels. Arguments as for `Dropout`, but
  `broadcast_dims`.

  >>> import jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import nnx
  >>> layer = kd.nnx.SpatialDropout(0.5, rngs=nnx.Rngs(0))
  >>> y = layer(jnp.ones((2, 5, 5, 8)))
  >>> bool((y == y[:, :1, :1]).all())
  True
  """

  def __init__(self, rate: float, **settings):
    if "broadcast_dims" in settings:
      raise ValueError("broadcast_dims of spatial dropout are all positions")
    super().__init__(rate, **settings)

  def rule_for(self, inputs: Array) -> _dropout_rules.DropoutRule:
    """Returns the settings with all positions of `inputs` sharing a mask."""
    return self.rule.broadcast(_dropout_rules.spatial_dims(inputs))


def fork(rngs, rng_collection: str):
  """Returns a module's own stream, forked as `flax.nnx.Dropout` does."""
  if rngs is None:
    return nnx.data(None)
  if isinstance(rngs, nnx.Rngs):
    return rngs[rng_collection].fork()
  if isinstance(rngs, nnx.RngStream):
    return rngs.fork()
  raise TypeError(
    f"rngs must be a Rngs, RngStream or None, but got {type(rngs)}."
  )


def draw_layer_key(rngs, stream):
  """Returns a `LayerKey`: from "subnets", else derived from `stream`.

  The second draws nothing, so that what is built next has Flax's own keys.
  """
  if isinstance(rngs, nnx.Rngs) and _streams.STREAM in rngs:
    key = _keys.as_threefry(rngs[_streams.STREAM]())
  elif isinstance(stream, nnx.RngStream):
    named = _keys.named
    for _ in stream.key.shape:  # Built under nnx.vmap or split streams.
      named = jax.vmap(named, (0, None))
    key = named(_keys.as_threefry(stream.key[...]), _streams.STREAM)
  else:
    return nnx.data(None)
  return LayerKey(jax.random.key_data(key))


def is_deterministic(module, deterministic: bool | None) -> bool:
  """Returns the argument if given, else the attribute, else raises."""
  if deterministic is None:
    deterministic = module.deterministic
  if deterministic is None:
    raise ValueError(
      "No `deterministic` argument was provided to"
      f" {type(module).__name__}: pass it to the constructor or to the call, or"
      " set it with model.train(), model.eval() or nnx.view"
    )
  return deterministic


def step_key(module, rngs: Rngs | None) -> Key:
  """Returns the key of this call."""
  rngs = module.rngs if rngs is None else rngs
  if isinstance(rngs, nnx.Rngs):
    return rngs[module.rng_collection]()
  if isinstance(rngs, nnx.RngStream):
    return rngs()
  if isinstance(rngs, jax.Array):
    return rngs
  raise ValueError(
    "`deterministic` is False, but no `rngs` argument was provided to"
    f" {type(module).__name__}: give Rngs, an RngStream or a key to the"
    f" constructor or to the call, got {type(rngs).__name__}"
  )


def run_key(module, rngs: Rngs | None) -> Key:
  """Returns the layer's run-long key; per-step streams are not asked."""
  if isinstance(rngs, jax.Array):
    return rngs
  if module.layer_key is None:
    raise _streams.missing(type(module).__name__)
  return _keys.as_threefry(module.layer_key[...])
