"""A program whose windows train small networks trains the same network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.subnets import replay
from kdropout_jax.training import parallel
from kdropout_jax.training import program
from kdropout_jax.training import state
from kdropout_jax.training import step
from kdropout_jax.training import task as task_lib
from kdropout_jax.training import windows
from tests import tolerance


@pytest.fixture(autouse=True)
def quick_compilation(monkeypatch):
  monkeypatch.setattr(replay, "_MAX_UNROLL", 2)


class Net(nn.Module):
  """One hidden layer, pruned by masks on both sides where they are exact."""

  pattern: object
  norm: bool = False

  @nn.compact
  def __call__(self, x, *, train, subnets=None, assignment=None):
    x = nn.relu(nn.Dense(12)(x))
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train)(x)
    drop = kd.linen.Dropout(0.5, pattern=self.pattern)
    x = drop(x, not train, subnets=subnets, assignment=assignment)
    return nn.Dense(3)(x)


def make_task(
  pattern=kd.ExactCount, norm=False, optimizer=optax.adam, **fields
):
  return task_lib.Task(
    model=Net(pattern, norm),
    make_optimizer=optimizer,
    batch_size=8,
    num_train=40,
    **fields,
  )


def make_data():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(48, 5)).astype(np.float32)
  return task_lib.Data(inputs, rng.integers(0, 3, 48).astype(np.int32))


def make_members(ks=(4, 4), m=1):
  schedules = [kd.Sequential(k=k, m=m) for k in ks]
  return state.stack_members(range(len(ks)), [1e-2] * len(ks), schedules)


def batch_of(data):
  return jax.tree.map(lambda x: jnp.asarray(x[:8]), data)


def train(task, members, data, run_steps, cuts, num_devices=1):
  devices = parallel.Devices(num_devices)
  run = program.Program(task, devices, run_steps)
  members, placed = devices.replicate(members), devices.replicate(data)
  current = run.init(members, data.inputs[:1])
  losses = 0.0
  for start, stop in zip(cuts, cuts[1:]):
    current, sums = run.run(current, members, placed, start, stop - start)
    losses += np.asarray(sums.loss)
  assert run.num_traces()["run"] == min(1, len(cuts) - 1)
  return jax.tree.map(np.asarray, current.params), losses


@pytest.mark.parametrize(
  ("pattern", "num_devices"),
  [
    (kd.ExactCount, 2),
    pytest.param(kd.Bernoulli, 1, marks=pytest.mark.slow),
  ],
)
def test_extraction_trains_what_masks_train(pattern, num_devices):
  data, members = make_data(), make_members()
  task = make_task(pattern, num_devices=num_devices)
  expected, masked_losses = train(
    task, members, data, step.run_steps, (0, 11), num_devices
  )
  # Cut inside windows (steps 4 and 8 end them) and at their ends.
  plan = windows.plan(task, members, batch_of(data), 11)
  got, losses = train(task, members, data, plan, (0, 4, 6, 11), num_devices)
  there = 5 + 12 + 3  # Terms of one example's logits; and back, for 8 rows.
  tolerance.assert_sums_close(losses, masked_losses, 2 * there, steps=11)
  tolerance.assert_trained_close(
    got, expected, 2 * there + 8, steps=11, step_size=1e-2
  )
  assert (plan.sizes is None) == (pattern is kd.ExactCount)


def test_frozen_weights_do_not_move_in_their_window():
  data, members = make_data(), make_members((11,))
  task = make_task()
  plan = windows.plan(task, members, batch_of(data), 11, "frozen")
  before, _ = train(task, members, data, plan, (0,))
  after, _ = train(task, members, data, plan, (0, 11))
  moved = (before["Dense_0"]["kernel"] != after["Dense_0"]["kernel"])[0]
  assert moved.all(axis=0).sum() == 6 and moved.any(axis=0).sum() == 6


@pytest.mark.parametrize(
  ("task", "members", "match"),
  [
    (make_task(), make_members(m=2), "one subnet: .* got Sequential with m=2"),
    (make_task(), make_members((4, 5)), r"same k, got \[4, 5\]"),
    (
      make_task(),
      state.stack_members([0], [0.1], [None]),
      "sequential k-dropout, got NoneType",
    ),
    (make_task(norm=True), make_members(), "'batch_stats' keeps statistics"),
    (
      make_task(
        optimizer=lambda rate: optax.chain(
          optax.sgd(rate), kd.optim.max_norm(1.0)
        )
      ),
      make_members(),
      "depends on other weights",
    ),
  ],
)
def test_what_extraction_cannot_do_is_refused(task, members, match):
  with pytest.raises(kd.UnsupportedError, match=match):
    windows.plan(task, members, batch_of(make_data()), 11)
