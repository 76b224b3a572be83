"""The compiled run: devices, members, dispatches, reuse."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax import functional
from kdropout_jax.masks import diagnostics
from kdropout_jax.training import parallel
from kdropout_jax.training import program as program_lib
from kdropout_jax.training import rng
from kdropout_jax.training import state as state_lib
from kdropout_jax.training import step as step_lib
from kdropout_jax.training import task as task_lib
from tests import tolerance

_B, _N, _TRAIN = 16, 60, 50
_LENGTH = 2 * (5 + 12 + 12 + 3) + 60
"""Terms on the way through `Net`, there and back, and over all examples."""


class SeenDropout(nn.Module):
  """Dropout that leaves the mask it used in the collection "seen"."""

  rate: float = 0.5

  @nn.compact
  def __call__(self, x, *, deterministic, subnets, assignment):
    drop = kd.linen.Dropout(self.rate, name="drop")
    options = dict(subnets=subnets, assignment=assignment)
    kept = drop(jnp.ones_like(x), deterministic, **options)
    mask = self.variable("seen", "mask", jnp.zeros, x.shape)
    if not deterministic:
      mask.value = (kept > 0).astype(jnp.float32)
    return x * kept


class Net(nn.Module):
  """Two hidden layers; the contract that programs train by."""

  site: type = kd.linen.Dropout
  row_layout: str = "contiguous"
  rescale: str = "expected"

  @nn.compact
  def __call__(self, x, *, train, subnets=None, assignment=None):
    for i in range(2):
      x = nn.relu(nn.Dense(12, name=f"hidden_{i}")(x))
      site = self.site
      if site is kd.linen.Dropout:
        site = functools.partial(
          site, row_layout=self.row_layout, rescale=self.rescale
        )
      ids = None if not train else subnets
      ids = ids[i] if ids is not None and ids.ndim == 2 else ids
      x = site(0.5, name=f"drop_{i}")(
        x, deterministic=not train, subnets=ids, assignment=assignment
      )
    return nn.Dense(3, name="logits")(x)


@functools.cache
def examples():
  rows = np.random.default_rng(0)
  inputs = rows.normal(size=(_N, 5)).astype(np.float32)
  labels = (inputs[:, :3]).argmax(1).astype(np.int32)
  return task_lib.Data(inputs, labels)


def make(num_devices=1, *, devices=None, run_steps=None, **fields):
  devices = devices or parallel.Devices(num_devices)
  model = {k: fields[k] for k in ("row_layout", "rescale") if k in fields}
  model = Net(site=fields.pop("site", kd.linen.Dropout), **model)
  task = task_lib.Task(
    **{
      "model": model,
      "make_optimizer": optax.sgd,
      "batch_size": _B,
      "num_train": _TRAIN,
      "num_devices": devices.count,
      "num_sites": 2,
      **fields,
    }
  )
  return program_lib.Program(task, devices, run_steps, eval_rows=16)


def members_of(*schedules, seeds=None, learning_rate=0.1):
  seeds = seeds or [7] * len(schedules)
  return state_lib.stack_members(
    seeds, [learning_rate] * len(schedules), schedules
  )


@functools.cache
def initial(seeds, make_optimizer, site=kd.linen.Dropout, rows=1):
  """Returns states before step 0; which program makes them is no matter."""
  program = make(1, make_optimizer=make_optimizer, site=site)
  members = members_of(*[None] * len(seeds), seeds=seeds)
  return jax.tree.map(
    np.asarray, program.init(members, examples().inputs[:rows])
  )


def start(program, members, seeds=(7,)):
  """Returns (state, members, data) on the program's devices."""
  state = initial(seeds, program.task.make_optimizer)
  return tuple(map(program.devices.replicate, (state, members, examples())))


def losses(program, members, cuts, seeds=(7,)):
  """Returns the mean loss of each dispatch [len(cuts) - 1, S]."""
  state, members, data = start(program, members, seeds)
  found = []
  for begin, end in itertools.pairwise(cuts):
    state, sums = program.run(state, members, data, begin, end - begin)
    found.append(np.asarray(sums.loss) / (end - begin))
  return np.stack(found)


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
  ("fields", "device_counts", "schedule"),
  [
    ({}, (2, 8), kd.Pooled(6, m=4)),
    ({"row_layout": "tiled"}, (8,), kd.Pooled(6, m=4)),
  ],
  ids=["contiguous", "tiled"],
)
def test_the_number_of_devices_changes_no_loss(fields, device_counts, schedule):
  """The first step's, the mean of the others', and the twentieth's."""
  fields = {**fields, "make_optimizer": optax.adam}
  members, cuts = members_of(schedule, learning_rate=5e-4), (0, 1, 19, 20)
  expected = losses(make(1, **fields), members, cuts)
  assert np.ptp(expected) > 0.01  # It does train.
  for count in device_counts:
    got = losses(make(count, **fields), members, cuts)
    tolerance.assert_sums_close(got, expected, _LENGTH, steps=20)


_SCHEDULES = {
  "above": kd.Standard(),
  "equal": kd.Pooled(9, m=8),
  "below": kd.Sequential(k=2, m=1),
}
"""T above, equal to and below eight devices."""


def masks_of_a_step(worker, state, start, count, data):
  """Has the signature of `run_steps`; returns all rows' masks as params."""
  del count
  rows, everyone = worker.shard.rows, {}
  for name, schedule in _SCHEDULES.items():
    member = dataclasses.replace(worker.member, schedule=schedule)
    worker = dataclasses.replace(worker, member=member)
    found = step_lib.subnets(worker, start, data.take(rows))
    masks = kd.subnet_masks(jax.random.key(1), found.ids, 10, kd.Bernoulli())
    own = functional.row_masks(
      masks.dense(), rows.shape[0], worker.task.row_layout, found.slots
    )
    everyone[name] = jax.lax.all_gather(own, parallel.AXIS, tiled=True)
  state = dataclasses.replace(state, params=everyone)
  return state, task_lib.Sums.zero()


@pytest.mark.parametrize(
  ("row_layout", "rescale"),
  [
    pytest.param("contiguous", "expected", marks=pytest.mark.slow),
    ("contiguous", "realised"),
    ("tiled", "expected"),
  ],
)
def test_the_number_of_devices_changes_no_mask(row_layout, rescale):
  """Bit for bit, for T above, equal to and below the number of devices."""
  found = []
  for count in (1, 2, 8):
    fields = dict(row_layout=row_layout, rescale=rescale)
    program = make(count, run_steps=masks_of_a_step, **fields)
    state, members, data = start(program, members_of(kd.Standard()))
    state, _ = program.run(state, members, data, 5, 1)
    found.append(jax.tree.map(lambda x: np.asarray(x[0]), state.params))
  for name, masks in found[0].items():
    assert masks.shape == (_B, 10) and 0 < masks.mean() < 1
    for other in found[1:]:
      np.testing.assert_array_equal(other[name], masks)


def test_where_a_run_is_cut_changes_no_bit_and_compiles_nothing():
  """Cuts inside, at and across epochs; one trace serves all of them."""
  program = make(1)
  members = members_of(kd.Sequential(k=2, m=2))
  ends = []
  for cuts in ([0, 8], [0, 1, 2, 5, 6, 8], [0, 3, 8]):
    state, on_device, data = start(program, members)
    for begin, end in itertools.pairwise(cuts):
      state, _ = program.run(state, on_device, data, begin, end - begin)
    ends.append(state)
    for split in ((0, _TRAIN), (_TRAIN, _N), (3, 4)):
      program.evaluate(state, data, *split, members=on_device)
  equal(ends[0], ends[1])
  equal(ends[0], ends[2])
  assert program.num_traces() == {"run": 1, "step": 0, "evaluate": 1}


def test_members_train_as_they_would_alone():
  """Seeds, k and learning rates side by side change nothing but rounding."""
  schedules = [kd.Sequential(k=k, m=2) for k in (1, 4)]
  seeds, cuts = (7, 8), (0, 3, 8)
  members = members_of(*schedules, seeds=seeds)
  together = losses(make(1), members, cuts, seeds)
  alone = make(1)
  for i, schedule in enumerate(schedules):
    members = members_of(schedule, seeds=seeds[i : i + 1])
    got = losses(alone, members, cuts, seeds[i : i + 1])
    tolerance.assert_sums_close(got[:, 0], together[:, i], _LENGTH, steps=8)
  assert np.abs(together[:, 0] - together[:, 1]).max() > 1e-3


def seen_masks(schedule, num_steps, **fields):
  """Returns each step's masks over both layers, from a real training run."""
  program = make(1, site=SeenDropout, **fields)
  state = initial((7,), optax.sgd, SeenDropout, _B)
  replicate = program.devices.replicate
  state = replicate(state)
  members, data = replicate(members_of(schedule)), replicate(examples())
  for step in range(num_steps):
    state, _ = program.run(state, members, data, step, 1)
    seen = jax.tree.map(lambda x: np.asarray(x[0]) > 0, state.collections)
    yield {
      name: kd.Masks(jnp.asarray(site["mask"]), 12)
      for name, site in seen["seen"].items()
    }


def test_training_reuses_the_joint_subnets_of_its_pool():
  """The trap: folding the step into a key would give hundreds of them."""
  steps = seen_masks(kd.Pooled(4, m=2), 30)
  joint = [diagnostics.joint_subnets(masks) for masks in steps]
  assert 2 <= len(set(itertools.chain(*joint))) <= 4


def test_training_holds_a_sequential_subnet_for_k_steps():
  steps = seen_masks(kd.Sequential(k=3, m=1), 9)
  joint = [set(diagnostics.joint_subnets(masks)) for masks in steps]
  assert all(len(found) == 1 for found in joint)
  runs = [len(list(g)) for _, g in itertools.groupby(joint)]
  assert runs == [3, 3, 3]


def test_per_layer_draws_leave_the_pool():
  """Each layer draws its own: more joint subnets than the pool has."""
  steps = seen_masks(kd.Pooled(4, m=2, per_layer=True), 30)
  joint = [diagnostics.joint_subnets(masks) for masks in steps]
  assert len(set(itertools.chain(*joint))) > 4


def test_a_streamed_run_trains_what_the_resident_one_does():
  program = make(2)
  members = members_of(kd.Pooled(6, m=2))
  expected = losses(program, members, range(6))
  state, on_device, _ = start(program, members)
  key = jax.random.key(7)
  for step in range(5):
    epoch, batch = divmod(step, _TRAIN // _B)
    rows = rng.epoch_order(key, epoch, _TRAIN, _B)[batch]
    taken = jax.tree.map(lambda x, r=rows: x[np.asarray(r)], examples())
    state, sums = program.step(state, on_device, taken, step)
    tolerance.assert_sums_close(sums.loss, expected[step], _LENGTH, steps=5)
  assert program.num_traces()["step"] == 1


def test_an_example_may_choose_its_subnet():
  """Input-dependent subnets: slot = label, so each label has one mask."""
  schedule = kd.Sequential(k=9, m=3)
  task_fields = dict(assign=lambda inputs, labels: labels)
  (masks,) = seen_masks(schedule, 1, **task_fields)
  rows = np.asarray(rng.epoch_order(jax.random.key(7), 0, _TRAIN, _B)[0])
  labels = examples().labels[rows]
  joint = diagnostics.joint_subnets(masks)
  assert len(set(zip(labels.tolist(), joint))) == len(set(labels.tolist())) == 3


def test_evaluation_counts_every_example_once():
  program = make(2)
  members = members_of(kd.Standard(), seeds=[3])
  state, members, data = start(program, members)
  params = jax.tree.map(lambda x: np.asarray(x[0]), state.params)
  for first, last in ((0, 37), (37, 60), (5, 6)):
    got = program.evaluate(state, data, first, last, members=members)
    taken = jax.tree.map(lambda x, a=first, b=last: x[a:b], examples())
    logits = Net().apply({"params": params}, taken.inputs, train=False)
    right = np.mean(logits.argmax(1) == taken.labels)
    tolerance.assert_sums_close(got["accuracy"], [right], 1)
    log_probs = jax.nn.log_softmax(logits)
    picked = np.asarray(log_probs)[np.arange(last - first), taken.labels]
    tolerance.assert_sums_close(got["loss"], [-picked.mean()], _LENGTH)


def test_a_subnet_is_evaluated_as_a_network_of_its_own():
  program = make(1)
  members = members_of(kd.Standard(), seeds=[3])
  state, members, data = start(program, members)
  ids = np.array([4, 9])
  got = program.evaluate(state, data, 0, 40, members=members, ids=ids)
  assert got["loss"].shape == (1, 2)
  params = jax.tree.map(lambda x: np.asarray(x[0]), state.params)
  key = rng.run_key(jax.random.key(3), rng.SUBNETS)
  for i, subnet in enumerate(ids):
    logits = Net().apply(
      {"params": params},
      examples().inputs[:40],
      train=True,
      subnets=jnp.array([subnet]),
      rngs={"subnets": key},
    )
    found, _ = task_lib.losses_and_hits(logits, examples().labels[:40])
    tolerance.assert_sums_close(got["loss"][0, i], found.mean(), _LENGTH)
  with pytest.raises(ValueError, match="needs examples, got 3 to 3"):
    program.evaluate(state, data, 3, 3, members=members)


@pytest.mark.parametrize(
  ("fields", "num_devices", "message"),
  [
    ({"batch_size": 51}, 1, "batch_size must be <= 50, the training examples"),
    ({"batch_size": 18}, 4, "batch_size must be divisible by num_devices=4"),
    ({"batch_size": 0}, 1, "batch_size must be >= 1, got 0"),
    ({"num_devices": 2}, 1, "num_devices of the task must be 1, got 2"),
    ({"shuffle": "no"}, 1, "shuffle must be one of"),
  ],
)
def test_a_task_that_does_not_fit_is_refused(fields, num_devices, message):
  with pytest.raises(ValueError, match=message):
    task = task_lib.Task(
      **{
        "model": Net(),
        "make_optimizer": optax.sgd,
        "batch_size": _B,
        "num_train": _TRAIN,
        "num_devices": num_devices,
        **fields,
      }
    )
    program_lib.Program(task, parallel.Devices(num_devices))


def test_subnets_that_the_devices_do_not_divide_are_refused_before_tracing():
  program = make(4)
  with pytest.raises(ValueError, match="the 3 subnets .* num_devices=4"):
    program.init(members_of(kd.Pooled(9, m=3)), examples().inputs[:1])
  assert program.num_traces()["run"] == 0
