"""The layout of a Flax model: read off its program, else found by numbers."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from kdropout_jax import _checks
from kdropout_jax._types import UnsupportedError
from kdropout_jax.subnets.layouts import Layout
from kdropout_jax.subnets.probing import layouts as probing
from kdropout_jax.subnets.structure import reading

__all__ = ("layout",)


def layout(
  model: Any,
  variables: Mapping[str, Any] | None,
  *args: Any,
  check: bool = False,
  **kwargs: Any,
) -> Layout:
  """Builds the layout of a Flax model from the model itself.

  Every `kd.linen.Dropout`, `kd.linen.SpatialDropout` and `flax.linen.Dropout`
  of positive rate, or their nnx counterpart, is a layer, called by its path.
  Which parameter axes follow it is read off the model's program, where every
  operation between says what it does with the units: dense layers,
  convolutions, elementwise functions, pooling over positions, flattening. A
  model with others is probed by numbers, in float64, which takes seconds.

  Args:
    model: the unbound linen module, or an nnx module.
    variables: its variables; shapes and dtypes matter, values do not. For nnx,
      None or ``nnx.state(model, nnx.Param)``.
    *args: inputs, as to ``model.apply``, or the nnx model, in training.
    check: probe by numbers in any case that the small network is the masked
      one.
    **kwargs: further arguments of it, such as ``train=True``.

  Returns:
    The `Layout`.

  Raises:
    ValueError: the model calls no Dropout of positive rate.
    UnsupportedError: a subnet of the model is not a small network: batch
      statistics, masks over positions, a layer that mixes units, or a module
      that does not take small parameters.

  >>> import jax, jax.numpy as jnp, kdropout_jax as kd
  >>> from flax import linen as nn
  >>> drop = kd.linen.Dropout(0.5, deterministic=False)
  >>> net = nn.Sequential([nn.Dense(8), nn.relu, drop, nn.Dense(3)])
  >>> x = jnp.ones((4, 5))
  >>> variables = net.init(jax.random.key(0), x)
  >>> kd.subnets.layout(net, variables, x).as_dict()["layers_3/kernel"]
  {0: 'layers_2'}
  """
  _checks.check_flag("check", check)
  called = _called(model, variables, args, kwargs)
  _check_statistics(called)
  found, widths = reading.read(called.run, called.params)
  if not widths:
    raise ValueError(
      "the model calls no Dropout of positive rate; pass train=True if it"
      " drops only in training"
    )
  if found is None:
    return probing.find(called, widths)
  if check:
    probing.check(called, widths, found)
  return found


def _called(model, variables, args, kwargs) -> probing.Called:
  if isinstance(model, nn.Module):
    kwargs = {"rngs": _rngs()} | kwargs
    _checks.check_type("variables", variables, Mapping, "a dict of variables")
    _checks.check_tree("variables", variables)
    if "params" not in variables:
      raise ValueError(
        f"variables must have the collection 'params', got {sorted(variables)}"
      )
    variables = nn.meta.unbox(variables)  # boxes say where arrays lie
  else:  # flax.nnx is imported only for those who use it
    name = "kdropout_jax.subnets.nnx_models"
    model = importlib.import_module(name).functional(model, variables)
    variables = model.variables
  assert variables is not None
  return probing.Called(model, variables, args, kwargs)


def _check_statistics(called: probing.Called) -> None:
  """Refuses variables that a forward pass changes, whatever their name."""
  others = called.others
  has_norm = jax.tree.leaves(others.get("batch_stats", {}))
  changed = ["batch_stats"] if has_norm else []
  if jax.tree.leaves(others) and not changed:
    called = dataclasses.replace(
      called, kwargs={**called.kwargs, "mutable": list(others)}
    )
    _, after = called.apply(called.variables, *called.args)
    same = {
      k: jax.tree.map(np.array_equal, others[k], after.get(k, others[k]))
      for k in others
    }
    changed = [k for k in others if not all(jax.tree.leaves(same[k]))]
  if changed:
    raise UnsupportedError(
      f"the collection {changed[0]!r} keeps statistics of the dropped units,"
      " too, which a small network does not see (batch normalisation)"
    )


def _rngs() -> dict[str, jax.Array]:
  return {
    name: jax.random.key(0, impl="threefry2x32")
    for name in ("params", "dropout", "subnets")
  }
