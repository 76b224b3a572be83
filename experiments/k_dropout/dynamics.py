"""Each subnet of a sequential run by itself: during the run, and after it."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.cells import finished
from experiments.cells import networks
from experiments.judge import curves as curves_lib
from experiments.k_dropout import arms
from experiments.k_dropout import paper as paper_lib
from experiments.k_dropout import sizes
from experiments.report import figures
from experiments.report import rows as rows_lib
from experiments.run import config as config_lib

_MAX_FOLLOWED = 60  # subnets whose curves are kept; more are no figure


@dataclasses.dataclass(frozen=True)
class Boxes:
  """Accuracies on the test set after the last step, one row a seed.

  Attributes:
    full: [S], of the whole network.
    trained: [S, n], of the subnets that were trained; n may be 0.
    random: [S, r], of random subnets.
  """

  full: Float[np.ndarray, "S"]
  trained: Float[np.ndarray, "S n"]
  random: Float[np.ndarray, "S r"]

  def as_json(self) -> dict[str, Any]:
    """Returns plain data."""
    return {n: values.tolist() for n, values in vars(self).items()}


@dataclasses.dataclass(frozen=True)
class Followed:
  """A run whose subnets were followed; what its methods return is in points.

  Attributes:
    cell: the first seed's configuration.
    seeds: the seeds.
    num_steps: of the run.
    watched: the split of the curves.
    steps: [t], steps of the curves.
    curves: [S, n, t], accuracy of each subnet, a share as in `boxes`.
    boxes: after the last step.
  """

  cell: config_lib.RunConfig
  seeds: list[int]
  num_steps: int
  watched: str
  steps: tuple[int, ...]
  curves: Float[np.ndarray, "S n t"]
  boxes: Boxes

  @property
  def k(self) -> int:
    """Steps of a window."""
    return self.cell.k

  @property
  def num_subnets(self) -> int:
    """Subnets that the run trains."""
    return -(-self.num_steps // self.k)

  def as_json(self) -> dict[str, Any]:
    """Returns plain data."""
    return {
      "k": self.k,
      "num_subnets": self.num_subnets,
      "optimizer": self.cell.optimizer,
      "watched": self.watched,
      "steps": list(self.steps),
      "curves": self.curves.tolist(),
      **self.boxes.as_json(),
    }

  def u_shape(self) -> Float[np.ndarray, "S"]:
    """Returns first and last sixth minus the middle, on the test set."""
    return 100 * curves_lib.u_shape(self.boxes.trained)

  def retention(self, first: int) -> Float[np.ndarray, "S"]:
    """Returns end minus window's end, over the first subnets."""
    return 100 * self._since_window()[:, :first].mean(axis=1)

  def loss_of_later(self) -> Float[np.ndarray, "S"]:
    """Returns window's end minus end, over all but the first and last."""
    return -100 * self._since_window()[:, 1:-1].mean(axis=1)

  def _since_window(self) -> Float[np.ndarray, "S n"]:
    ends = [
      self.steps.index(min((i + 1) * self.k, self.num_steps))
      for i in range(self.curves.shape[1])
    ]
    at_end = self.curves[:, np.arange(len(ends)), ends]
    return self.curves[:, :, -1] - at_end

  @property
  def has_window_ends(self) -> bool:
    """Whether the curves have a point at the end of every window."""
    ends = range(self.k, self.num_steps + 1, self.k)
    return 0 < self.curves.shape[1] and set(ends) <= set(self.steps)


def follow(run: finished.Trained, scale: sizes.Scale) -> Followed:
  """Evaluates every trained subnet at every snapshot, and at the end.

  A run of more than 60 subnets has no curves: only box plots.
  """
  nets, cell = run.nets, run.cells[0]
  count = -(-nets.num_steps // cell.k)
  ids = np.arange(count)
  watched = nets.watched()
  inputs, labels = nets.split(watched, scale.num_rows)
  curves = np.zeros((len(run.cells), 0, len(run.steps)))
  if count <= _MAX_FOLLOWED:
    curves = np.stack(
      [
        np.stack(
          [
            nets.subnet_accuracies(
              run.params(own, step), own.seed, ids, inputs, labels
            )
            for step in run.steps
          ],
          axis=1,
        )
        for own in run.cells
      ]
    )
  return Followed(
    cell=cell,
    seeds=run.seeds,
    num_steps=nets.num_steps,
    watched={"valid": "held-out", "test": "test"}[watched],
    steps=run.steps,
    curves=curves,
    boxes=compare(run, scale, ids),
  )


def compare(run: finished.Trained, scale: sizes.Scale, ids: Any = ()) -> Boxes:
  """Returns the final accuracies of the subnets `ids` and of random ones."""
  nets = run.nets
  inputs, labels = nets.split("test")
  groups: dict[str, list[np.ndarray]] = {"trained": [], "random": []}
  wanted = {
    "trained": np.asarray(ids, np.int64),
    "random": networks.random_ids(scale.num_random),
  }
  for cell in run.cells:
    params = run.params(cell)
    for name, subnets in wanted.items():
      found = np.zeros(0)
      if len(subnets):
        found = nets.subnet_accuracies(
          params, cell.seed, subnets, inputs, labels
        )
      groups[name].append(found)
  full = [result["test_accuracy"][0] for result in run.results]
  return Boxes(
    np.array(full), np.stack(groups["trained"]), np.stack(groups["random"])
  )


def rows(found: Sequence[Followed]) -> list[rows_lib.Row]:
  """Returns the rows that the claims read, in points."""
  result = []
  for one in found:
    share = one.k / one.num_steps
    own = {"method": "sequential", "m": 1, "k": one.k, "k_over_T": share}
    measures = {}
    if one.num_subnets > 2:
      measures["u_shape"] = one.u_shape()
    if one.has_window_ends and one.num_subnets > 3:
      measures["retention_of_first"] = one.retention(1)
      measures["retention_of_first_three"] = one.retention(3)
      measures["loss_of_later"] = one.loss_of_later()
    for name, values in measures.items():
      result += _per_seed(own, one.seeds, name, values)
  if len(found) > 1:
    own = {"method": "sequential", "m": 1}
    ks = np.array([one.k for one in found])
    trained = _stack([one.boxes.trained for one in found])
    random = _stack([one.boxes.random for one in found])
    for name, values in (
      ("slope_of_trained", trained),
      ("slope_of_trained_minus_random", trained - random),
    ):
      slopes = curves_lib.slope_per_doubling(ks, values)
      result += _per_seed(own, found[0].seeds, name, slopes)
  return result


def arm_rows(label: str, one: Followed) -> list[rows_lib.Row]:
  """Returns both arms of the U, in points, for each seed."""
  share = one.k / one.num_steps
  return arms.rows(label, one.k, share, one.seeds, one.boxes.trained)


def draw(
  path: pathlib.Path,
  found: Mapping[str, Sequence[Followed]],
  references: Mapping[str, Boxes],
  with_paper: bool,
) -> None:
  """Draws figures 3, 5 and 4 (with 8 to 10), in this order."""
  panels = [
    _by_index(label, many[-1], with_paper) for label, many in found.items()
  ]
  panels.append(_box_panel(found["adam"], references))
  panels += [_during(one) for one in found["adam"][-3:] if len(one.steps)]
  levels = {
    name: 100 * float(np.mean(boxes.full)) for name, boxes in references.items()
  }
  panels = [dataclasses.replace(panel, levels=levels) for panel in panels]
  figures.draw(path, panels[: figures.MAX_PANELS], columns=4)


def _by_index(label: str, one: Followed, with_paper: bool) -> figures.Panel:
  paper = paper_lib.FIGURE_3.get(one.k) if with_paper else None
  return figures.Panel(
    title=f"after the run, k = {one.k} ({label})",
    x_label="subnet",
    lines={
      "trained subnets": (
        np.arange(one.num_subnets),
        100 * one.boxes.trained.T,
      )
    },
    paper={"paper": (np.arange(len(paper)), paper)} if paper else {},
  )


def _box_panel(many: Sequence[Followed], references) -> figures.Panel:
  boxes = {
    f"{name}, random": 100 * b.random.reshape(-1)
    for name, b in references.items()
  }
  for one in many:
    boxes[f"k={one.k} random"] = 100 * one.boxes.random.reshape(-1)
    boxes[f"k={one.k} trained"] = 100 * one.boxes.trained.reshape(-1)
    boxes[f"k={one.k} full"] = 100 * one.boxes.full
  return figures.Panel(title="trained and random subnets", boxes=boxes)


def _during(one: Followed) -> figures.Panel:
  """The first, middle and last subnets of a run, whose windows are marked."""
  count = one.curves.shape[1]
  chosen = {"first": 0, "second": 1, "middle": count // 2, "last": count - 1}
  return figures.Panel(
    title=f"{one.num_subnets} subnets, one every {one.k} steps",
    x_label="step",
    run=one.num_steps,
    lines={
      f"{name} subnet ({one.watched})": (one.steps, 100 * one.curves[:, i].T)
      for name, i in chosen.items()
      if i < count
    },
    marks=range(one.k, one.num_steps, one.k) if count <= 30 else (),
  )


def _stack(values: Sequence[np.ndarray]) -> Float[np.ndarray, "S n"]:
  return 100 * np.stack([v.mean(axis=1) for v in values], axis=1)


def _per_seed(own, seeds, name: str, values) -> list[rows_lib.Row]:
  return [
    {**own, "seed": seed, name: float(value)}
    for seed, value in zip(seeds, values)
  ]
