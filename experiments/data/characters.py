"""Windows of a text as characters, each of which is told from those before."""

import pathlib

import numpy as np

from experiments.data import dataset as dataset_lib
from experiments.data import prepared
from experiments.data import registry


def build(spec: registry.Spec, folder: pathlib.Path) -> dataset_lib.Dataset:
  """Returns windows [N, L] of codes, and as labels the codes that follow.

  Args:
    spec: the dataset's.
    folder: where it is prepared.
  """
  train, test = (
    prepared.columns(folder, split)["window"]
    for split in ("train", spec.test_split)
  )
  return dataset_lib.Dataset(
    info=dataset_lib.Info(
      name=spec.name,
      task=spec.task,
      num_classes=spec.num_classes,
      note=prepared.note(spec, folder),
      counts=(("vocabulary", spec.num_classes),),
    ),
    train_x=train[:, :-1],
    train_labels=train[:, 1:].astype(np.int32),
    test_x=test[:, :-1],
    test_labels=test[:, 1:].astype(np.int32),
  )
