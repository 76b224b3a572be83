"""Static arithmetic of gyro dropout's windows: how many subnets really train.

W windows share out the run's steps: with q, r = divmod(num_steps, W) the
first r windows have q + 1 steps, the others q. A window of n subnets whose
steps train T of them in rotation trains all n only if it is long enough.
"""

import math
from collections.abc import Sequence

import numpy as np


def window_lengths(num_steps: int, num_windows: int, run_steps: int):
  """Yields the steps of each window that a run of `run_steps` reaches.

  Args:
    num_steps: steps that the schedule shares out.
    num_windows: windows W; fewer are reached where num_steps < W.
    run_steps: steps of the run. Past `num_steps` the last window goes on.
  """
  q, r = divmod(num_steps, num_windows)
  last = min(num_windows, num_steps) - 1
  start = 0
  for window in range(last + 1):
    rest = run_steps - start
    length = rest if window == last else min(q + (window < r), rest)
    if length <= 0:
      return
    yield length
    start += length


def count_trained(
  lengths: Sequence[int],
  window_subnets: Sequence[int],
  num_slots: int,
  slots: np.ndarray,
) -> int:
  """Counts the subnets that windows train, each by rotation.

  Args:
    lengths: steps of each window.
    window_subnets: distinct subnets n of each window.
    num_slots: subnets T of a step.
    slots: the slots in [0, T) that own rows.
  """
  counts: dict[tuple[int, int], int] = {}
  trained = 0
  for case in zip(lengths, window_subnets):
    if case not in counts:
      counts[case] = _count_rotation(*case, num_slots, slots)
    trained += counts[case]
  return trained


def _count_rotation(
  length: int, subnets: int, num_slots: int, slots: np.ndarray
) -> int:
  cycle = subnets // math.gcd(subnets, num_slots)
  trained: set[int] = set()
  for s in range(min(length, cycle)):
    trained.update(((s * num_slots + slots) % subnets).tolist())
    if len(trained) == subnets:
      break
  return len(trained)
