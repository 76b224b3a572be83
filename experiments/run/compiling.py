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
  trains = "run" if setup.feed is None else "step"
  kind = "evaluate" if what == "evaluation" else trains
  is_new = not setup.program.num_traces()[kind]
  count = setup.members.num_members
  members = f", {count} members" if count > 1 else ""
  words = f"compiling the {what} of {model}{members}"
  return progress.stage(words, shown and is_new)


def training(
  setup: setup_lib.Setup, state: state_lib.TrainState, start: int
) -> state_lib.TrainState:
  """Returns the same state, with the training compiled for it.

  By a dispatch of no steps: where dispatches are cut changes no bit.

  Args:
    setup: of the run.
    state: the members' states, given away.
    start: steps that are done.
  """
  state, sums = setup.program.run(
    state, setup.members, setup.arrays(), start, 0
  )
  jax.block_until_ready(sums)
  return state


def streamed(setup: setup_lib.Setup, state: state_lib.TrainState) -> bool:
  """Compiles the training of streamed examples, by a step like none of theirs.

  A step cannot be of no rows, so the state is spent, and made again.

  Args:
    setup: of the run, which streams.
    state: the members' states.

  Returns:
    Whether the state is spent: it was not compiled before, and this streams.
  """
  if setup.feed is None or setup.program.num_traces()["step"]:
    return False
  jax.block_until_ready(setup.feed.try_step(state))
  return True


def evaluation(setup: setup_lib.Setup, state: state_lib.TrainState) -> None:
  """Compiles the evaluation, on one example."""
  if setup.feed is not None:
    setup.feed.try_evaluation(state)
    return
  first, _ = next(iter(setup.splits.values()))
  setup.program.evaluate(
    state, setup.arrays(), first, first + 1, members=setup.members
  )
