"""Models, one file each; a file is found by being here.

A file of this package that defines ``MODELS = {name: build}`` adds its models.
`build(options)` returns a linen module, which every experiment calls as

  model.apply(variables, x, train=bool, subnets=ids or None,
              assignment=slots or None,
              rngs={"subnets": run_key, "dropout": step_key}, mutable=[...])

and which returns logits. `subnets` are uint32 [T], or [L, T] where each of the
L dropout sites draws its own: `site_ids` picks a site's. The module has a
property `num_sites`, L. Dropout sites are made by ``options.dropout(name=...)``
and are given to the module as a field, so that any method and pattern applies.
"""

import dataclasses
import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

CONVOLUTIONAL = (
  *("alexnet", "cnn_channels", "cnn_units", "cnn_wan", "cnn_wan_cifar"),
  *("lenet", "resnet18"),
)
"""Models with convolutions, which XLA's CPU compiler runs slowly under vmap."""


@dataclasses.dataclass(frozen=True)
class Options:
  """What a model is built from; None leaves the model's own default.

  Attributes:
    num_classes: size of the output; 0 asks for scores of spans.
    dropout: makes a dropout site from its name.
    hidden: units of a hidden layer.
    num_hidden: number of hidden layers.
    init: name of an initialiser of `experiments.models.inits`.
    dtype: of the computation; parameters are float32.
    axis_name: the axis over devices, for statistics of batch norm.
    width_scale: factor on the model's own widths, its channels included.
    channels: of each convolution, or of each stage.
    implementation: of the masked products; see `kd.masked_matmul`.
    vocabulary: tokens of a text model.
    input_rate: probability of dropping an input, at a site of its own.
    connections: makes a dense layer that drops weights (DropConnect) in place
      of a hidden dense layer.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  hidden: int | None = None
  num_hidden: int | None = None
  init: str | None = None
  dtype: Any = jnp.float32
  axis_name: str | None = None
  width_scale: float = 1.0
  channels: tuple[int, ...] | None = None
  implementation: str = "auto"
  vocabulary: int | None = None
  input_rate: float | None = None
  connections: Callable[..., nn.Module] | None = None

  def __post_init__(self):
    sizes = (self.hidden, self.num_hidden, *(self.channels or ()))
    if any(size is not None and size < 1 for size in sizes):
      raise ValueError(
        "hidden, num_hidden and channels must be >= 1, got"
        f" {self.hidden}, {self.num_hidden} and {self.channels}"
      )
    if not 0 < self.width_scale < float("inf"):
      raise ValueError(f"width_scale must be > 0, got {self.width_scale}")

  def given(self, *names: str) -> dict[str, Any]:
    """Returns those of the fields `names` that are not None."""
    values = {name: getattr(self, name) for name in names}
    return {name: v for name, v in values.items() if v is not None}

  def width(self, default: int) -> int:
    """Returns `hidden`, or the model's own width scaled."""
    return self.hidden or max(1, round(default * self.width_scale))

  def widths(self, defaults: tuple[int, ...]) -> tuple[int, ...]:
    """Returns `channels`, or the model's own scaled.

    Raises:
      ValueError: `channels` of another length.
    """
    if self.channels is None:
      return tuple(max(1, round(n * self.width_scale)) for n in defaults)
    if len(self.channels) != len(defaults):
      raise ValueError(
        f"channels must hold {len(defaults)} numbers for this model, got"
        f" {self.channels}"
      )
    return tuple(self.channels)

  def refuse(self, model: str, *names: str) -> None:
    """Raises a ValueError for options that are set and mean nothing here."""
    if "vocabulary" in names and self.vocabulary is not None:
      raise ValueError(
        f"model {model!r} reads no text, but the dataset is one of text; give"
        " it model='bert', or one of characters model='char_transformer'"
      )
    if "connections" in names and self.connections is not None:
      raise ValueError(
        f"drops must be 'units' for model {model!r}, got 'weights'"
      )
    for name, value in self.given(*names).items():
      raise ValueError(f"{name}={value} has no effect on model {model!r}")


def names() -> tuple[str, ...]:
  """Returns the names of all models, sorted."""
  return tuple(sorted(_registry()))


def build(name: str, options: Options) -> nn.Module:
  """Returns the model called `name`.

  Raises:
    ValueError: there is none; the message has the nearest names.
  """
  if name not in _registry():
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
      f"model must be one of {', '.join(names())}, got {name!r}{hint}"
    )
  return _registry()[name](options)


def site_ids(subnets: Any, site: int) -> Any:
  """Returns the ids [T] of a dropout site, from [T], [L, T] or None."""
  if subnets is None or subnets.ndim == 1:
    return subnets
  return subnets[site]


@functools.cache
def _registry() -> dict[str, Callable[[Options], nn.Module]]:
  found = {}
  for module in pkgutil.iter_modules(__path__):
    loaded = importlib.import_module(f"{__name__}.{module.name}")
    found.update(getattr(loaded, "MODELS", {}))
  return found
