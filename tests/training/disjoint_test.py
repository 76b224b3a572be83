"""P disjoint small networks, on any devices, train what masks train."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.subnets import replay
from kdropout_jax.training import disjoint
from kdropout_jax.training import parallel
from kdropout_jax.training import program
from kdropout_jax.training import state
from kdropout_jax.training import step
from kdropout_jax.training import task as task_lib


@pytest.fixture(autouse=True)
def quick_compilation(monkeypatch):
  monkeypatch.setattr(replay, "_MAX_UNROLL", 2)


class Net(nn.Module):
  """Two hidden layers, of which no mask cuts the last bias and the scale."""

  rate: float = 0.5
  pattern: object = functools.partial(kd.ExactCount, partition=True)
  dtype: object = jnp.float32
  norm: bool = False

  @nn.compact
  def __call__(self, x, *, train, subnets=None, assignment=None):
    dense = functools.partial(
      nn.Dense, param_dtype=self.dtype, bias_init=nn.initializers.normal(0.1)
    )
    for i in range(2):
      x = nn.relu(dense(12, name=f"dense_{i}")(x))
      if self.norm:
        x = nn.BatchNorm(use_running_average=not train)(x)
      drop = kd.linen.Dropout(self.rate, pattern=self.pattern, name=f"d_{i}")
      x = drop(x, not train, subnets=subnets, assignment=assignment)
    return dense(3, name="out")(x)


def score(logits, labels, inputs):
  del inputs
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses, (jnp.argmax(logits, -1) == labels).astype(logits.dtype)


def make_task(net=None, optimizer=optax.adam, **fields):
  return task_lib.Task(
    model=Net() if net is None else net,
    make_optimizer=optimizer,
    num_train=64,
    score=score,
    **{"batch_size": 16, **fields},
  )


def make_data(dtype=np.float32):
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(64, 5)).astype(dtype)
  return task_lib.Data(inputs, rng.integers(0, 3, 64).astype(np.int32))


def make_members(ks=(4, 4), m=2):
  schedules = [kd.Sequential(k=k, m=m) for k in ks]
  return state.stack_members(range(len(ks)), [1e-2] * len(ks), schedules)


def batch_of(data):
  return jax.tree.map(lambda x: jnp.asarray(x[:16]), data)


def train(task, members, data, run_steps, cuts):
  devices = parallel.Devices(task.num_devices)
  run = program.Program(task, devices, run_steps)
  members, placed = devices.replicate(members), devices.replicate(data)
  current = run.init(members, data.inputs[:1])
  losses = 0.0
  for start, stop in zip(cuts, cuts[1:]):
    current, sums = run.run(current, members, placed, start, stop - start)
    losses += np.asarray(sums.loss)
  trained = current.params, current.opt_state
  return jax.tree.map(np.asarray, trained), losses


@functools.cache
def masked_in_float64(rate, m):
  task = make_task(Net(rate, dtype=jnp.float64))
  data = make_data(np.float64)
  return train(task, make_members(m=m), data, step.run_steps, (0, 11))


@pytest.mark.parametrize(
  ("num_devices", "rate", "m"),
  [(1, 0.5, 2), (2, 0.75, 4), (4, 0.75, 4), (8, 0.75, 4)],
)
def test_disjoint_networks_train_what_masks_train(num_devices, rate, m):
  """Each element, in float64, params and moments, for two seeds."""
  with jax.enable_x64(True):
    data, members = make_data(np.float64), make_members(m=m)
    net = Net(rate, dtype=jnp.float64)
    task = make_task(net, num_devices=num_devices)
    (expected, masked_losses) = masked_in_float64(rate, m)
    plan = disjoint.plan(task, members, batch_of(data), 11)
    # Cut inside windows (steps 4 and 8 end them) and at their ends.
    got, losses = train(task, members, data, plan, (0, 4, 6, 11))
  assert losses.dtype == np.float64 or num_devices
  np.testing.assert_allclose(losses, masked_losses, rtol=1e-5)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
