"""Rounds of pruning after the trainings of rows and methods: figure 6.

Each pack (the seeds of a row and a method) goes through all its rounds before
the next begins: one program trains them, and a shard needs no other.
"""

import dataclasses
import functools

import tqdm

from experiments.cells import estimates
from experiments.cells import experiment
from experiments.cells import networks
from experiments.cells import sweeps
from experiments.cells import tickets
from experiments.gyro import analysed
from experiments.report import rows as rows_lib
from experiments.run import config as config_lib
from kdropout_jax.training import loop

METHODS = ("conventional", "gyro")

MEASURES = {"weights": "ticket_accuracy", "units": "structured_accuracy"}
"""{kind of pruning: the measure of its rows}; the claim reads the first."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """A pack and its rounds.

  Attributes:
    label: of the row.
    method: of the trainings.
    cells: of the first training.
    rounds: tickets of each round; a round comes after those it needs.
  """

  label: str
  method: str
  cells: sweeps.Pack
  rounds: tuple[tuple[tickets.TicketConfig, ...], ...]

  def all_cells(self) -> list[config_lib.RunConfig]:
    """Returns all cells, in the order in which they train."""
    return [*self.cells, *(cell for one in self.rounds for cell in one)]


def plans(
  scale: analysed.Scale,
  max_members: int,
  which: str = "0/1",
  data_dir: str | None = None,
) -> list[Plan]:
  """Returns the packs of a shard, with their rounds."""
  found = []
  for label, row in scale.rows.items():
    for method in METHODS:
      cells = analysed.cells(scale, label, method, data_dir)
      for pack in sweeps.packs(cells, max_members):
        found.append(Plan(label, method, pack, _rounds(scale, row, pack)))
  return sweeps.shard(found, which)  # pyright: ignore[reportArgumentType, reportReturnType]


def run(todo: list[Plan], store: experiment.Store) -> None:
  """Trains the cells that are not finished.

  Raises:
    loop.NonFiniteLoss: after all others, if cells diverged; it names them.
    loop.Stopped: Ctrl-C; the same call continues.
  """
  make = functools.partial(tickets.make, folder=store.folder)
  diverged = []
  total = sum(len(plan.all_cells()) for plan in todo)
  with tqdm.tqdm(
    total=total, unit="cell", disable=not store.progress, dynamic_ncols=True
  ) as bar:
    for plan in todo:
      bar.set_postfix_str(f"{plan.label}, {plan.method}")
      try:
        for cells in (plan.cells, *plan.rounds):
          sweeps.run(
            cells,
            store.folder,
            max_members=len(cells),
            data_dir=store.data_dir,
            make=make if isinstance(cells[0], tickets.TicketConfig) else None,
            progress=False,
          )
          bar.update(len(cells))
      except loop.NonFiniteLoss as error:
        diverged.append(f"{plan.label}, {plan.method}: {error}")
  if diverged:
    raise loop.NonFiniteLoss("; ".join(diverged))


def describe(todo: list[Plan], store: experiment.Store) -> str:
  """Returns a table of what is to be trained, and the time it will take."""
  cells = [cell for plan in todo for cell in plan.all_cells()]
  return estimates.describe(
    cells, store.folder, store.max_members, "0/1", _name
  )


def rows(done: list[Plan], store: experiment.Store) -> list[rows_lib.Row]:
  """Returns a row for each finished cell of each kind of pruning, in points.

  A run that did not train all Sigma has no measure that a claim reads.
  """
  found = []
  for plan in done:
    nets = networks.Networks(plan.cells[0], store.data_dir)
    for kind, measure in MEASURES.items():
      own = [one for one in plan.rounds if one[0].kind == kind]
      for cells in (plan.cells, *own):
        for cell in cells:
          row = _row(plan, cell, store, nets)
          if row["all_trained"]:
            row[measure] = row["accuracy"]
          found.append({**row, "kind": kind})
  return found


def _row(
  plan: Plan,
  cell: config_lib.RunConfig,
  store: experiment.Store,
  nets: networks.Networks,
) -> rows_lib.Row:
  result = sweeps.result(cell, store.folder)
  assert result is not None
  kept = sweeps.params(cell, store.folder, nets.num_steps, nets.like)
  share = cell.fractions[-1] if isinstance(cell, tickets.TicketConfig) else 1.0
  return {
    "row": plan.label,
    "dataset": cell.dataset,
    "model": cell.model,
    "method": plan.method,
    "seed": cell.seed,
    "percent_left": _percent(share),
    "weights_left": 100 * tickets.share_left(nets.variables(kept)["params"]),
    "accuracy": 100 * result["test_accuracy"][0],
    "all_trained": cell.method != "gyro" or result["num_subnets"] == cell.total,
  }


def _rounds(
  scale: analysed.Scale, row: analysed.TableRow, pack: sweeps.Pack
) -> tuple[tuple[tickets.TicketConfig, ...], ...]:
  rewind = pack[0].snapshot_steps[0] if row.rewind_epochs else 0
  found = []
  for kind in tickets.KINDS:
    scope = row.scope if kind == "weights" else "layer"
    for count in range(1, len(scale.fractions) + 1):
      found.append(
        tuple(
          tickets.ticket(
            cell,
            scale.fractions[:count],
            kind=kind,
            rewind_step=rewind,
            scope=scope,
          )
          for cell in pack
        )
      )
  return tuple(found)


def _percent(share: float) -> float | int:
  """Returns 100 times a share; an integer where it is one: 5, not 5.0."""
  percent = round(100 * share, 6)
  return int(percent) if percent == int(percent) else percent


def _name(cell: config_lib.RunConfig) -> str:
  words = f"{cell.dataset} {cell.model} {cell.method}"
  if isinstance(cell, tickets.TicketConfig):
    return f"{words}, {_percent(cell.fractions[-1])} % of the {cell.kind}"
  return words
