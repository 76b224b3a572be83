"""What a run shows: what it waits for, then a bar.

The bar has loss, accuracy, examples a second and the time left.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import tqdm


class Bar:
  """A bar over the steps of a run, and its clock.

  Args:
    num_steps: steps of the run.
    start: steps that are done.
    examples_per_step: rows of a batch, of all members.
    description: stands before the bar.
    shown: whether to show it.
  """

  def __init__(
    self,
    num_steps: int,
    start: int,
    examples_per_step: int,
    description: str | None = None,
    shown: bool = True,
  ):
    self._bar = tqdm.tqdm(
      total=num_steps,
      initial=start,
      desc=description,
      unit="step",
      disable=not shown or jax.process_index() != 0,
      dynamic_ncols=True,
    )
    self._examples = examples_per_step
    self._dispatches: list[tuple[int, float]] = []

  def __enter__(self) -> "Bar":
    return self

  def __exit__(self, *error) -> None:
    self._bar.close()

  def advance(self, num_steps: int, sums: Any, seconds: float) -> None:
    """Shows that `num_steps` more steps are done, in `seconds`."""
    self._dispatches.append((num_steps, seconds))
    self._bar.set_postfix_str(
      f"loss {float(np.mean(sums.loss)) / num_steps:.3f},"
      f" accuracy {float(np.mean(sums.accuracy)) / num_steps:.3f},"
      f" {self.examples_per_second():,.0f} examples/s",
      refresh=False,
    )
    self._bar.update(num_steps)

  def examples_per_second(self) -> float:
    """Returns the rate of training so far, over all members.

    The first dispatch, which compiles, counts only while there is no other.
    """
    counted = self._dispatches[1:] or self._dispatches
    steps = sum(count for count, _ in counted)
    seconds = sum(seconds for _, seconds in counted)
    return self._examples * steps / seconds if seconds else 0.0


@contextlib.contextmanager
def stage(what: str, shown: bool = True) -> Iterator[None]:
  """Says what is under way, and how long it has been, on standard error.

  In a terminal the seconds count; elsewhere they stand there at the end.

  Args:
    what: is under way, in words.
    shown: whether to say it.
  """
  if not shown or jax.process_index() != 0:
    yield
    return
  began, done = time.monotonic(), threading.Event()
  counts = sys.stderr.isatty()

  def show(seconds: float, end: str = "") -> None:
    start = f"\r{what} ... " if counts else ""
    print(f"{start}{seconds:.1f} s", end=end, file=sys.stderr, flush=True)

  def count() -> None:
    while not done.wait(1.0):
      show(time.monotonic() - began)

  print(f"{what} ... ", end="", file=sys.stderr, flush=True)
  counter = threading.Thread(target=count, daemon=True) if counts else None
  if counter:
    counter.start()
  try:
    yield
  except BaseException:
    done.set()
    print(file=sys.stderr)  # What follows has a line of its own.
    raise
  done.set()
  if counter:
    counter.join()
  show(time.monotonic() - began, "\n")
