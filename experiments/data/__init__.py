"""Datasets: prepared once, read by one path, preprocessed on the device.

>>> from experiments import data
>>> digits = data.load("digits")
>>> digits.train_x.shape, digits.info.num_classes
((1500, 8, 8, 1), 10)
"""

from experiments.data.dataset import Dataset
from experiments.data.dataset import Info
from experiments.data.dataset import holdout
from experiments.data.dataset import subset
from experiments.data.loading import load
from experiments.data.pixels import Pixels
from experiments.data.pixels import augment
from experiments.data.pixels import centre_crop
from experiments.data.pixels import fit as fit_pixels
from experiments.data.preparation import default_data_dir
from experiments.data.preparation import prepare
from experiments.data.registry import names

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
