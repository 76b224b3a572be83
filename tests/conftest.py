"""Strict settings for every test: eight CPU devices, no rank promotion.

The suite's time is compiling, most of all. So XLA's machine code is left
unoptimised, and what one process compiled is read by all others, those that
the tests start as well, from `.pytest_cache/programs`: a program's key is the
text of it, with XLA's version and flags.
"""

import gc
import importlib.util
import os
import pathlib
import shutil

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_FLAGS = (
  "--xla_force_host_platform_device_count=8",
  "--xla_backend_optimization_level=0",
)
for _flag in _FLAGS:
  if _flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
    _given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{_given} {_flag}".strip()

_PROGRAMS = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "programs"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_PROGRAMS))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402

if importlib.util.find_spec("beartype"):  # The environment for CUDA has none.
  from tests import shapes

  shapes.install()

jax.config.update("jax_numpy_rank_promotion", "raise")

# A traced program is a million small objects, and few are rubbish: collected
# at Python's pace, a tenth of the time goes to looking at them.
gc.set_threshold(100_000, 50, 100)


def pytest_sessionstart(session):
  """Forgets all programs once they fill a gigabyte, before tests begin."""
  if hasattr(session.config, "workerinput"):
    return
  files = _PROGRAMS.glob("*") if _PROGRAMS.is_dir() else ()
  if sum(file.stat().st_size for file in files) > 2**30:
    shutil.rmtree(_PROGRAMS)


@pytest.fixture
def strict_dtypes():
  """Refuses implicit dtype promotion; the core's tests ask for it."""
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture
def key():
  """A typed key, the same for every test."""
  return jax.random.key(20261)
