"""Several processes of one run: they start alike, and they stop together.

Each asks the others at a few places: before it prepares, once it has prepared,
and after each dispatch. What one process does alone would leave the others
waiting for it.
"""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.run import stopping
from experiments.run import workdirs
from kdropout_jax.training import loop

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
    with stopping.stops.joining():
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


def should_stop(asked: bool) -> bool:
  """Returns whether all stop here, as one of them was asked to; all ask.

  Args:
    asked: whether this process was, where it is the only one.
  """
  if jax.process_count() == 1:
    return asked
  return any_of(stopping.stops.is_asked())


def go_on() -> None:
  """Ends all processes where one was asked to stop; all must ask.

  Raises:
    KeyboardInterrupt: in every process.
  """
  if should_stop(False):
    raise KeyboardInterrupt


@contextlib.contextmanager
def training() -> Iterator[Callable[[], bool]]:
  """Gives a function that says whether this process was asked to stop."""
  if jax.process_count() == 1:
    with loop.stop_on_signals() as found:
      yield found
    return
  with stopping.stops.doing("training"):
    yield stopping.stops.is_asked


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
    KeyboardInterrupt: a process was asked to stop.
    Exception: what it raised here.
  """
  try:
    with stopping.stops.doing("preparing"):
      result = fn()
  except Exception:
    _tell(_REFUSED)
    raise
  except KeyboardInterrupt:
    _tell(_STOPPED)
    raise
  found = _tell(_STOPPED if stopping.stops.is_asked() else _GOES_ON)
  if found == _STOPPED:
    raise KeyboardInterrupt
  if found == _REFUSED:
    raise ValueError("another process was refused, and says why: none trains")
  return result


_GOES_ON, _REFUSED, _STOPPED = 0, 1, 2


def _tell(what: int) -> int:
  """Tells the others what becomes of this one; returns the worst of all."""
  if jax.process_count() == 1:
    return what
  return int(_gather(np.array([what], np.int32)).max())


_STATUS = re.compile(r"(ABORTED|CANCELLED|INTERNAL|UNAVAILABLE|UNKNOWN): ")


def end_if_lost(error: Exception) -> None:
  """Ends this process where JAX's runtime says so by a ValueError.

  >>> end_if_lost(ValueError("k must be >= 1, got 0"))
  """
  if _STATUS.match(str(error)):
    end_alone(error)


def end_alone(error: Exception) -> None:
  """Ends this process where another one of the run was lost; else returns.

  At once: an orderly end would wait for the other, and then abort.
  """
  if jax.process_count() == 1:
    return
  if stopping.stops.is_asked():  # Together, but not all could wait.
    stopping.end()
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
