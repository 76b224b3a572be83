"""Strict settings for every test: eight CPU devices, no rank promotion.

XLA's machine code is left unoptimised, which saves a quarter of the suite's
time: it is compiling, most of all.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_FLAGS = (
  "--xla_force_host_platform_device_count=8",
  "--xla_backend_optimization_level=0",
)
for _flag in _FLAGS:
  if _flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
    _given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{_given} {_flag}".strip()

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def strict_dtypes():
  """Refuses implicit dtype promotion; the core's tests ask for it."""
  with jax.numpy_dtype_promotion("strict"):
    yield


@pytest.fixture
def key():
  """A typed key, the same for every test."""
  return jax.random.key(20261)
