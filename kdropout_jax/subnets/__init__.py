"""Subnets as small networks: take one out, train or evaluate it, put it back.

A step that trains one subnet touches its kept units alone. So their slices
are gathered into physically small arrays, which train as an ordinary dense
network, the optimizer included, and are put back afterwards.

The order is the same whatever is done with them:

1. `layout`: which axes of which parameters follow which dropout layer, read
   off a model with `kd.linen.Dropout` (nnx: `visitable`);
2. `sample_masks`: what each subnet keeps, for the ids of a step or of a run;
3. `max_sizes`: room for the largest of them, where masks vary in their count
   (Bernoulli); exact patterns need no ``sizes=``;
4. the work: `WindowTrainer` (k steps of one subnet, its optimizer state small,
   too), `DisjointTrainer` (the same for subnets that share no unit),
   `PermutedTrainer` (k steps of a whole group, masked, with units in order),
   `value_and_grad` (a step of T subnets, any optimizer), `evaluate` (many
   subnets, each by itself), or `extract` and `insert` by hand.

`kd.analysis` says what trained subnets are worth, alone and together.
"""

import importlib
from typing import TYPE_CHECKING

from kdropout_jax.subnets.discovery import layout
from kdropout_jax.subnets.disjoint import DisjointTrainer
from kdropout_jax.subnets.disjoint import DisjointWindow
from kdropout_jax.subnets.disjoint import Exchange
from kdropout_jax.subnets.disjoint import check_disjoint
from kdropout_jax.subnets.evaluation import evaluate
from kdropout_jax.subnets.extraction import extract
from kdropout_jax.subnets.extraction import insert
from kdropout_jax.subnets.gradients import value_and_grad
from kdropout_jax.subnets.indexing import Table
from kdropout_jax.subnets.indexing import make_tables
from kdropout_jax.subnets.indexing import max_sizes
from kdropout_jax.subnets.layouts import Layout
from kdropout_jax.subnets.network import sample_masks
from kdropout_jax.subnets.network import small_network
from kdropout_jax.subnets.permuted import PermutedTrainer
from kdropout_jax.subnets.permuted import PermutedWindow
from kdropout_jax.subnets.probing.losses import check_loss
from kdropout_jax.subnets.probing.optimizers import check_optimizer
from kdropout_jax.subnets.replay import catch_up
from kdropout_jax.subnets.window import Window
from kdropout_jax.subnets.window import WindowTrainer

if TYPE_CHECKING:
  from kdropout_jax.subnets.nnx_models import visitable

__all__ = (
  "DisjointTrainer",
  "DisjointWindow",
  "Exchange",
  "Layout",
  "PermutedTrainer",
  "PermutedWindow",
  "Table",
  "Window",
  "WindowTrainer",
  "catch_up",
  "check_disjoint",
  "check_loss",
  "check_optimizer",
  "evaluate",
  "extract",
  "insert",
  "layout",
  "make_tables",
  "max_sizes",
  "sample_masks",
  "small_network",
  "value_and_grad",
  "visitable",
)


def __getattr__(name: str):
  """Imports flax.nnx only for those who use it."""
  if name == "visitable":
    module = importlib.import_module("kdropout_jax.subnets.nnx_models")
    return module.visitable
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
