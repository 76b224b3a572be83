"""Ctrl-C and SIGTERM of one of several processes: all are told, and all end.

JAX's preemption service takes SIGTERM, a host's notice that it will be taken
away, and passes it on to all processes, also where all of Python waits for
native code. A thread of each process listens, in seconds of the clock in place
of steps. What is under way then ends in its own way, or the process by force.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator

from jax.experimental import multihost_utils

SECONDS = 20
"""So long a process that is asked to stop prepares, or waits for others."""

_LAST_SECONDS = 5  # Without the first process the others end in stack traces.
_LINE = "stopped; the same command continues"


class Stops:
  """What this process was asked, and what it is doing.

  Attributes:
    seconds: as `SECONDS`.
  """

  def __init__(self, seconds: float = SECONDS):
    self.seconds = seconds
    self._asked, self._said = threading.Event(), threading.Event()
    self._closed = threading.Event()
    self._listener: threading.Thread | None = None
    self._doing = ""

  def is_asked(self) -> bool:
    """Returns whether this process or another one was asked to stop."""
    return self._asked.is_set()

  def wait(self, seconds: float) -> bool:
    """Returns whether one was asked, or is within so many seconds."""
    return self._asked.wait(seconds)

  @contextlib.contextmanager
  def doing(self, what: str) -> Iterator[None]:
    """Says what is under way.

    Args:
      what: "joining", which a signal ends at once, since nobody knows of us;
        "preparing", where it is a KeyboardInterrupt; or "training", whose
        loop looks for itself.
    """
    before, self._doing = self._doing, what
    try:
      yield
    finally:
      self._doing = before

  @contextlib.contextmanager
  def joining(self) -> Iterator[None]:
    """Has signals end the process; native code waits, so by a thread."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write)
    ended = threading.Event()

    def look() -> None:
      os.read(read, 1)
      if not ended.is_set():
        end()

    threading.Thread(target=look, daemon=True).start()
    try:
      yield
    finally:
      ended.set()
      signal.set_wakeup_fd(before)
      os.write(write, b"0")

  def listen(self, is_first: bool) -> None:
    """Listens from now on; JAX's runtime has joined the others.

    Args:
      is_first: whether this is the process that the others are joined by.
    """
    seconds = self.seconds + _LAST_SECONDS * is_first
    self._listener = threading.Thread(
      target=self._listen, args=(seconds,), daemon=True
    )
    self._listener.start()
    signal.signal(signal.SIGINT, self._interrupt)
    atexit.register(self.close)

  def close(self) -> None:
    """Listens no more.

    At exit it must come before JAX leaves the other processes, and so does what
    is registered after JAX: whoever asks its service then is aborted.
    """
    self._closed.set()
    if self._listener is not None:
      self._listener.join(_LAST_SECONDS)

  def said(self) -> None:
    """Notes that a line has told why the process ends."""
    self._said.set()

  def _interrupt(self, signum, frame) -> None:
    if not self.is_asked():
      os.kill(os.getpid(), signal.SIGTERM)  # Which the runtime passes on.
    elif self._doing == "preparing":
      interrupt(signum, frame)

  def _listen(self, seconds: float) -> None:
    second = int(time.time())
    try:
      # One after the other, none left out: that is what the runtime counts.
      while not multihost_utils.reached_preemption_sync_point(second):
        second += 1
        if self._closed.wait(max(0.0, second - time.time())):
          return
    except RuntimeError:  # The service is off, or has ended.
      return
    self._asked.set()
    if self._doing == "preparing":
      _send_to_main(signal.SIGINT)
    while self._doing == "training":
      time.sleep(1)
    time.sleep(seconds)
    end("" if self._said.is_set() else _LINE)


def interrupt(signum: int, frame: types.FrameType | None) -> None:
  """Handles a signal by a KeyboardInterrupt, a little later where it must.

  Python drops what is raised in a callback of its garbage collector (JAX has
  one) or in ``__del__``, and shows it as a traceback.
  """
  while frame is not None:
    if frame.f_code.co_name in _DEAF:
      timer = threading.Timer(0.05, _send_to_main, [signum])
      timer.daemon = True
      timer.start()
      return
    frame = frame.f_back
  raise KeyboardInterrupt


_DEAF = ("__del__", "_xla_gc_callback")


def _send_to_main(signum: int) -> None:
  signal.pthread_kill(threading.main_thread().ident or 0, signum)


def end(line: str = _LINE) -> None:
  """Ends the process at once, as nothing else can while native code runs."""
  if line:
    print(line, file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(130)


stops = Stops()
"""Those of this process."""
