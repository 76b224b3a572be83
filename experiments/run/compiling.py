"""Compiling before the first step, said with its seconds.

A large network compiles for minutes, which were silent inside the first step.
"""

import contextlib

import jax

from experiments.run import progress
from experiments.run import setup as setup_lib
from kdropout_jax.training import state as state_lib


def stage(
  what: str, model: str, setup: setup_lib.Setup, shown: bool
) -> contextlib.AbstractContextManager[None]:
  """Returns a context that says what is compiled, where that is new."""
  kind = "evaluate" if what == "evaluation" else "run"
  is_new = not setup.program.num_traces()[kind] and setup.feed is None
  count = setup.members.num_members
  members = f", {count} members" if count > 1 else ""
  words = f"compiling the {what} of {model}{members}"
  return progress.stage(words, shown and is_new)


def training(
  setup: setup_lib.Setup, state: state_lib.TrainState, start: int
) -> state_lib.TrainState:
  """Returns the same state, with the training compiled for it.

  By a dispatch of no steps: where dispatches are cut changes no bit. Streamed
  steps are compiled by the first of them.

  Args:
    setup: of the run.
    state: the members' states, given away.
    start: steps that are done.
  """
  if not _is_on_devices(setup):
    return state
  state, sums = setup.program.run(
    state, setup.members, setup.arrays(), start, 0
  )
  jax.block_until_ready(sums)
  return state


def evaluation(setup: setup_lib.Setup, state: state_lib.TrainState) -> None:
  """Compiles the evaluation, on one example."""
  if _is_on_devices(setup):
    first, _ = next(iter(setup.splits.values()))
    setup.program.evaluate(
      state, setup.arrays(), first, first + 1, members=setup.members
    )


def _is_on_devices(setup: setup_lib.Setup) -> bool:
  return setup.feed is None
