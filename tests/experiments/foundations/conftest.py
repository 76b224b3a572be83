"""The smoke scale of the older sources, and one store of trained cells."""

import grain  # noqa: F401  # It defines flags, which flagsaver would remove.
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """The folder of the cells, which all experiments' tests share."""
  return tmp_path_factory.mktemp("foundations")


@pytest.fixture
def call(workdir):
  """Calls a binary's main with flags."""

  def run(main, **flags):
    if not absl_flags.FLAGS.is_parsed():
      absl_flags.FLAGS(["tests"])
    given = {"scale": "smoke", "progress": False, "workdir": str(workdir)}
    with flagsaver.flagsaver(**(given | flags)):
      main([])

  return run
