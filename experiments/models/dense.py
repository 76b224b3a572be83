"""Fully-connected layers with dropout, which skip what their masks drop.

The gyro dropout paper's rule (section 4.3): the first layer's outputs are
pruned, hidden layers on both sides, the last one's inputs. So each site draws
its masks once, and hands them to the product before it, to the one after it
and to the dropout, which alone rescales.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt

import kdropout_jax as kd
from experiments import models
from experiments.models import inits


@dataclasses.dataclass(frozen=True)
class Call:
  """How a model is called: what each of its dropout sites needs.

  Attributes:
    train: whether units are dropped.
    subnets: uint32 [T] or [L, T]; None: conventional dropout.
    assignment: int32 [B] of slots, or None.
    implementation: of the masked products.
  """

  train: bool
  subnets: UInt[Array, "..."] | None = None
  assignment: Int[Array, "B"] | None = None
  implementation: str = "auto"

  def masks(
    self, site: nn.Module, number: int, width: int, rank: int = 2
  ) -> kd.Masks | None:
    """Draws a site's masks for products, or None where none could use them.

    Counts that vary let no product skip work on its own account, and
    Bernoulli masks differ between positions: such sites draw for themselves.

    Args:
      site: the dropout module, of linen or nnx.
      number: its place among the model's sites.
      width: units that it masks.
      rank: of its input.
    """
    if not self.train or self.subnets is None or site.rate in (0.0, 1.0):
      return None
    # A module of nnx has made its pattern already.
    pattern = site.rule.pattern if hasattr(site, "rule") else None
    pattern = pattern or site.pattern(site.rate)
    varies = pattern.num_kept(width) is None
    if varies and (self.implementation == "auto" or rank > 2):
      return None
    return site.masks(width, models.site_ids(self.subnets, number))

  def drop(
    self, site: nn.Module, number: int, x: Array, masks: Any = None
  ) -> Array:
    """Applies a dropout site: `masks`, its own, or conventional ones."""
    subnets = None
    if self.train and masks is None:
      subnets = models.site_ids(self.subnets, number)
    return site(
      x,
      deterministic=not self.train,
      subnets=subnets,
      masks=masks,
      assignment=self.assignment,
    )


@dataclasses.dataclass(frozen=True)
class Layers:
  """What the dense layers of a model have in common.

  Attributes:
    initialiser: a name of `inits`.
    use_bias: whether there are biases.
    dtype: of the computation.
    connections: makes a hidden layer that drops weights; None: none does.
  """

  initialiser: str
  use_bias: bool = True
  dtype: Any = jnp.float32
  connections: Callable[..., nn.Module] | None = None

  def connect(
    self,
    x: Float[Array, "B I"],
    features: int,
    number: int,
    call: Call,
  ) -> Float[Array, "B O"]:
    """Applies hidden layer `number` of ReLU, which drops weights."""
    assert self.connections is not None
    layer = self.connections(
      features=features,
      activation=nn.relu,
      use_bias=self.use_bias,
      dtype=self.dtype,
      name=f"hidden_{number}",
      **inits.layer_inits(self.initialiser, x.shape[-1]),
    )
    subnets = models.site_ids(call.subnets, number) if call.train else None
    return layer(
      x,
      deterministic=not call.train,
      subnets=subnets,
      assignment=None if subnets is None else call.assignment,
    )

  def dense(
    self,
    x: Float[Array, "B ... I"],
    features: int,
    name: str,
    call: Call,
    *,
    activation: str | None = None,
    site: Any = None,
    in_mask: kd.Masks | None = None,
    out_mask: kd.Masks | None = None,
  ) -> Float[Array, "B ... O"]:
    """Applies a `MaskedDense` layer; `site` says which row has which mask."""
    rows = {}
    if in_mask is not None or out_mask is not None:
      rows = {"row_layout": site.row_layout, "batch_size": site.batch_size}
    layer = kd.linen.MaskedDense(
      features,
      use_bias=self.use_bias,
      dtype=self.dtype,
      activation=activation,
      implementation=call.implementation if rows else "auto",
      name=name,
      **rows,
      **inits.layer_inits(self.initialiser, x.shape[-1]),
    )
    assignment = call.assignment if rows else None
    return layer(x, in_mask=in_mask, out_mask=out_mask, assignment=assignment)


def fully_connected(
  x: Float[Array, "B I"],
  widths: Sequence[int],
  num_outputs: int,
  *,
  dropout: Callable[..., nn.Module],
  layers: Layers,
  call: Call,
  input_rate: float = 0.0,
) -> Float[Array, "B O"]:
  """Applies hidden layers (dense, ReLU, dropout) and a layer of logits.

  Called within a compact method, it gives its parent the submodules
  ``hidden_0``, ``dropout_0``, ..., ``logits``; and, where inputs are dropped,
  ``dropout_input``, the last of its sites by number.

  Args:
    x: [B, I].
    widths: units of each hidden layer.
    num_outputs: units of the last layer.
    dropout: makes a dropout site from its name.
    layers: settings of the dense layers.
    call: how the model is called.
    input_rate: probability of dropping an input.
  """
  site, in_mask = None, None
  if input_rate > 0:
    site = dropout(name="dropout_input", rate=input_rate)
    in_mask = call.masks(site, len(widths), x.shape[-1])
    x = call.drop(site, len(widths), x, in_mask)
  for i, width in enumerate(widths):
    if layers.connections is not None:
      in_mask = None  # Inputs that are dropped are 0 already.
      x = layers.connect(x, width, i, call)
      continue
    site = dropout(name=f"dropout_{i}")
    masks = call.masks(site, i, width)
    x = layers.dense(
      x,
      width,
      f"hidden_{i}",
      call,
      activation="relu",
      site=site,
      in_mask=in_mask,
      out_mask=masks,
    )
    x = call.drop(site, i, x, masks)
    in_mask = masks
  return layers.dense(
    x, num_outputs, "logits", call, site=site, in_mask=in_mask
  )
