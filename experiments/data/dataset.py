"""`Dataset`: arrays of a dataset on the host, with its splits."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32

Inputs = Any
"""An array [N, ...], or a dict of them; always with the same leading axis."""

Labels = Int32[np.ndarray, "N *rest"]


@dataclasses.dataclass(frozen=True)
class Info:
  """What a table must say about a dataset.

  Attributes:
    name: as in ``--dataset``.
    task: ``"image"``, ``"packets"``, ``"pairs"``, ``"spans"`` or
      ``"characters"``.
    num_classes: labels are in [0, num_classes); 0 for spans.
    class_names: one a class, or empty.
    note: ``"official split"``, or how this differs: "own split", "partial".
    pixel_max: the largest value of a pixel; 0 if these are no images.
    counts: further facts, such as values of the test set never seen before.
  """

  name: str
  task: str
  num_classes: int
  class_names: tuple[str, ...] = ()
  note: str = "official split"
  pixel_max: int = 0
  counts: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Training and test examples, and validation ones after `holdout`.

  Attributes:
    info: what it is.
    train_x, test_x, valid_x: inputs; images are uint8 [N, H, W, C], packets
      float32 [N, F], text a dict of int32 [N, L], characters uint8 [N, L].
    train_labels, test_labels, valid_labels: int32 [N]; spans [N, 2], characters
      [N, L].
    extra: what a metric needs beside the labels (texts of SQuAD), or None.
  """

  info: Info
  train_x: Inputs
  train_labels: Labels
  test_x: Inputs
  test_labels: Labels
  valid_x: Inputs | None = None
  valid_labels: Labels | None = None
  extra: Any = None

  @property
  def num_train(self) -> int:
    return len(self.train_labels)


def holdout(dataset: Dataset, fraction: float, seed: int = 0) -> Dataset:
  """Moves a stratified share of the training set to the validation set.

  Args:
    dataset: one without a validation set.
    fraction: the share, in [0, 1).
    seed: picks the rows; the same rows for the same seed.

  Raises:
    ValueError: a wrong fraction, or one that leaves a side empty.
  """
  if not 0 <= fraction < 1:
    raise ValueError(f"fraction must be in [0, 1), got {fraction}")
  if dataset.valid_x is not None:
    raise ValueError("dataset must have no validation set yet, but it has one")
  if fraction == 0:
    return dataset
  count = round(fraction * dataset.num_train)
  if not 0 < count < dataset.num_train:
    raise ValueError(
      f"fraction must leave both sides some rows, got {fraction} of"
      f" {dataset.num_train} rows"
    )
  chosen = _stratified(dataset.train_labels, count, seed)
  valid = np.zeros(dataset.num_train, bool)
  valid[chosen] = True
  return dataclasses.replace(
    dataset,
    train_x=take(dataset.train_x, ~valid),
    train_labels=dataset.train_labels[~valid],
    valid_x=take(dataset.train_x, valid),
    valid_labels=dataset.train_labels[valid],
  )


def subset(dataset: Dataset, num_train: int, seed: int = 0) -> Dataset:
  """Keeps a stratified random choice of `num_train` training examples.

  Raises:
    ValueError: `num_train` is below 1 or more than there are.
  """
  if not 1 <= num_train <= dataset.num_train:
    raise ValueError(
      f"num_train must be in [1, {dataset.num_train}] for dataset"
      f" {dataset.info.name!r}, got {num_train}"
    )
  rows = _stratified(dataset.train_labels, num_train, seed)
  return dataclasses.replace(
    dataset,
    train_x=take(dataset.train_x, rows),
    train_labels=dataset.train_labels[rows],
  )


def take(inputs: Inputs, rows: Any) -> Inputs:
  """Returns the given rows of inputs, an array or a dict of them."""
  return jax.tree.map(lambda x: x[rows], inputs)


def _stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
  """Returns `count` sorted rows, every class in its share of the whole."""
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(labels))
  if labels.ndim > 1:  # Spans and texts have no classes.
    return np.sort(order[:count])
  # Rows sorted by class, at random within a class; every n / count-th one
  # then gives each class its share, to within one row.
  by_class = order[np.argsort(labels[order], kind="stable")]
  picks = np.floor((np.arange(count) + rng.random()) * len(labels) / count)
  return np.sort(by_class[picks.astype(np.int64)])
