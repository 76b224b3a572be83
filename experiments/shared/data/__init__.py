"""Datasets: prepared once, read by one path, preprocessed on the device.

>>> from experiments.shared import data
>>> digits = data.load("digits")
>>> digits.train_x.shape, digits.info.num_classes
((1500, 8, 8, 1), 10)
"""

from experiments.shared.data.dataset import Dataset
from experiments.shared.data.dataset import Info
from experiments.shared.data.dataset import holdout
from experiments.shared.data.dataset import subset
from experiments.shared.data.loading import load
from experiments.shared.data.pixels import Pixels
from experiments.shared.data.pixels import augment
from experiments.shared.data.pixels import centre_crop
from experiments.shared.data.pixels import fit as fit_pixels
from experiments.shared.data.preparation import default_data_dir
from experiments.shared.data.preparation import prepare
from experiments.shared.data.registry import names

__all__ = [
  "Dataset",
  "Info",
  "Pixels",
  "augment",
  "centre_crop",
  "default_data_dir",
  "fit_pixels",
  "holdout",
  "load",
  "names",
  "prepare",
  "subset",
]
