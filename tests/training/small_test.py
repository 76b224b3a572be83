"""A program whose steps run small networks trains the same network."""

import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest

import kdropout_jax as kd
from kdropout_jax.training import ahead
from kdropout_jax.training import small
from kdropout_jax.training import state
from kdropout_jax.training import step
from tests import tolerance
from tests.training import windows_test as shared

STEPS = 6


def with_max_norm(rate):
  """An optimizer that windows refuse: a weight's update depends on others."""
  return optax.chain(optax.sgd(rate), kd.optim.max_norm(0.5))


def members_of(schedule):
  return state.stack_members([0, 1], [1e-2, 2e-2], [schedule, schedule])


CASES = {
  "sequential on two devices": (
    kd.Sequential(k=4, m=2),
    shared.make_task(num_devices=2),
  ),
  "pooled, groups of 3, 3 and 2 rows": (
    kd.Pooled(pool_size=5, m=3),
    shared.make_task(optimizer=with_max_norm),
  ),
  "gyro, counts that vary": (
    kd.Gyro(total=8, concurrent=4, num_steps=STEPS),
    shared.make_task(kd.Bernoulli),
  ),
  "a subnet for each row": (kd.Standard(), shared.make_task()),
  "sequential, one subnet": (kd.Sequential(k=2, m=1), shared.make_task()),
}


@pytest.mark.parametrize(
  "name",
  [
    name if i < 1 else pytest.param(name, marks=pytest.mark.slow)
    for i, name in enumerate(CASES)
  ],
)
def test_small_steps_train_what_masks_train(name):
  schedule, task = CASES[name]
  data, members = shared.make_data(), members_of(schedule)
  devices = task.num_devices
  plan = small.plan(task, members, shared.batch_of(data), STEPS)
  args = (task, members, data)
  expected, masked_losses = shared.train(
    *args, step.run_steps, (0, STEPS), devices
  )
  got, losses = shared.train(*args, plan, (0, 4, STEPS), devices)
  there = 5 + 12 + 3  # Terms of one example's logits; and back, for 8 rows.
  tolerance.assert_sums_close(losses, masked_losses, 2 * there, steps=STEPS)
  tolerance.assert_trained_close(
    got, expected, 2 * there + 8, steps=STEPS, step_size=2e-2
  )


@pytest.mark.slow
def test_masks_that_are_sampled_before_the_loop_are_the_same(monkeypatch):
  sizes, chunk_steps = [], ahead.chunk_steps

  def spy(*args):
    sizes.append(chunk_steps(*args))
    return sizes[-1]

  monkeypatch.setattr(ahead, "chunk_steps", spy)
  schedule, task = CASES["sequential on two devices"]
  data, members = shared.make_data(), members_of(schedule)
  plan: Any = small.plan(task, members, shared.batch_of(data), STEPS)
  before = functools.partial(ahead.run_steps, **plan.keywords)
  expected, _ = shared.train(task, members, data, plan, (0, STEPS), 2)
  got, _ = shared.train(task, members, data, before, (0, STEPS), 2)
  assert min(sizes) > 1
  tolerance.assert_trained_close(got, expected, 48, steps=STEPS, step_size=2e-2)


@pytest.mark.parametrize(
  ("schedule", "fields", "match"),
  [
    (kd.Guided(total=8, concurrent=2), {}, "without a state, got Guided"),
    (None, {}, "without a state, got NoneType"),
    (
      kd.Sequential(k=2, m=2),
      {"assign": lambda inputs, labels: labels % 2},
      "assigned by what it is",
    ),
    (
      kd.Sequential(k=2, m=2),
      {"num_devices": 2, "rescale": "realised"},
      "do not see the masks of the others",
    ),
    (
      kd.Sequential(k=2, m=8),
      {"num_devices": 2, "row_layout": "tiled"},
      "tiled rows of a device, 4, .* the 8 subnets",
    ),
    (kd.Standard(), {"pattern": kd.Bernoulli}, "than can be counted before"),
    (kd.Standard(), {"norm": True}, "'batch_stats' keeps statistics"),
  ],
)
def test_what_small_networks_cannot_do_is_refused(schedule, fields, match):
  task, members = shared.make_task(**fields), members_of(schedule)
  with pytest.raises(kd.UnsupportedError, match=match):
    small.plan(task, members, shared.batch_of(shared.make_data()), STEPS)


def test_all_counts_of_a_run_fit_its_sizes():
  task = shared.make_task(kd.Bernoulli)
  members = members_of(kd.Sequential(k=2, m=2))
  data = shared.batch_of(shared.make_data())
  plan: Any = small.plan(task, members, data, STEPS)
  (size,) = plan.keywords["one_step"].sizes.values()
  masks = []
  for i in range(2):
    member = jax.tree.map(lambda leaf, i=i: leaf[i], members)
    streams = step.rng.step_rngs(member.key, 0)
    keys = kd.linen.layer_keys(
      task.model,
      task.model.init(jax.random.key(0), np.ones((2, 5)), train=False),
      np.ones((2, 5)),
      train=True,
      key=streams["subnets"],
    )
    (key,) = keys.values()
    masks.append(kd.subnet_masks(key, np.arange(6), 12, kd.Bernoulli(0.5)))
  assert size == max(int(m.keep.sum(1).max()) for m in masks)
