"""The networks of finished cells: whole, and their subnets as real networks.

A subnet is ONE mask a layer, evaluated as the small network that it is, scaled
as in training (k-dropout paper, sections 3.2 and 3.3).
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

import kdropout_jax as kd
from experiments.run import config as config_lib
from experiments.run import setup as setup_lib
from experiments.run import snapshots
from kdropout_jax.analysis import subnet_accuracy
from kdropout_jax.training import rng
from kdropout_jax.training import step as step_lib

RANDOM_IDS = 2**31
"""Ids from here on are random subnets: no run of ours trains so many."""


class Networks:
  """Applies networks of one architecture, and subnets of them.

  Args:
    config: a cell; its model, data and pattern count. One without dropout has
      subnets of the same rate as the others.
    data_dir: where prepared datasets live.

  Raises:
    ValueError: a model without dense layers `hidden_0`, ..., `logits`.
  """

  def __init__(self, config: config_lib.RunConfig, data_dir: str | None = None):
    if config.method == "none":
      config = dataclasses.replace(config, method="standard")
    setup = setup_lib.make([config], data_dir)
    self.task, self.config = setup.task, config
    self.num_steps, self.info = setup.num_steps, setup.info
    self._data = jax.tree.map(np.asarray, setup.arrays())
    self._splits = setup.splits
    state = jax.eval_shape(
      functools.partial(step_lib.init_state, self.task),
      jax.tree.map(lambda x: x[0], setup.members),
      self._data.inputs[:1],
    )
    self.like, self._has_others = snapshots.kept(state), bool(state.collections)
    self.layout = dense_layout(state.params)
    self._depth = _num_hidden(state.params)
    self.sizes = _sizes(state.params, config.rate)
    self._masks = jax.jit(self._sample_masks)
    self._subnets = jax.jit(self._subnet_logits)
    self._accuracies = jax.jit(self._subnet_accuracies)
    self.logits = jax.jit(self.apply)

  def split(
    self, name: str, rows: int | None = None
  ) -> tuple[np.ndarray, Int[np.ndarray, "N"]]:
    """Returns inputs and labels of a split, its first `rows`."""
    start, stop = self._splits[name]
    stop = stop if rows is None else min(stop, start + rows)
    return self._data.inputs[start:stop], self._data.labels[start:stop]

  def watched(self) -> str:
    """Returns the split that may be looked at during a run."""
    return "valid" if "valid" in self._splits else "test"

  def variables(self, kept: Any) -> Any:
    """Returns what the model takes, from what a snapshot holds."""
    return kept if self._has_others else {"params": kept}

  def apply(self, params: Any, inputs: Any) -> Float[Array, "B C"]:
    """Returns the logits of the whole network."""
    logits: Any = self.task.model.apply(
      self.variables(params), self.task.preprocess(inputs), train=False
    )
    return logits

  def subnet(
    self, params: Any, key: Array, subnet: UInt[Array, ""], inputs: Any
  ) -> tuple[Float[Array, "B C"], Float[Array, "B F"]]:
    """Returns a subnet's logits and its last hidden layer, as in training.

    Traced: the key is a run's (`run_key`), and every row has the one subnet.
    """
    last = f"dropout_{self._depth - 1}"
    logits, seen = self.task.model.apply(
      self.variables(params),
      self.task.preprocess(inputs),
      train=True,
      subnets=subnet[None],
      rngs={rng.SUBNETS: key, "dropout": key},
      capture_intermediates=lambda module, method: (
        module.name == last and method == "__call__"
      ),
      mutable=["intermediates"],
    )
    (features,) = jax.tree.leaves(seen)
    return logits, features  # pyright: ignore[reportReturnType]

  def masks(self, seed: int, ids: Int[np.ndarray, "n"]) -> dict[str, kd.Masks]:
    """Returns the masks of subnets of the run with `seed`, T = n."""
    return self._masks(run_key(seed), jnp.asarray(ids, jnp.uint32))

  def subnet_logits(
    self, params: Any, seed: int, ids: Int[np.ndarray, "n"], inputs: Any
  ) -> Float[np.ndarray, "n B C"]:
    """Returns the logits of subnets, each a network of its own."""
    masks, count = self._padded(seed, ids)
    return np.asarray(self._subnets(params, masks, inputs))[:count]

  def subnet_accuracies(
    self,
    params: Any,
    seed: int,
    ids: Int[np.ndarray, "n"],
    inputs: Any,
    labels: Int[np.ndarray, "B"],
  ) -> Float[np.ndarray, "n"]:
    """Returns the accuracies of subnets, each a network of its own."""
    masks, count = self._padded(seed, ids)
    found = self._accuracies(params, masks, inputs, labels)
    return np.asarray(found, np.float64)[:count]

  def _padded(self, seed: int, ids):
    # A power of two at least: few shapes, few compilations.
    count = len(ids)
    padded = np.resize(np.asarray(ids), 1 << max(2, (count - 1).bit_length()))
    masks = self.masks(seed, padded)
    for layer, size in kd.subnets.max_sizes(masks).items():
      if size > self.sizes[layer]:
        raise ValueError(
          f"a subnet keeps {size} units of {layer!r}, more than the"
          f" {self.sizes[layer]} that were allowed for"
        )
    return masks, count

  def _sample_masks(self, key, ids):
    inputs = self.task.preprocess(self._data.inputs[:1])
    params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.like)

    def run(ids):
      return self.task.model.apply(
        self.variables(params),
        inputs,
        train=True,
        subnets=ids,
        rngs={rng.SUBNETS: key, "dropout": key},
      )

    return kd.subnets.sample_masks(run, ids)

  def _subnet_logits(self, params, masks, inputs):
    return subnet_accuracy.logits(
      self.apply, params, masks, inputs, layout=self.layout, sizes=self.sizes
    )

  def _subnet_accuracies(self, params, masks, inputs, labels):
    return subnet_accuracy.accuracies(
      self.apply,
      params,
      masks,
      inputs,
      labels,
      layout=self.layout,
      sizes=self.sizes,
    )


def run_key(seed: int) -> Array:
  """Returns the key that the masks of the run with `seed` come from."""
  key = jax.random.key(seed, impl="threefry2x32")
  return rng.run_key(key, rng.SUBNETS)


def random_ids(count: int) -> Int[np.ndarray, "n"]:
  """Returns ids of random subnets, which no run trains."""
  return RANDOM_IDS + np.arange(count, dtype=np.int64)


def dense_layout(params: Any) -> kd.subnets.Layout:
  """Returns the layout of our models' dense layers, from their names.

  What `kd.subnets.layout` finds by probing; by name it costs nothing. Nothing
  else in our models follows units that are dropped.

  Raises:
    ValueError: other names.
  """
  depth = _num_hidden(params)
  if not depth or "logits" not in params:
    raise ValueError(
      "expected the dense layers hidden_0, hidden_1, ..., logits, got"
      f" {sorted(params)}"
    )
  axes: dict[str, dict[int, str]] = {}
  for i in range(depth):
    axes[f"hidden_{i}/kernel"] = {1: f"dropout_{i}"}
    if i > 0:
      axes[f"hidden_{i}/kernel"][0] = f"dropout_{i - 1}"
    if "bias" in params[f"hidden_{i}"]:
      axes[f"hidden_{i}/bias"] = {0: f"dropout_{i}"}
  axes["logits/kernel"] = {0: f"dropout_{depth - 1}"}
  return kd.subnets.Layout(axes)


def _num_hidden(params: Any) -> int:
  return sum(f"hidden_{i}" in params for i in range(len(params)))


def _sizes(params: Any, rate: float) -> dict[str, int]:
  """Returns room for Bernoulli masks: the mean and six deviations."""
  sizes = {}
  for i in range(_num_hidden(params)):
    width = params[f"hidden_{i}"]["kernel"].shape[1]
    room = (1 - rate) * width + 6 * math.sqrt(rate * (1 - rate) * width)
    sizes[f"dropout_{i}"] = min(width, max(1, math.ceil(room)))
  return sizes
