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


@dataclasses.dataclass(frozen=True)
class Options:
  """What a model is built from; None leaves the model's own default.

  Attributes:
    num_classes: size of the output.
    dropout: makes a dropout site from its name.
    hidden: units of a hidden layer.
    num_hidden: number of hidden layers.
    init: name of an initialiser of `experiments.shared.models.inits`.
    dtype: of the computation; parameters are float32.
    axis_name: the axis over devices, for statistics of batch norm.
  """

  num_classes: int
  dropout: Callable[..., nn.Module]
  hidden: int | None = None
  num_hidden: int | None = None
  init: str = "torch_linear"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  def given(self, *names: str) -> dict[str, Any]:
    """Returns those of the fields `names` that are not None."""
    values = {name: getattr(self, name) for name in names}
    return {name: v for name, v in values.items() if v is not None}


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
