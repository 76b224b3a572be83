"""Several processes of one run: they start alike, and they stop together.

Each asks the others at a few places: before it prepares, once it has prepared,
and after each dispatch. What one process does alone would leave the others
waiting for it.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.run import workdirs

_T = TypeVar("_T")

HEARTBEAT_SECONDS = 30
"""After so long without a word a process is lost, and the others end."""


JOIN_SECONDS = 120
"""So long a process waits at the start for the others, and then ends."""


@contextlib.contextmanager
def joining(address: str, seconds: float | None = None) -> Iterator[None]:
  """Ends this process in one line where the others do not come.

  The runtime's own time-out ends it with a native stack trace.
  """
  after = JOIN_SECONDS if seconds is None else seconds
  timer = threading.Timer(after, _not_joined, [address, after])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _not_joined(address: str, seconds: float) -> None:
  print(
    f"not all processes of the run have joined {address} within {seconds:g} s;"
    " one of them may have ended, or was not started",
    file=sys.stderr,
    flush=True,
  )
  os._exit(1)


def wait(name: str) -> None:
  """Returns once all processes are here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def any_of(flag: bool) -> bool:
  """Returns whether `flag` is True in any process; all must ask."""
  if jax.process_count() == 1:
    return flag
  return bool(_gather(np.array([flag], np.int32)).any())


def check_alike(identity: dict[str, Any]) -> None:
  """Refuses processes that were started with other flags than the first.

  Raises:
    ValueError: in every process, with what differs.
  """
  if jax.process_count() == 1:
    return
  own = json.dumps(identity, sort_keys=True).encode()
  size = int(_gather(np.array([len(own)], np.int32)).max())
  padded = np.frombuffer(own.ljust(size), np.uint8)
  found = [json.loads(bytes(row)) for row in _gather(padded)]
  for number, other in enumerate(found):
    if other != found[0]:
      what = workdirs.differences(found[0], other, "in process 0", "in it")
      raise ValueError(
        f"processes must have equal flags, but process {number} has others"
        f" ({what})"
      )


def together(fn: Callable[[], _T]) -> _T:
  """Returns what `fn` does, where it fails in no process.

  Raises:
    ValueError: it failed in another process, which says why.
    Exception: what it raised here.
  """
  try:
    result = fn()
  except Exception:
    any_of(True)
    raise
  if any_of(False):
    raise ValueError("another process was refused, and says why: none trains")
  return result


def end_alone(error: Exception) -> None:
  """Ends this process where another one of the run was lost; else returns.

  At once: an orderly end would wait for the other, and then abort.
  """
  if jax.process_count() == 1:
    return
  reason = str(error).strip().splitlines()[0]
  print(
    "another process of the run was lost; the same commands continue from the"
    f" newest checkpoint ({reason})",
    file=sys.stderr,
    flush=True,
  )
  sys.stdout.flush()
  os._exit(1)


def _gather(array: np.ndarray) -> np.ndarray:
  """Returns the arrays of all processes, [P, ...]."""
  return np.asarray(multihost_utils.process_allgather(array))
