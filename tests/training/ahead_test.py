"""Masks sampled before the loop: the steps that train as they ever did."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.training import ahead
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from tests import tolerance
from tests.training import program_test as runs

_ALL = {"row_layout": "contiguous"}
_CASES = {
  "sequential": (kd.Sequential(k=3, m=2), 1, _ALL),
  "layers": (kd.Pooled(9, m=4, per_layer=True), 2, _ALL),
  "standard": (kd.Standard(), 2, _ALL),
  "realised": (kd.Pooled(9, m=4), 4, {"rescale": "realised"}),
  "tiled": (kd.Gyro(8, 4, num_steps=9), 8, {"row_layout": "tiled"}),
  "assigned": (kd.Sequential(k=2, m=3), 1, {"assign": lambda x, y: y}),
}


def train(program, schedule, cuts, site):
  """Returns the state after dispatches that are cut at `cuts`."""
  state = runs.initial((7,), optax.sgd, site, runs._B)
  replicate = program.devices.replicate
  state, data = replicate(state), replicate(runs.examples())
  members = replicate(runs.members_of(schedule))
  for begin, end in itertools.pairwise(cuts):
    state, sums = program.run(state, members, data, begin, end - begin)
  return jax.tree.map(np.asarray, (state, sums))


@pytest.mark.parametrize(
  "case",
  [
    case
    if case in ("layers", "tiled")
    else pytest.param(case, marks=pytest.mark.slow)
    for case in _CASES
  ],
)
def test_masks_are_those_of_each_step(case, monkeypatch):
  """And cuts, which move the chunks, change no bit."""
  monkeypatch.setattr(ahead, "_MAX_STEPS", 3)
  schedule, num_devices, fields = _CASES[case]
  seen = runs.SeenDropout if num_devices == 1 else kd.linen.Dropout
  make = functools.partial(runs.make, num_devices, site=seen, **fields)
  cuts = [0, 5, 6, 8]
  sizes, chunk_steps = [], ahead.chunk_steps

  def noted(*args):
    sizes.append(chunk_steps(*args))
    return sizes[-1]

  monkeypatch.setattr(ahead, "chunk_steps", noted)
  chunked = make(run_steps=ahead.run_steps)
  state, sums = train(chunked, schedule, cuts, seen)
  want, _ = train(make(run_steps=step_lib.run_steps), schedule, [0, 8], seen)
  np.testing.assert_equal(state.collections, want.collections)
  jax.tree.map(
    lambda a, b: tolerance.assert_sums_close(a, b, runs._LENGTH, steps=8),
    state.params,
    want.params,
  )
  other, _ = train(chunked, schedule, [0, 2, 8], seen)
  runs.equal(other, state)
  assert chunked.num_traces()["run"] == 1 and sizes == [3]
  assert np.isfinite(sums.loss).all()


class Twice(nn.Module):
  """Calls one dropout twice: two masks under one name."""

  wrap: bool = False

  @nn.compact
  def __call__(self, x, *, train, subnets=None, assignment=None):
    site = kd.linen.Dropout
    site = nn.remat(site) if self.wrap else site
    site = site(0.5, deterministic=not train)
    for _ in range(1 if self.wrap else 2):
      x = site(x, subnets=subnets)
    return nn.Dense(3)(x)


def worker_of(model, schedule):
  task = task_lib.Task(model, optax.sgd, runs._B, runs._TRAIN, num_sites=2)
  member = runs.members_of(schedule)
  member = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), member)
  rows = jnp.arange(runs._B, dtype=jnp.int32)
  worker = task_lib.Worker(task, member, task_lib.Shard(jnp.int32(0), rows))
  data = jax.tree.map(jnp.asarray, runs.examples())
  return worker, step_lib.init_state(task, member, data.inputs[:1]), data


@pytest.mark.parametrize("model", [Twice(), Twice(wrap=True)], ids=repr)
def test_masks_that_cannot_leave_a_model_are_sampled_at_each_step(model):
  assert ahead.chunk_steps(*worker_of(model, kd.Standard())) == 0


@pytest.mark.parametrize(
  ("schedule", "steps"), [(None, 0), (kd.Sequential(k=3, m=1), 64)]
)
def test_a_chunk_has_as_many_steps_as_launches_want(schedule, steps):
  assert ahead.chunk_steps(*worker_of(runs.Net(), schedule)) == steps


def test_a_chunk_keeps_to_its_bytes(monkeypatch):
  case = worker_of(runs.Net(), kd.Standard())
  of_a_step = runs._B * (12 + 12)  # one byte a unit of two layers, a row
  for num_bytes, steps in ((10 * of_a_step, 10), (10 * of_a_step - 1, 9)):
    monkeypatch.setattr(ahead, "_MASK_BYTES", num_bytes)
    assert ahead.chunk_steps(*case) == steps


def test_a_step_that_is_given_masks_draws_none():
  worker, state, data = worker_of(runs.Net(), kd.Sequential(k=3, m=1))
  batch = data.take(worker.shard.rows)

  def jaxpr(masks):
    step = functools.partial(step_lib.train_step, worker, state, 4, batch)
    return str(jax.make_jaxpr(step, axis_env=[("batch", 1)])(masks))

  masks = ahead.sample_masks(worker, state, jnp.arange(2), data)
  masks = jax.tree.map(lambda keep: keep[1], masks)
  assert "random_bits" in jaxpr(None)
  assert "random_bits" not in jaxpr(masks)


def test_cpus_keep_their_loop():
  assert ahead.run_steps_for("cpu") is step_lib.run_steps
  assert ahead.run_steps_for("gpu") is ahead.run_steps
