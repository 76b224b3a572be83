"""Rows of network traffic to features, from training statistics only."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from experiments.data import dataset as dataset_lib
from experiments.data import prepared
from experiments.data import registry

SCALINGS = ("log", "minmax")

_NOT_CATEGORICAL = ("numeric", "attack", "label")


@dataclasses.dataclass(frozen=True)
class Featurizer:
  """What the training set taught about each column.

  Attributes:
    scaling: ``"log"``, log(1 + x) over its training maximum, or ``"minmax"``,
      the training range to [0, 1]. Test values may lie outside.
    low, high: the training range of each number [D], after the log.
    vocabulary: {category: its training values, sorted}; a value becomes a one
      at its place, an unknown one becomes zeros.
  """

  scaling: str
  low: Float[np.ndarray, "D"]
  high: Float[np.ndarray, "D"]
  vocabulary: Mapping[str, Sequence[bytes]]

  def __call__(
    self,
    numeric: Float[np.ndarray, "N D"],
    categorical: Mapping[str, Sequence[bytes]],
  ) -> tuple[Float[np.ndarray, "N F"], dict[str, int]]:
    """Returns the features, and how many values were unknown, a category."""
    span = np.where(self.high > self.low, self.high - self.low, 1.0)
    blocks = [(_transform(numeric, self.scaling) - self.low[None]) / span[None]]
    unknown = {}
    for name, values in self.vocabulary.items():
      place = {value: i for i, value in enumerate(values)}
      index = np.array([place.get(value, -1) for value in categorical[name]])
      one_hot = np.zeros((len(index), len(values)), np.float32)
      known = index >= 0
      one_hot[np.flatnonzero(known), index[known]] = 1
      blocks.append(one_hot)
      unknown[name] = int((~known).sum())
    return np.concatenate(blocks, 1, dtype=np.float32), unknown


def fit(
  numeric: Float[np.ndarray, "N D"],
  categorical: Mapping[str, Sequence[bytes]],
  scaling: str = "log",
) -> Featurizer:
  """Returns the `Featurizer` of a training set.

  Raises:
    ValueError: an unknown scaling.
  """
  if scaling not in SCALINGS:
    raise ValueError(
      f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}"
    )
  values = _transform(numeric, scaling)
  return Featurizer(
    scaling,
    np.zeros(values.shape[1]) if scaling == "log" else values.min(0),
    values.max(0),
    {name: sorted(set(column)) for name, column in categorical.items()},
  )


def build(
  spec: registry.Spec,
  folder: pathlib.Path,
  *,
  multi_class: bool = False,
  scaling: str = "log",
  test_split: str | None = None,
) -> dataset_lib.Dataset:
  """Returns a dataset of packets as float32 features [N, F].

  Args:
    spec: the dataset's.
    folder: where it is prepared.
    multi_class: the classes of attack as labels instead of normal or attack.
    scaling: of the numbers, one of `SCALINGS`.
    test_split: another test set, such as ``"test21"`` of NSL-KDD.

  Raises:
    ValueError: an unknown scaling or split, or numbers that are not finite.
  """
  train = prepared.columns(folder, "train")
  test = prepared.columns(folder, test_split or spec.test_split)
  for split, rows in (("train", train), ("test", test)):
    if not np.isfinite(rows["numeric"]).all():
      raise ValueError(
        f"{folder}, split {split}: expected finite numbers, got NaN or"
        " infinity; prepare it again from the original files"
      )
  featurize = fit(train["numeric"], _categories(train), scaling)
  train_x, _ = featurize(train["numeric"], _categories(train))
  test_x, unknown = featurize(test["numeric"], _categories(test))
  names = prepared.class_names(folder)
  return dataset_lib.Dataset(
    info=dataset_lib.Info(
      name=spec.name,
      task=spec.task,
      num_classes=len(names) if multi_class else 2,
      class_names=names if multi_class else ("normal", "attack"),
      note=prepared.note(spec, folder),
      counts=tuple(
        (f"unknown test values of {name}", count)
        for name, count in unknown.items()
      ),
    ),
    train_x=train_x,
    train_labels=_labels(train, multi_class),
    test_x=test_x,
    test_labels=_labels(test, multi_class),
  )


def _transform(numeric, scaling):
  return np.log1p(np.maximum(numeric, 0)) if scaling == "log" else numeric


def _categories(rows):
  return {k: v for k, v in rows.items() if k not in _NOT_CATEGORICAL}


def _labels(rows, multi_class):
  labels = rows["label"].astype(np.int32)  # Class 0 is normal traffic.
  return labels if multi_class else (labels != 0).astype(np.int32)
