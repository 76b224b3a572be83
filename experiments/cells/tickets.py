"""Winning tickets: rounds of pruning as cells of a sweep.

Frankle and Carbin 2018, "The Lottery Ticket Hypothesis"; gyro dropout, figure
6. A round prunes what the round before it has trained, rewinds, and trains
again with the method, the seed and so the batches of the first training. Its
cell is a `TicketConfig`, named by its own digest, so that finished rounds are
skipped and stopped ones continue as in any sweep. Masks are in the optimizer's
state: one compiled program trains all rounds of a network.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kdropout_jax as kd
from experiments.cells import networks
from experiments.cells import sweeps
from experiments.run import config as config_lib
from experiments.run import setup as setup_lib
from experiments.run import snapshots
from kdropout_jax.analysis import pruning
from kdropout_jax.analysis import structured_pruning
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import state as state_lib

KINDS = ("weights", "units")

_MAX_PROGRAMS = 8


@dataclasses.dataclass(frozen=True)
class TicketConfig(config_lib.RunConfig):
  """A round of pruning: what is trained, and how it was pruned.

  Attributes:
    kind: "weights", by magnitude; "units", by the norm of what they make and
      read, which is structured pruning.
    fractions: share of the weights, or units, left after each round so far.
    rewind_step: step whose parameters the ticket starts from, 0 for the
      initialisation. Its schedule, and its optimizer, start anew.
    scope: of magnitudes, "layer" or "global".
  """

  kind: str = "weights"
  fractions: tuple[float, ...] = (0.5,)
  rewind_step: int = 0
  scope: str = "layer"

  def __post_init__(self):
    super().__post_init__()
    config_lib.check_choice("kind", self.kind, KINDS)
    config_lib.check_choice("scope", self.scope, ("layer", "global"))
    object.__setattr__(self, "fractions", tuple(map(float, self.fractions)))
    for before, after in zip((1.0, *self.fractions), self.fractions):
      pruning.check_fraction("fractions", after)
      if after >= before:
        raise ValueError(
          f"fractions must fall from below 1, got {list(self.fractions)}"
        )
    if not self.fractions:
      raise ValueError("fractions must hold one round or more, got none")
    if self.rewind_step and self.rewind_step not in self.snapshot_steps:
      raise ValueError(
        f"rewind_step must be 0 or one of the snapshot_steps"
        f" {self.snapshot_steps}, got {self.rewind_step}"
      )
    if self.kind == "units" and self.scope != "layer":
      raise ValueError(
        f"scope must be layer where units are pruned, got {self.scope!r}"
      )
    if self.subnet_training != "masked":
      raise ValueError(
        "subnet_training must be masked for a ticket, got"
        f" {self.subnet_training!r}"
      )

  def identity(self) -> dict[str, Any]:
    """Returns the first training's name, and how it was pruned."""
    own = ("kind", "fractions", "rewind_step", "scope")
    pruned = {name: getattr(self, name) for name in own}
    pruned["fractions"] = list(self.fractions)
    return {**self.first().identity(), "ticket": pruned}

  def first(self) -> config_lib.RunConfig:
    """Returns the cell of the first training, of the whole network."""
    fields = dataclasses.fields(config_lib.RunConfig)
    return config_lib.RunConfig(
      **{f.name: getattr(self, f.name) for f in fields}
    )

  def previous(self) -> config_lib.RunConfig:
    """Returns the cell that this one was pruned from."""
    if len(self.fractions) == 1:
      return self.first()
    return dataclasses.replace(self, fractions=self.fractions[:-1])


def ticket(
  cell: config_lib.RunConfig,
  fractions: Sequence[float],
  *,
  kind: str = "weights",
  rewind_step: int = 0,
  scope: str = "layer",
) -> TicketConfig:
  """Returns the ticket that rounds of pruning find in a cell's network."""
  fields = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
  return TicketConfig(
    **fields,
    kind=kind,
    fractions=tuple(fractions),
    rewind_step=rewind_step,
    scope=scope,
  )


def make(
  configs: Sequence[config_lib.RunConfig],
  data_dir: str | None = None,
  data_workers: int = 0,
  *,
  folder: pathlib.Path,
) -> "PrunedSetup":
  """Returns the set-up of tickets that train in one program.

  Args:
    configs: `TicketConfig`s, one or more, of the same kind and rounds.
    data_dir: where prepared datasets live.
    data_workers: processes that read a stream.
    folder: of the sweep, where the cells that they are pruned from live.
  """
  tickets = tuple(c for c in configs if isinstance(c, TicketConfig))
  assert len(tickets) == len(configs)
  whole = setup_lib.make([t.first() for t in tickets], data_dir, data_workers)
  fields = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
  fields["program"] = _pruned_program(whole.program)
  return PrunedSetup(**fields, whole=whole, tickets=tickets, folder=folder)


@dataclasses.dataclass(frozen=True)
class PrunedSetup(setup_lib.Setup):
  """The set-up of tickets.

  Attributes:
    whole: the set-up of the first training.
    tickets: the members.
    folder: where the cells that they are pruned from live.
  """

  whole: setup_lib.Setup | None = None
  tickets: tuple[TicketConfig, ...] = ()
  folder: pathlib.Path = pathlib.Path()

  def init(self) -> state_lib.TrainState:
    """Returns the rewound and pruned states, their masks in the optimizer."""
    assert self.whole is not None
    state, first = self.whole.init(), self.tickets[0]
    masks = find_masks(
      self._params(state, [t.previous() for t in self.tickets], self.num_steps),
      first.fractions[-1],
      kind=first.kind,
      scope=first.scope,
    )
    start: Any = state.params
    if first.rewind_step:
      cells = [t.first() for t in self.tickets]
      start = self._params(state, cells, first.rewind_step)
    return self.program.devices.replicate(
      dataclasses.replace(
        state,
        params=pruning.apply(start, masks),
        opt_state=kd.optim.PrunedState(state.opt_state, masks),
      )
    )

  def _params(self, state: state_lib.TrainState, cells, step: int) -> Any:
    """Returns the parameters of finished cells, with an axis over members."""
    like = snapshots.kept(state)
    kept = [sweeps.params(cell, self.folder, step, like) for cell in cells]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    return stacked["params"] if state.collections else stacked


def find_masks(
  params: Any, fraction: float, *, kind: str = "weights", scope: str = "layer"
) -> Any:
  """Returns what the next round leaves of each member's network.

  Pruned weights are zero in `params`, so that they are the smallest; where
  too few others are left, they stay pruned all the same.

  Args:
    params: trained parameters, with an axis over members.
    fraction: share of all weights, or of each layer's units, to leave.
    kind: one of `KINDS`.
    scope: of magnitudes, "layer" or "global".

  Returns:
    A tree of bool like `params`.
  """

  return _finder(fraction, kind, scope)(params)


@functools.lru_cache(maxsize=32)
def _finder(fraction: float, kind: str, scope: str) -> Callable[[Any], Any]:
  def weights(own):
    left = jax.tree.map(_is_left, own)
    return pruning.magnitude_masks(own, fraction, left, scope=scope)  # pyright: ignore[reportArgumentType]

  def units(own):
    layout = networks.dense_layout(own)
    masks = structured_pruning.unit_masks(own, layout, fraction)
    return structured_pruning.parameter_masks(own, layout, masks)

  return jax.jit(jax.vmap(weights if kind == "weights" else units))


def share_left(params: Any) -> float:
  """Returns the share of a ticket's weights that are not zero."""
  kernels = [np.asarray(p) for p in jax.tree.leaves(params) if np.ndim(p) >= 2]
  return sum(np.count_nonzero(k) for k in kernels) / sum(
    k.size for k in kernels
  )


def _is_left(param: Any) -> Any:
  if pruning.is_matrix(param):
    return param != 0
  return jnp.ones(param.shape, jnp.bool_)


@functools.lru_cache(maxsize=_MAX_PROGRAMS)
def _pruned_program(whole: program_lib.Program) -> program_lib.Program:
  """Returns the program that trains tickets of what `whole` trains."""

  def make_optimizer(learning_rate):
    return kd.optim.pruned(whole.task.make_optimizer(learning_rate))

  task = dataclasses.replace(whole.task, make_optimizer=make_optimizer)
  return program_lib.Program(task, whole.devices)
