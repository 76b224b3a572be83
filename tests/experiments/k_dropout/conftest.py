"""Small versions of the scales and grids, and one store of trained cells."""

import dataclasses

import grain  # noqa: F401  # It defines flags, which flagsaver would remove.
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.cells import experiment
from experiments.k_dropout import sizes

TINY = dataclasses.replace(
  sizes.SMOKE,
  seeds=2,
  ks=(10, 30),
  ms=(1, 8),
  pool_sizes=(1, 10),
  pool_ms=(8,),
  windows=(20, 60),
  num_rows=60,
  max_members=2,
)
"""Two of everything: each program takes seconds to compile."""


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """The folder of the cells, which all experiments' tests share."""
  return tmp_path_factory.mktemp("k_dropout")


@pytest.fixture
def tiny(monkeypatch):
  """The scale that ``--scale=smoke`` names in these tests."""
  monkeypatch.setitem(sizes.SCALES, "smoke", TINY)
  return TINY


@pytest.fixture
def store(workdir):
  """The store of these tests."""
  return experiment.Store(workdir, 2, progress=False)


@pytest.fixture
def call(tiny, workdir):
  """Calls a binary's main with flags."""
  del tiny

  def run(main, **flags):
    if not absl_flags.FLAGS.is_parsed():
      absl_flags.FLAGS(["tests"])
    given = {"scale": "smoke", "progress": False, "workdir": str(workdir)}
    with flagsaver.flagsaver(**(given | flags)):
      main([])

  return run
