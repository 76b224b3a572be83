"""Laws of `subnet_ids`, against an oracle that walks the run step by step."""

import math

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import kdropout_jax as kd
from kdropout_jax import blocks
from kdropout_jax.masks import diagnostics

hypothesis.settings.register_profile(
  "laws", derandomize=True, deadline=None, max_examples=25
)
hypothesis.settings.load_profile("laws")

_KEY = jax.random.key(7)

_ALL = [
  kd.Standard(),
  kd.Sequential(k=3, m=2),
  kd.Sequential(k=1, m=1),
  kd.Pooled(pool_size=5, m=3),
  kd.Pooled(pool_size=5, m=5, replacement=False),
  kd.Pooled(pool_size=1, m=1),
  kd.Gyro(10, 4, num_steps=8),
  kd.Gyro(10, 4, num_steps=8, rows_per_subnet=4),
  kd.Gyro(10, 4, num_steps=2),
  kd.Gyro(7, 3, num_steps=8),
  kd.Gyro(7, 3, num_steps=8, rows_per_subnet=3),
  kd.Gyro(10, 4, num_steps=8, scheduling="random"),
  kd.Gyro(10, 4, num_steps=8, replacement=True),
  kd.Gyro(10, 4, num_steps=8, scheduling="random", replacement=True),
]
_COUNTED = [s for s in _ALL if not isinstance(s, kd.Pooled) and not (
  isinstance(s, kd.Gyro) and (s.scheduling == "random" or s.replacement))]  # fmt: skip


def walk_gyro(total, concurrent, num_steps, slots, rotates, run_steps):
  """Ids of consecutive gyro dropout, by walking windows and steps."""
  windows = math.ceil(total / concurrent)
  lengths = [num_steps // windows] * windows
  for w in range(num_steps % windows):
    lengths[w] += 1
  rows, step = [], 0
  for window, length in enumerate(lengths):
    members = list(range(total))[window * concurrent :][:concurrent]
    is_last = step + length >= num_steps
    phase = 0
    while phase < length or (is_last and length and len(rows) < run_steps):
      rows.append(
        [
          members[(rotates * phase * slots + j) % len(members)]
          for j in range(slots)
        ]
      )
      phase += 1
    step += length
    if is_last and length:
      break
  return rows[:run_steps]


def ids_of(schedule, batch_size, steps):
  one = jax.jit(lambda s: kd.subnet_ids(s, _KEY, schedule, batch_size))
  return np.stack([np.asarray(one(s)) for s in steps])


@hypothesis.given(
  concurrent=st.integers(1, 9),
  extra=st.integers(0, 30),
  num_steps=st.integers(1, 60),
  slots=st.integers(1, 9),
  rotates=st.booleans(),
)
def test_gyro_matches_a_walk_over_windows(
  concurrent, extra, num_steps, slots, rotates
):
  total = concurrent + extra
  slots = min(slots, concurrent)
  rows_per_subnet = 4 if rotates else None
  slots = slots if rotates else concurrent
  schedule = kd.Gyro(
    total, concurrent, num_steps=num_steps, rows_per_subnet=rows_per_subnet
  )
  run = num_steps + 5
  got = jax.vmap(lambda s: kd.subnet_ids(s, _KEY, schedule, slots * 4))(
    jnp.arange(run)
  )
  want = walk_gyro(total, concurrent, num_steps, slots, rotates, run)
  np.testing.assert_array_equal(got, want)


@hypothesis.given(
  k=st.integers(1, 12), m=st.integers(1, 6), num_steps=st.integers(1, 40)
)
def test_each_sequential_subnet_trains_exactly_k_steps(k, m, num_steps):
  schedule = kd.Sequential(k=k, m=m)
  ids, counts = diagnostics.realised_reuse(_KEY, schedule, num_steps, 8)
  assert ids.tolist() == list(range(len(ids)))
  last = num_steps - (math.ceil(num_steps / k) - 1) * k
  assert counts[:-m].tolist() == [k] * (len(ids) - m)
  assert counts[-m:].tolist() == [last] * m
  assert len(ids) == schedule.num_subnets(num_steps, 8)


@pytest.mark.parametrize("schedule", _COUNTED, ids=repr)
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("num_steps", [1, 5, 8, 11])
def test_num_subnets_is_what_a_run_trains(schedule, batch_size, num_steps):
  realised = diagnostics.realised_subnets(_KEY, schedule, num_steps, batch_size)
  assert schedule.num_subnets(num_steps, batch_size) == realised


@pytest.mark.parametrize("schedule", _ALL, ids=repr)
def test_num_subnets_bounds_what_a_run_trains(schedule):
  realised = diagnostics.realised_subnets(_KEY, schedule, 9, 8)
  assert 1 <= realised <= schedule.num_subnets(9, 8)


@pytest.mark.parametrize("schedule", _ALL, ids=repr)
def test_ids_have_length_t_and_type_uint32(schedule):
  ids = kd.subnet_ids(3, _KEY, schedule, 8)
  chex.assert_shape(ids, (schedule.num_concurrent(8),))
  assert ids.dtype == jnp.uint32


@pytest.mark.parametrize(
  "schedule",
  [
    pytest.param(s, marks=pytest.mark.slow if i % 2 else ())
    for i, s in enumerate(_ALL)
  ],
  ids=repr,
)
def test_eager_jit_vmap_scan_and_pmap_agree(schedule):
  steps = jnp.arange(8)

  def ids(step):
    return kd.subnet_ids(step, _KEY, schedule, 8)

  eager = np.stack([ids(int(s)) for s in steps])
  np.testing.assert_array_equal(
    np.stack([jax.jit(ids)(s) for s in steps]), eager
  )
  np.testing.assert_array_equal(jax.vmap(ids)(steps), eager)
  np.testing.assert_array_equal(
    jax.lax.scan(lambda c, s: (c, ids(s)), 0, steps)[1], eager
  )
  np.testing.assert_array_equal(jax.pmap(ids)(steps), eager)


@pytest.mark.parametrize("schedule", _ALL, ids=repr)
def test_one_trace_serves_all_steps_in_any_order(schedule):
  chex.clear_trace_counter()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def ids(step, schedule):
    return kd.subnet_ids(step, _KEY, schedule, 8)

  forwards = [np.asarray(ids(s, schedule)) for s in range(8)]
  for step in (6, 0, 3):  # a jump needs no earlier step
    np.testing.assert_array_equal(ids(step, schedule), forwards[step])


@pytest.mark.parametrize("schedule", _COUNTED, ids=repr)
def test_counted_windows_never_share_an_id(schedule):
  rows = [tuple(sorted(set(r.tolist()))) for r in ids_of(schedule, 8, range(8))]
  if isinstance(schedule, kd.Gyro) and schedule.rows_per_subnet:
    return  # several steps rotate over one window: covered by the walk
  windows = set(rows)
  members = [i for w in windows for i in w]
  assert len(members) == len(set(members))


def test_ids_count_upwards_and_wrap_at_2_to_the_32():
  # step * batch_size: 2**29 * 8 = 2**32, so the ids start again.
  assert kd.subnet_ids(2**29, _KEY, kd.Standard(), 8).tolist() == list(range(8))
  last = kd.subnet_ids(2**29 - 1, _KEY, kd.Standard(), 8)
  assert last.tolist() == [2**32 - 8 + j for j in range(8)]


def test_gyro_near_the_largest_step_does_not_overflow():
  num_steps = 2**31 - 1
  schedule = kd.Gyro(1000, 7, num_steps=num_steps)
  windows = math.ceil(1000 / 7)
  q, r = divmod(num_steps, windows)
  border = r * (q + 1)
  for step in (0, q, q + 1, border - 1, border, num_steps - 1):
    window = step // (q + 1) if step < border else r + (step - border) // q
    assert kd.subnet_ids(step, _KEY, schedule, 64)[0] == window * 7
    traced = jax.jit(lambda s: kd.subnet_ids(s, _KEY, schedule, 64))(
      jnp.int32(step)
    )
    assert traced[0] == window * 7


def test_a_sweep_over_k_is_one_program():
  ks = jnp.array([1, 2, 5])
  swept = jax.vmap(lambda s: kd.subnet_ids(9, _KEY, s, 8))(
    kd.Sequential(k=ks, m=2)
  )
  for k, ids in zip(ks, swept):
    np.testing.assert_array_equal(
      ids, kd.subnet_ids(9, _KEY, kd.Sequential(k=int(k), m=2), 8)
    )


@pytest.mark.parametrize("replacement", [True, False])
def test_a_sweep_over_pool_size_is_one_program(replacement):
  sizes = jnp.array([4, 7, 1000])
  swept = jax.vmap(lambda s: kd.subnet_ids(9, _KEY, s, 8))(
    jax.tree.map(lambda _: sizes, kd.Pooled(9, m=4, replacement=replacement))
  )
  for size, ids in zip(sizes, swept):
    schedule = kd.Pooled(int(size), m=4, replacement=replacement)
    np.testing.assert_array_equal(ids, kd.subnet_ids(9, _KEY, schedule, 8))
    assert np.all(np.asarray(ids) < size)


def chi_square(counts, expected):
  return float(np.sum((counts - expected) ** 2 / expected))


@pytest.mark.parametrize(
  "schedule",
  [
    kd.Pooled(pool_size=8, m=3),
    kd.Pooled(pool_size=8, m=3, replacement=False),
    kd.Gyro(8, 3, num_steps=9, scheduling="random"),
  ],
  ids=repr,
)
def test_draws_are_uniform_in_every_slot(schedule):
  steps = 8000
  ids = np.asarray(
    jax.vmap(lambda s: kd.subnet_ids(s, _KEY, schedule, 8))(jnp.arange(steps))
  )
  for slot in range(3):
    counts = np.bincount(ids[:, slot], minlength=8)
    # Chi-square with 7 degrees exceeds 42 with probability 5e-7 (three slots,
    # three schedules: false alarms below 5e-6 in all, the key being fixed).
    assert chi_square(counts, steps / 8) < 42
  distinct = np.array([len(set(row)) for row in ids.tolist()])
  if getattr(schedule, "replacement", False):
    # 8 * 7 * 6 / 8**3 of the draws are distinct: .65625, sd .0053.
    assert abs(np.mean(distinct == 3) - 0.65625) < 5.5 * 0.0053
  else:
    assert np.all(distinct == 3)


def test_sets_drawn_without_replacement_are_uniform():
  schedule = kd.Pooled(pool_size=5, m=2, replacement=False)
  ids = jax.vmap(lambda s: kd.subnet_ids(s, _KEY, schedule, 8))(
    jnp.arange(10_000)
  )
  ordered, counts = np.unique(np.asarray(ids), axis=0, return_counts=True)
  assert len(ordered) == 20  # 5 * 4 ordered pairs: the slots are exchangeable
  # Chi-square with 19 degrees exceeds 68 with probability 2e-7.
  assert chi_square(counts, 500.0) < 68


def test_the_draw_depends_on_key_and_step_only():
  schedule = kd.Pooled(pool_size=1000, m=8)
  ids = kd.subnet_ids(4, _KEY, schedule, 8)
  other_key = kd.subnet_ids(4, jax.random.key(8), schedule, 8)
  assert ids.tolist() != other_key.tolist()
  assert ids.tolist() != kd.subnet_ids(5, _KEY, schedule, 8).tolist()
  legacy = kd.subnet_ids(4, jax.random.key_data(_KEY), schedule, 8)
  assert ids.tolist() == legacy.tolist()


def test_gyro_with_replacement_holds_for_a_window():
  schedule = kd.Gyro(1000, 4, num_steps=1000, replacement=True)
  ids = ids_of(schedule, 8, range(12))
  # 250 windows of 4 steps.
  assert np.all(ids[:4] == ids[0])
  assert np.all(ids[4:8] == ids[4])
  assert ids[0].tolist() != ids[4].tolist()


@pytest.mark.parametrize(
  "schedule", [s for s in _ALL if hasattr(s, "per_layer")], ids=repr
)
def test_per_layer_draws_differ_and_counted_ids_do_not(schedule):
  fields = {f: getattr(schedule, f) for f in schedule.__dataclass_fields__}
  fields["per_layer"] = True
  layered = type(schedule)(**fields)
  counted = schedule in _COUNTED
  if not counted:
    with pytest.raises(ValueError, match="layer must be given"):
      kd.subnet_ids(0, _KEY, layered, 8)
  rows = [
    np.concatenate(
      [kd.subnet_ids(s, _KEY, layered, 8, layer=i) for s in range(8)]
    ).tolist()
    for i in range(3)
  ]
  if counted or schedule == kd.Pooled(pool_size=1, m=1):
    assert rows[0] == rows[1] == rows[2]
  else:
    assert rows[0] != rows[1] != rows[2]


@pytest.mark.parametrize(
  ("step", "batch_size", "message"),
  [
    (-1, 8, r"step must be >= 0, got -1"),
    (1.5, 8, r"step must be an integer, got 1.5"),
    (True, 8, r"step must be an integer, got True"),
    (jnp.arange(3), 8, r"step must be a scalar, got shape \(3,\); vmap"),
    (jnp.float32(2), 8, r"step must be an integer"),
    (0, 0, r"batch_size must be >= 1, got 0"),
  ],
)
def test_refuses_wrong_steps_and_batches(step, batch_size, message):
  with pytest.raises(ValueError, match=message):
    kd.subnet_ids(step, _KEY, kd.Standard(), batch_size)


def test_refuses_what_is_no_schedule_and_no_key():
  with pytest.raises(ValueError, match="schedule must be Standard"):
    kd.subnet_ids(0, _KEY, 3, 8)
  with pytest.raises(ValueError, match="key must be a jax.random key"):
    kd.subnet_ids(0, 3, kd.Pooled(4, m=2), 8)


@pytest.mark.parametrize("num_rows", [0, 1, 5, 8, 13])
@pytest.mark.parametrize("num_groups", [1, 2, 3, 8, 20])
def test_rows_of_groups_tile_the_batch(num_rows, num_groups):
  slots = blocks.row_slots(num_rows, num_groups)
  starts = blocks.row_starts(num_rows, num_groups)
  assert starts[0] == 0
  assert starts[-1] == num_rows
  for group in range(num_groups):
    rows = np.flatnonzero(slots == group)
    np.testing.assert_array_equal(
      rows, np.arange(starts[group], starts[group + 1])
    )


@pytest.mark.parametrize(
  "schedule",
  [
    kd.Sequential(k=np.array([1, 100]), m=2),
    kd.Pooled(pool_size=jnp.array([5])),
  ],
)
def test_a_sweep_must_be_mapped_over(schedule):
  """Broadcast, its numbers would be slots of one step."""
  with pytest.raises(ValueError, match="a single number here, got shape"):
    kd.subnet_ids(4, jax.random.key(0), schedule, 8)
  ids = jax.vmap(lambda s: kd.subnet_ids(4, jax.random.key(0), s, 8))(schedule)
  assert ids.shape[0] == len(jax.tree.leaves(schedule)[0])
