"""The same programs by jit and NamedSharding, over rows and columns."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.training import parallel
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import sharded
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import task as task_lib
from tests.training import program_test

_B, _STEPS, _WIDTH = 16, 5, 16


class Net(nn.Module):
  """Products that skip what masks drop, noise of the step, batch statistics."""

  @nn.compact
  def __call__(self, x, *, train, subnets=None, assignment=None):
    mask = None
    if train:
      key = self.make_rng("subnets")
      mask = kd.subnet_masks(key, subnets, _WIDTH, kd.ExactCount(0.5))
    x = kd.linen.MaskedDense(_WIDTH, name="wide")(x, out_mask=mask)
    norm = nn.BatchNorm(not train, axis_name=parallel.AXIS, name="norm")
    x = nn.Dropout(0.1)(nn.relu(norm(x)), deterministic=not train)
    return kd.linen.MaskedDense(4, name="logits")(x, in_mask=mask)


@functools.cache
def examples():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(60, 5)).astype(np.float32)
  return task_lib.Data(inputs, inputs[:, :4].argmax(1).astype(np.int32))


@functools.cache
def train(parallel, num_devices, num_column_devices, num_subnets):
  """Returns the program, its arguments and the mean loss of each dispatch."""
  devices = sharded.make_devices(parallel, num_devices, num_column_devices)
  schedule = kd.Pooled(16, m=num_subnets)
  task = task_lib.Task(
    model=Net(),
    make_optimizer=lambda rate: optax.sgd(rate, momentum=0.9),
    batch_size=_B,
    num_train=50,
    num_devices=devices.count,
  )
  program = program_lib.Program(task, devices, eval_rows=8)
  members = state_lib.stack_members([7, 8], [0.1, 0.2], [schedule] * 2)
  members, data = map(devices.replicate, (members, examples()))
  state, losses = program.init(members, examples().inputs[:1]), []
  for start, stop in ((0, 1), (1, _STEPS)):
    state, sums = program.run(state, members, data, start, stop - start)
    losses.append(np.asarray(sums.loss) / (stop - start))
  return program, (state, members, data), losses


def assert_close(got, expected):
  """Equal but for sums in another order, carried through the steps.

  A gradient sums over B rows and over the width; each of the steps adds the
  rounding of such sums, and batch statistics divide by their own.
  """
  length = _B * _WIDTH * _STEPS
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
    scale = np.abs(b).max() + 1e-3
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(a, b, rtol=0, atol=eps * length**0.5 * 4 * scale)


@pytest.mark.parametrize(
  "num_subnets",
  [*(pytest.param(t, marks=pytest.mark.slow) for t in (2, 4)), 8],
  ids="T={}".format,
)
def test_jit_trains_what_pmap_does_with_columns_split(num_subnets):
  """Four shards of rows: T below, equal to and above it; two of columns."""
  _, (expected, *_), losses = train("pmap", 4, 1, num_subnets)
  program, (state, members, data), got = train("jit", 8, 2, num_subnets)
  assert_close(got, losses)
  assert_close(
    jax.tree.map(np.asarray, state), jax.tree.map(np.asarray, expected)
  )
  assert np.ptp(losses) > 0.01  # It does train.
  assert program.num_traces()["run"] == 1
  kernel = state.params["wide"]["kernel"]
  assert kernel.shape == (2, 5, _WIDTH)
  parts = {shard.data.shape for shard in kernel.addressable_shards}
  assert parts == {(2, 5, _WIDTH // 2)}
  if num_subnets == 2:
    scores = program.evaluate(state, data, 0, 37, members=members)
    whole = jax.tree.map(lambda x: np.asarray(x[1]), state)
    logits = Net().apply(whole.variables(), examples().inputs[:37], train=False)
    hits = np.mean(np.argmax(logits, 1) == examples().labels[:37])
    np.testing.assert_allclose(scores["accuracy"][1], hits, rtol=1e-6)


def test_without_columns_jit_trains_the_bits_of_pmap():
  """On CPU: XLA makes the same sums of what each device has."""
  found = [train(kind, 4, 1, 2)[1:] for kind in ("pmap", "jit")]
  (first, losses), (second, other_losses) = found
  np.testing.assert_array_equal(losses, other_losses)
  for a, b in zip(jax.tree.leaves(first[0]), jax.tree.leaves(second[0])):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("row_layout", "rescale"),
  [
    pytest.param("contiguous", "expected", marks=pytest.mark.slow),
    ("contiguous", "realised"),
    ("tiled", "expected"),
  ],
)
def test_jit_changes_no_mask(row_layout, rescale):
  """Bit for bit, for T above, equal to and below the number of shards."""
  fields = dict(row_layout=row_layout, rescale=rescale)
  found = []
  for devices in (parallel.Devices(1), sharded.Devices(8)):
    program = program_test.make(
      devices=devices, run_steps=program_test.masks_of_a_step, **fields
    )
    members = program_test.members_of(kd.Standard())
    state, members, data = program_test.start(program, members)
    state, _ = program.run(state, members, data, 5, 1)
    found.append(jax.tree.map(lambda x: np.asarray(x[0]), state.params))
  for name, masks in found[0].items():
    assert masks.shape == (_B, 10) and 0 < masks.mean() < 1
    np.testing.assert_array_equal(found[1][name], masks)


def test_each_device_computes_its_own_rows_and_columns():
  devices = sharded.Devices(8, num_column_devices=2)

  def fn(state, x, shared):
    y = jnp.tanh(x @ state[0]) * shared
    return state + parallel.mean(x.T @ y)[None], ()

  compiled = devices.compile(fn, donate=False)
  args = (np.zeros((1, 6, 10), np.float32), np.ones((4, 3, 6), np.float32))
  text = compiled.lower(*args, np.float32(2.0)).compile().as_text()
  products = re.findall(r"= f32\[([\d,]*)\]\S* dot\(", text)
  # Three of twelve rows, and five of ten columns.
  assert sorted(products) == ["3,5", "6,5"]


@pytest.mark.parametrize(
  ("args", "error", "message"),
  [
    (("jit", 9), ValueError, "num_devices must be <= 8, .* got 9"),
    (("jit", 8, 3), ValueError, "must divide num_devices=8, got 3"),
    (("jit", 8, 0), ValueError, "num_column_devices must be >= 1, got 0"),
    (("pmap", 8, 2), kd.UnsupportedError, "needs parallel='jit', got 2"),
    (("vmap", 8), ValueError, r"one of \('pmap', 'jit'\), got 'vmap'"),
  ],
)
def test_devices_that_do_not_fit_are_refused(args, error, message):
  with pytest.raises(error, match=message):
    sharded.make_devices(*args)


def test_columns_leave_fewer_shards_of_rows():
  devices = sharded.Devices(8, num_column_devices=2)
  assert devices.count == 4 and devices.local == [0, 1, 2, 3]
  assert devices.shards(_B).rows.shape == (4, 4)
