"""Collectives of compiled programs: none within a window of disjoint nets."""

import jax
import pytest

from experiments.bench import exchange
from kdropout_jax.training import disjoint
from kdropout_jax.training import parallel
from kdropout_jax.training import program
from kdropout_jax.training import step
from tests.training import disjoint_test as shared


def compiled(num_devices, run_steps):
  data, members = shared.make_data(), shared.make_members((4,))
  task = shared.make_task(num_devices=num_devices)
  run = program.Program(task, parallel.Devices(num_devices), run_steps)
  text = run.run_text(members, data, 0, 8)
  params = run.init(members, data.inputs[:1]).params
  return exchange.collectives(text), params


def num_bytes(params):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def test_a_window_has_no_collective():
  """Two devices, two subnets: only the window's end exchanges anything."""
  steps = disjoint.DisjointSteps(
    4, shared.LAYOUT, shared_parameters="window_end"
  )
  found, _ = compiled(2, steps)
  assert found and max(one.loops for one in found) == 1


def test_by_default_a_step_sends_what_no_mask_cuts():
  found, params = compiled(2, disjoint.DisjointSteps(4, shared.LAYOUT))
  within = [one for one in found if one.loops >= 2]
  assert sum(one.num_bytes for one in within) == params["out"]["bias"].nbytes
  ends = [one for one in found if one.loops == 1]
  # The two networks: half of the rows, half of the columns; and two moments.
  cut = {(5, 12): 2, (12,): 2, (12, 12): 4, (12, 3): 2}
  total = sum(
    leaf.nbytes * 2 // cut[leaf.shape[1:]]
    for leaf in jax.tree.leaves(params)
    if leaf.shape[1:] in cut
  )
  assert sum(one.num_bytes for one in ends) == 3 * total


def test_data_parallelism_sends_every_gradient_at_every_step():
  found, params = compiled(2, step.run_steps)
  within = [one for one in found if one.loops == 1]
  total = sum(one.num_bytes for one in within)
  assert total == num_bytes(params) + 8  # Loss and accuracy.


def test_bytes_of_a_window():
  step_sum = exchange.Collective("all-reduce", 100, 2)
  end = exchange.Collective("all-gather", 400, 1)
  once = exchange.Collective("all-reduce", 8, 0)
  found = exchange.of_window([step_sum, end, once], 10, 4, depth=2)
  assert found == {"messages": 11, "bytes": 10 * 150 + 300}
  assert exchange.seconds(100e6 / 8, 100) == pytest.approx(1)
  alone = exchange.of_window([end, once], 10, 4, depth=1)
  assert alone == {"messages": 10, "bytes": 3000}
