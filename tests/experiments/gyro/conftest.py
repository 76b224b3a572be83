"""A tiny row of the analysis, and one store of its trained cells."""

import dataclasses

import grain  # noqa: F401  # It defines flags, which flagsaver would remove.
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.cells import experiment
from experiments.gyro import analysed

_SMALL = dict(
  hidden=16,
  num_hidden=2,
  num_train=128,
  batch_size=32,
  epochs=6,
  lr_drops=(4,),
)
_SIGMA = dict(total=8, concurrent=4, block_size=4)
_ROW = analysed.SCALES["smoke"].rows["MLP2/digits"]

TINY = dataclasses.replace(
  analysed.SCALES["smoke"],
  rows={
    "tiny": dataclasses.replace(
      _ROW,
      runs={
        method: own | _SMALL | {n: v for n, v in _SIGMA.items() if n in own}
        for method, own in _ROW.runs.items()
      },
    )
  },
  num_subnets=3,
)
"""24 steps, 4 an epoch; gyro has 2 windows of 12 steps with 4 subnets each."""


@pytest.fixture
def tiny(monkeypatch):
  """The scale that ``--scale=smoke`` names in these tests."""
  monkeypatch.setitem(analysed.SCALES, "smoke", TINY)
  return TINY


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """The folder of the cells, which the tests of the analysis share."""
  return tmp_path_factory.mktemp("gyro")


@pytest.fixture
def store(workdir):
  """The store of the analysis' tests."""
  return experiment.Store(workdir, 2, progress=False)


@pytest.fixture
def call(tiny, workdir):
  """Calls a binary's main with flags."""
  del tiny

  def run(main, **flags):
    if not absl_flags.FLAGS.is_parsed():
      absl_flags.FLAGS(["tests"])
    given = {
      "scale": "smoke",
      "progress": False,
      "workdir": str(workdir),
    }
    with flagsaver.flagsaver(**(given | flags)):
      main([])

  return run
