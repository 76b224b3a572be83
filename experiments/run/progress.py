"""The progress bar of a run: loss, accuracy, examples a second, time left."""

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
