"""A program with a guided schedule: its steps, its state, its resumption."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.training import checkpoint
from kdropout_jax.training import guided
from kdropout_jax.training import parallel
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from tests import tolerance

CONFIG = kd.Guided(total=6, concurrent=3, temperature=0.1, explore=0.3)


class Net(nn.Module):
  """One hidden layer."""

  row_layout: str = "contiguous"

  @nn.compact
  def __call__(self, x, *, train, subnets=None, assignment=None):
    x = nn.relu(nn.Dense(12)(x))
    drop = kd.linen.Dropout(0.5, row_layout=self.row_layout, name="drop")
    return nn.Dense(3)(drop(x, not train, subnets=subnets))


def make(run_steps=guided.run_steps, **fields):
  task = task_lib.Task(
    **{
      "model": Net(fields.get("row_layout", "contiguous")),
      "make_optimizer": optax.sgd,
      "batch_size": 8,
      "num_train": 40,
      **fields,
    }
  )
  return program_lib.Program(
    task, parallel.Devices(task.num_devices), run_steps
  )


def examples():
  rows = np.random.default_rng(0)
  inputs = rows.normal(size=(48, 5)).astype(np.float32)
  return task_lib.Data(inputs, (inputs[:, :3]).argmax(1).astype(np.int32))


def start(program, *schedules):
  members = state_lib.stack_members(
    range(len(schedules)), [0.1] * len(schedules), schedules
  )
  members = program.devices.replicate(members)
  state = program.init(members, examples().inputs[:1])
  return state, members, program.devices.replicate(examples())


def by_hand(task, member, num_steps):
  """Walks the run in Python: what is drawn, each subnet's loss by itself."""
  state = step_lib.init_state(task, member, examples().inputs[:1])
  params, memory = state.params, kd.guided.init(member.schedule)
  opt, opt_state = task.make_optimizer(member.learning_rate), state.opt_state
  stream = rng.run_key(member.key, rng.SUBNETS)

  @jax.jit
  def sum_and_grad(params, subnet, x, y):
    def total(params):
      own = {"subnets": subnet[None], "rngs": {"subnets": stream}}
      logits = task.model.apply({"params": params}, x, train=True, **own)
      return optax.softmax_cross_entropy_with_integer_labels(logits, y).sum()

    return jax.value_and_grad(total)(params)

  # Three subnets of eight rows: row r trains ids[r * 3 // 8].
  rows = [np.arange(0, 3), np.arange(3, 6), np.arange(6, 8)]
  if task.row_layout == "tiled":
    rows = [np.arange(i, 8, 3) for i in range(3)]
  for step in range(num_steps):
    order = np.asarray(rng.epoch_order(member.key, step // 5, 40, 8)[step % 5])
    batch = examples().take(order)
    ids, memory = kd.guided.select(memory, step, stream, member.schedule)
    found = [
      sum_and_grad(params, i, batch.inputs[own], batch.labels[own])
      for i, own in zip(ids, rows)
    ]
    losses = jnp.stack(
      [total / len(own) for (total, _), own in zip(found, rows)]
    )
    memory = kd.guided.update(memory, ids, losses, member.schedule)
    mean = jax.tree.map(lambda *g: sum(g) / 8, *[grad for _, grad in found])
    updates, opt_state = opt.update(mean, opt_state, params)
    params = optax.apply_updates(params, updates)
  return params, memory


@pytest.mark.parametrize(
  "row_layout", ["contiguous", pytest.param("tiled", marks=pytest.mark.slow)]
)
def test_a_program_trains_what_a_walk_by_hand_trains(row_layout):
  program = make(row_layout=row_layout)
  state, members, data = start(program, CONFIG)
  state, sums = program.run(state, members, data, 0, 6)
  member = jax.tree.map(lambda x: jnp.asarray(x)[0], members)
  params, memory = by_hand(program.task, member, 6)
  own = jax.tree.map(lambda x: x[0], (state.params, state.schedule))
  length = 2 * (5 + 12 + 3) + 8
  tolerance.assert_sums_close(own[0], params, length, steps=6)
  tolerance.assert_sums_close(own[1].loss, memory.loss, length, steps=6)
  np.testing.assert_array_equal(own[1].known, memory.known)
  np.testing.assert_array_equal(own[1].steps, memory.steps)
  assert np.asarray(state.schedule.steps).sum() == 6 * 3
  assert np.isfinite(np.asarray(sums.loss)).all()


def test_members_differ_in_temperature_and_cuts_change_no_bit(tmp_path):
  program = make()
  other = dataclasses.replace(CONFIG, temperature=float("inf"), explore=1.0)
  state, members, data = start(program, CONFIG, other)
  whole, _ = program.run(state, members, data, 0, 11)
  state, *_ = start(program, CONFIG, other)
  state, _ = program.run(state, members, data, 0, 4)
  # Saved and restored in between: the state of the schedule goes along.
  kept = checkpoint.Checkpoints(tmp_path)
  assert kept.save(4, state)
  restored = kept.restore(state)
  assert restored is not None
  state = program.devices.replicate(restored.tree)
  state, _ = program.run(state, members, data, 4, 7)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state)):
    np.testing.assert_array_equal(a, b)
  assert program.num_traces()["run"] == 1
  assert np.asarray(state.schedule.steps).shape == (2, 6)
  assert members.schedule.temperature.tolist()[1] == float("inf")


@pytest.mark.parametrize(
  ("fields", "schedule", "error", "match"),
  [
    ({}, kd.Guided(9, 9), ValueError, "concurrent must be <= batch_size=8.* 9"),
    ({}, kd.Sequential(), ValueError, "schedule must be kd.Guided, got Seq"),
    (
      {"num_devices": 2},
      CONFIG,
      kd.UnsupportedError,
      "one device, got num_devices=2",
    ),
    (
      {"assign": lambda inputs, labels: labels},
      CONFIG,
      kd.UnsupportedError,
      "examples cannot choose",
    ),
  ],
)
def test_what_cannot_be_guided_is_refused(fields, schedule, error, match):
  with pytest.raises(error, match=match):
    guided.check(make(**fields).task, schedule)


def test_the_usual_steps_refuse_a_guided_schedule():
  program = make(step_lib.run_steps)
  state, members, data = start(program, CONFIG)
  with pytest.raises(ValueError, match="train kd.Guided with .*guided.run_ste"):
    program.run(state, members, data, 0, 1)
