"""A program whose windows move their units trains the same network."""

import functools

import jax
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax.training import permuted
from kdropout_jax.training import step
from tests.training import disjoint_test as shared

FOUR = functools.partial(kd.ExactCount, balanced=4)


def test_units_in_order_train_what_masks_train():
  """Each element, in float64, params and moments, for two seeds."""
  with jax.enable_x64(True):
    net = shared.Net(pattern=FOUR, dtype=np.float64)
    task, data = shared.make_task(net), shared.make_data(np.float64)
    members = shared.make_members(m=4)
    steps = permuted.plan(task, members, shared.batch_of(data))
    assert steps.layout == shared.LAYOUT
    expected, masked_losses = shared.train(
      task, members, data, step.run_steps, (0, 11)
    )
    # Cut inside windows (steps 4 and 8 end them) and at their ends.
    got, losses = shared.train(task, members, data, steps, (0, 4, 6, 11))
    whole, _ = shared.train(task, members, data, steps, (0, 11))
  epsilon = np.finfo(np.float32).eps  # Sums of losses are kept in float32.
  np.testing.assert_allclose(losses, masked_losses, rtol=2 * 11 * epsilon)
  jax.tree.map(np.testing.assert_array_equal, got, whole)  # cuts: no bit
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
  ("net", "fields", "m", "message"),
  [
    (shared.Net(pattern=FOUR), {}, 2, "whole group, which has 4 subnets"),
    (shared.Net(pattern=kd.ExactCount), {}, 2, "no unions of a few parts"),
    (shared.Net(), {"num_devices": 2}, 2, "num_devices=2: use one device"),
    (shared.Net(norm=True), {}, 2, "batch_stats"),
    (shared.Net(), {"assign": lambda x, y: y}, 2, "assigned by what it is"),
  ],
)
def test_what_cannot_be_moved_is_refused(net, fields, m, message):
  task = shared.make_task(net, **fields)
  members, data = shared.make_members((4,), m), shared.make_data()
  with pytest.raises(kd.UnsupportedError, match=message):
    permuted.plan(task, members, shared.batch_of(data))
