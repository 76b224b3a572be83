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


LAYOUT = kd.subnets.Layout(
  {
    "dense_0/kernel": {1: "d_0"},
    "dense_0/bias": {0: "d_0"},
    "dense_1/kernel": {0: "d_0", 1: "d_1"},
    "dense_1/bias": {0: "d_1"},
    "out/kernel": {0: "d_1"},
  }
)


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
  [
    (2, 0.75, 4),
    pytest.param(1, 0.5, 2, marks=pytest.mark.slow),
    pytest.param(4, 0.75, 4, marks=pytest.mark.slow),
    pytest.param(8, 0.75, 4, marks=pytest.mark.slow),
  ],
)
def test_disjoint_networks_train_what_masks_train(num_devices, rate, m):
  """Each element, in float64, params and moments, for two seeds."""
  with jax.enable_x64(True):
    data, members = make_data(np.float64), make_members(m=m)
    net = Net(rate, dtype=jnp.float64)
    task = make_task(net, num_devices=num_devices)
    expected, masked_losses = masked_in_float64(rate, m)
    if m == 2:
      steps = disjoint.plan(task, members, batch_of(data), 11)
      assert steps.layout == LAYOUT and steps.sizes is None
    else:
      steps = disjoint.DisjointSteps(4, LAYOUT)
    # Cut inside windows (steps 4 and 8 end them) and at their ends.
    got, losses = train(task, members, data, steps, (0, 4, 6, 11))
  epsilon = np.finfo(np.float32).eps  # Sums of losses are kept in float32.
  np.testing.assert_allclose(losses, masked_losses, rtol=2 * 11 * epsilon)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_unequal_parts_train_what_masks_train():
  """Twelve units in five parts: two of three units, three of two."""
  with jax.enable_x64(True):
    net = Net(0.8, dtype=jnp.float64)
    task, data = make_task(net, batch_size=20), make_data(np.float64)
    members = make_members((4,), 5)
    expected, _ = train(task, members, data, step.run_steps, (0, 6))
    example = jax.tree.map(lambda x: jnp.asarray(x[:20]), data)
    steps = disjoint.plan(task, members, example, 6)
    assert steps.sizes == {"d_0": 3, "d_1": 3}
    got, _ = train(task, members, data, steps, (0, 6))
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_own_copies_are_averaged_at_the_windows_end():
  """The variant differs, in what no mask cuts; devices change nothing."""
  data, members = make_data(), make_members((4,))
  steps = disjoint.DisjointSteps(4, LAYOUT, shared_parameters="window_end")
  one, two = (
    train(make_task(num_devices=d), members, data, steps, (0, 5))[0][0]
    for d in (1, 2)
  )
  exact = disjoint.DisjointSteps(4, LAYOUT)
  masked = train(make_task(), members, data, exact, (0, 5))[0][0]
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
  assert np.abs(one["out"]["bias"] - masked["out"]["bias"]).max() > 1e-3


@pytest.mark.parametrize(
  ("net", "fields", "m", "error", "message"),
  [
    (Net(pattern=kd.ExactCount), {}, 2, kd.UnsupportedError, "may share units"),
    (
      Net(pattern=functools.partial(kd.ExactCount, balanced=4)),
      {},
      4,
      kd.UnsupportedError,
      "may share units",
    ),
    (Net(), {}, 4, kd.UnsupportedError, "in 2, but 4 train side by side"),
    (Net(norm=True), {}, 2, kd.UnsupportedError, "batch_stats.*normalisation"),
    (Net(), {"batch_size": 15}, 2, ValueError, "batch_size must be divisible"),
    (Net(), {"num_devices": 4, "batch_size": 12}, 3, ValueError, "must divide"),
    (
      Net(),
      {"row_layout": "tiled", "num_devices": 2},
      2,
      kd.UnsupportedError,
      "tiled rows",
    ),
    (
      Net(),
      {"assign": lambda x, y: y},
      2,
      kd.UnsupportedError,
      "assigned by what it is",
    ),
    (
      Net(),
      {"penalty": lambda outputs: 0.0},
      2,
      kd.UnsupportedError,
      "a penalty on what its model returns",
    ),
  ],
)
def test_what_cannot_train_apart_is_refused(net, fields, m, error, message):
  task = make_task(net, **fields)
  with pytest.raises(error, match=message):
    disjoint.plan(task, make_members((4,), m), batch_of(make_data()), 8)


@pytest.mark.slow
def test_an_optimizer_that_looks_at_all_gradients_is_refused():
  """One subnet alone passes: the others' gradients are zero there."""

  def clipped(learning_rate):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate))

  params = jax.tree.map(np.asarray, make_params())
  kd.subnets.check_optimizer(clipped(0.1), params, LAYOUT)
  with pytest.raises(kd.UnsupportedError, match="weights of other subnets"):
    kd.subnets.check_optimizer(clipped(0.1), params, LAYOUT, side_by_side=True)
  kd.subnets.check_optimizer(optax.adam(0.1), params, LAYOUT, side_by_side=True)


def make_params():
  return Net().init(jax.random.key(0), jnp.ones((2, 5)), train=False)["params"]
