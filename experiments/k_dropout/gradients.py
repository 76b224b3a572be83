"""Cosines between the gradients of the subnets of one step."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kdropout_jax as kd
from experiments.cells import networks
from experiments.run import config as config_lib
from kdropout_jax.analysis import interference
from kdropout_jax.masks import schedules
from kdropout_jax.training import rng
from kdropout_jax.training import task as task_lib


class Cosines:
  """Measures interference in networks of one method.

  Args:
    nets: the networks.
    cell: a configuration of the method; its m is that of all.
  """

  def __init__(self, nets: networks.Networks, cell: config_lib.RunConfig):
    self._nets, self._m = nets, cell.m
    self._measure = jax.jit(functools.partial(interference.measure, self.loss))

  def loss(self, params, arg):
    """Returns the loss of one subnet on its rows."""
    key, subnet, inputs, labels = arg
    key = jax.random.wrap_key_data(key, impl="threefry2x32")
    task = self._nets.task
    logits: Any = task.model.apply(
      {"params": params},
      task.preprocess(inputs),
      train=True,
      subnets=subnet[None],
      rngs={rng.SUBNETS: key, "dropout": key},
    )
    return jnp.mean(task_lib.losses_and_hits(logits, labels)[0])

  def at(
    self,
    params,
    cell: config_lib.RunConfig,
    step: int,
    num_batches: int,
  ) -> dict[str, float]:
    """Returns the means over batches after `step` steps.

    The subnets are those that were trained last; the batches are those of
    that epoch. The control gives one of them all rows, group by group: the
    cosine between gradients that differ in nothing but their rows.
    """
    ids = subnets_at(self._nets, cell, step - 1)
    found = []
    for inputs, labels in self._batches(cell, step - 1, num_batches):
      own = self._of(params, cell, ids, inputs, labels)
      same = self._of(
        params, cell, np.repeat(ids[:1], len(ids)), inputs, labels
      )
      found.append([*own, *same])
    names = ("cosine", "alignment", "control_cosine", "control_alignment")
    return dict(zip(names, np.mean(found, axis=0).tolist()))

  def _of(self, params, cell, ids, inputs, labels) -> list[float]:
    key = jax.random.key_data(networks.run_key(cell.seed))
    keys = jnp.broadcast_to(key[None], (len(ids), *key.shape))
    values = self._measure(
      params, (keys, jnp.asarray(ids), jnp.asarray(inputs), jnp.asarray(labels))
    )
    return [float(value) for value in values]

  def _batches(self, cell, step: int, count: int) -> Sequence:
    """Returns batches of the step's epoch, rows split by their subnets."""
    inputs, labels = self._nets.split("train")
    key = jax.random.key(cell.seed, impl="threefry2x32")
    per_epoch = len(labels) // cell.batch_size
    order = np.asarray(
      rng.epoch_order(
        key, step // per_epoch, len(labels), cell.batch_size, cell.shuffle
      )
    )[:count]
    rows = order.reshape(len(order), self._m, -1)
    return [(inputs[own], labels[own]) for own in rows]


def subnets_at(
  nets: networks.Networks, cell: config_lib.RunConfig, step: int
) -> np.ndarray:
  """Returns the ids of the subnets that a cell trains at `step`.

  Raises:
    ValueError: a method whose subnets do not follow from the step alone.
  """
  schedule = cell.schedule(nets.num_steps)
  if schedule is None or isinstance(schedule, kd.Guided):
    raise ValueError(
      "method must have subnets that follow from the step alone, got"
      f" {cell.method!r}"
    )
  key = networks.run_key(cell.seed)
  ids = schedules.subnet_ids(step, key, schedule, cell.batch_size)
  return np.asarray(ids)
