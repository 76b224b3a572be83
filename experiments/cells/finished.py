"""Finished cells with their parameters after chosen steps."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool

from experiments.cells import experiment
from experiments.cells import networks
from experiments.cells import sizes
from experiments.cells import sweeps
from experiments.run import config as config_lib


@dataclasses.dataclass(frozen=True)
class Trained:
  """A method's cells, one a seed, all with the same snapshots.

  Attributes:
    cells: one a seed.
    folder: of the sweep.
    nets: applies their networks.
    results: one a cell.
  """

  cells: sweeps.Pack
  folder: Any
  nets: networks.Networks
  results: list[dict[str, Any]]

  @property
  def steps(self) -> tuple[int, ...]:
    """Steps after which there are parameters."""
    return self.cells[0].snapshot_steps

  @property
  def seeds(self) -> list[int]:
    """The seeds."""
    return [cell.seed for cell in self.cells]

  def params(self, cell: config_lib.RunConfig, step: int | None = None) -> Any:
    """Returns the parameters of a cell after `step`, or at the end."""
    step = self.nets.num_steps if step is None else step
    return sweeps.params(cell, self.folder, step, self.nets.like)

  def hits(self, cell: config_lib.RunConfig) -> Bool[np.ndarray, "N"]:
    """Returns which test images a cell was right on."""
    return sweeps.hits(cell, self.folder)


def train(
  store: experiment.Store,
  scale: sizes.Scale,
  *,
  steps: tuple[int, ...] | None = None,
  seeds: range | None = None,
  **fields: Any,
) -> Trained:
  """Trains what is not there yet and returns it.

  Args:
    store: where cells live.
    scale: the size.
    steps: after which parameters are kept; default the last alone.
    seeds: default the scale's.
    **fields: of the configuration.
  """
  steps = (scale.num_steps,) if steps is None else steps
  cell = scale.config(snapshot_steps=steps, **fields)
  seeds = range(scale.seeds) if seeds is None else seeds
  return of(store, [dataclasses.replace(cell, seed=seed) for seed in seeds])


def of(store: experiment.Store, cells: sweeps.Cells) -> Trained:
  """Trains what is not there yet of one network's cells and returns it."""
  results = store.results(cells)
  nets = networks.Networks(cells[0], store.data_dir)
  return Trained(tuple(cells), store.folder, nets, results)
