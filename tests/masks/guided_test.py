"""Laws of guided scheduling, against probabilities worked out by hand."""

import collections
import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from scipy import stats

import kdropout_jax as kd
from tests import tolerance

_KEY = jax.random.key(7)
_DRAWS = 6000


@pytest.fixture(autouse=True)
def strict(strict_dtypes):
  del strict_dtypes


def state_of(losses, known=None):
  losses = np.asarray(losses, np.float32)
  known = np.ones(losses.shape, bool) if known is None else np.asarray(known)
  steps = np.zeros(losses.shape, np.int32)
  return kd.guided.State(*map(jnp.asarray, (losses, known, steps)))


@functools.partial(jax.jit, static_argnames="count")
def draws(state, config, count=_DRAWS):
  """Ids of many steps that all see the same state, [count, T]."""
  one = lambda step: kd.guided.select(state, step, _KEY, config)[0]  # noqa: E731
  return jax.vmap(one)(jnp.arange(count))


def law(losses, config):
  """Probability of each ordered draw: one after another, by the weights."""
  total, count = len(losses), config.concurrent
  found = collections.defaultdict(float)
  mixture = [(float(config.explore), np.ones(total))]
  weights = np.exp(np.asarray(losses, np.float64) / float(config.temperature))
  mixture.append((1 - float(config.explore), weights))
  for share, w in mixture:
    for order in itertools.permutations(range(total), count):
      left, chance = w.sum(), share
      for i in order:
        chance *= w[i] / left
        left -= w[i]
      found[order] += chance
  return found


def p_value(ids, expected):
  """Chi-square of the drawn orders against their probabilities."""
  counts = collections.Counter(map(tuple, np.asarray(ids).tolist()))
  assert set(counts) <= set(expected)
  orders = sorted(expected)
  observed = np.array([counts[o] for o in orders], float)
  wanted = len(ids) * np.array([expected[o] for o in orders])
  return stats.chisquare(observed, wanted).pvalue


@pytest.mark.parametrize(
  ("losses", "fields"),
  [
    ([0.0, 0.1, 0.3, 0.2], dict(temperature=0.2, explore=0.25)),
    ([2.0, 1.0, 1.0, 1.5], dict(temperature=1.0, explore=0.01)),
  ],
)
def test_draws_follow_the_weights_without_replacement(losses, fields):
  config = kd.Guided(total=4, concurrent=2, **fields)
  ids = draws(state_of(losses), config)
  expected = law(losses, config)
  assert sum(expected.values()) == pytest.approx(1)
  assert p_value(ids, expected) > 1e-3
  # The same numbers refuse another temperature.
  other = dataclasses.replace(config, temperature=10.0)
  assert p_value(ids, law(losses, other)) < 1e-6


@pytest.mark.parametrize(
  ("losses", "fields"),
  [
    ([1.3] * 4, dict(temperature=1e-3)),
    ([0.0, 9.0, 2.0, 5.0], dict(temperature=float("inf"))),
    ([0.0, 9.0, 2.0, 5.0], dict(temperature=1e-3, explore=1.0)),
  ],
)
def test_without_guidance_it_is_random_gyro_in_law(losses, fields):
  uniform = {order: 1 / 12 for order in itertools.permutations(range(4), 2)}
  guided = draws(state_of(losses), kd.Guided(4, 2, **fields))
  assert p_value(guided, uniform) > 1e-3
  gyro = kd.Gyro(4, 2, num_steps=_DRAWS, scheduling="random")
  ids = jax.vmap(lambda s: kd.subnet_ids(s, _KEY, gyro, 2))(jnp.arange(_DRAWS))
  assert p_value(ids, uniform) > 1e-3


def test_every_subnet_has_its_least_rate_whatever_the_losses():
  # Subnet 0 is so strong that only steps that explore can draw it.
  config = kd.Guided(8, 2, temperature=1e-3, explore=0.2)
  ids = np.asarray(draws(state_of([0.0] + [50.0] * 7), config))
  rate = (ids == 0).any(axis=1).mean()
  deviation = np.sqrt(config.min_rate * (1 - config.min_rate) / _DRAWS)
  assert config.min_rate == pytest.approx(0.05)
  assert abs(rate - config.min_rate) < 4 * deviation
  rates = [(ids == i).any(axis=1).mean() for i in range(1, 8)]
  assert min(rates) > 0.2


def train(config, quality, num_steps, seed=0):
  """A run whose subnet i always has loss ``quality[i]``."""

  def step(state, number):
    key = jax.random.key(seed)
    ids, state = kd.guided.select(state, number, key, config)
    state = kd.guided.update(state, ids, quality[ids], config)
    return state, ids

  return jax.lax.scan(step, kd.guided.init(config), jnp.arange(num_steps))


def test_weak_subnets_train_for_longer_in_a_run():
  config = kd.Guided(16, 4, temperature=0.2, explore=0.25)
  quality = jnp.linspace(1.0, 2.0, 16)
  state, ids = jax.jit(train, static_argnums=(0, 2))(config, quality, 2000)
  steps = np.asarray(state.steps)
  counts = np.bincount(np.asarray(ids).reshape(-1), minlength=16)
  np.testing.assert_array_equal(steps, counts)
  assert steps.sum() == 4 * 2000
  assert stats.spearmanr(steps, quality).statistic > 0.95
  assert steps.min() >= 0.8 * config.min_rate * 2000
  # An average of equal losses: rounded, but forgetting old roundings.
  tolerance.assert_sums_close(
    state.loss, quality, 3, steps=1 / (1 - config.decay)
  )


def test_ids_are_distinct_and_depend_on_state_step_and_key_alone():
  config = kd.Guided(10, 4, temperature=0.3)
  state = state_of(np.linspace(0, 2, 10), np.arange(10) % 3 > 0)
  ids = np.asarray(draws(state, config, count=50))
  assert ids.dtype == np.uint32 and ids.max() < 10
  assert all(len(set(row)) == 4 for row in ids.tolist())
  # Jitted, eager, vmapped; the step may jump; keys of any kind.
  once = chex.assert_max_traces(kd.guided.select, n=1)
  jitted = jax.jit(once)
  for step in (31, 4):
    own, after = jitted(state, step, _KEY, config)
    eager, _ = kd.guided.select(state, step, _KEY, config)
    np.testing.assert_array_equal(own, ids[step])
    np.testing.assert_array_equal(eager, ids[step])
    np.testing.assert_array_equal(
      after.steps, np.isin(np.arange(10), ids[step]).astype(np.int32)
    )
  other, _ = jitted(state, 31, jax.random.key(8), config)
  assert other.tolist() != ids[31].tolist()


def test_temperatures_are_data_that_a_sweep_vmaps_over():
  state = state_of([0.0, 1.0, 2.0])
  hot, cold = kd.Guided(3, 1, 1e6, 0.1), kd.Guided(3, 1, 1e-3, 0.1)
  both = jax.tree.map(
    lambda *leaves: jnp.stack(leaves), *map(_arrays, (hot, cold))
  )
  counts = jax.vmap(
    lambda c: (draws(state, c, 500) == 2).mean(dtype=jnp.float32)
  )(both)
  assert 0.2 < counts[0] < 0.5 and counts[1] > 0.85


def _arrays(config):
  return jax.tree.map(jnp.float32, config)


def test_losses_are_averaged_and_the_unknown_count_as_weakest():
  config = kd.Guided(4, 2, decay=0.75)
  state = kd.guided.init(config)
  np.testing.assert_array_equal(kd.guided.weakness(state), np.zeros(4))
  state = kd.guided.update(
    state, jnp.uint32([2, 0]), jnp.float32([8, 1]), config
  )
  np.testing.assert_array_equal(kd.guided.weakness(state), [1, 8, 8, 8])
  state = kd.guided.update(
    state, jnp.uint32([0, 3]), jnp.float32([5, 3]), config
  )
  # .75 * 1 + .25 * 5 = 2.
  np.testing.assert_array_equal(kd.guided.weakness(state), [2, 8, 8, 3])
  assert state.known.tolist() == [True, False, True, True]


def test_counts():
  config = kd.Guided(10, 4)
  assert config.num_concurrent(8) == 4
  assert config.num_subnets(num_steps=2, batch_size=8) == 8
  assert config.num_subnets(num_steps=2, batch_size=3) == 6
  assert config.num_subnets(num_steps=100, batch_size=8) == 10


@pytest.mark.parametrize(
  ("fields", "match"),
  [
    (dict(total=0), "total must be >= 1, got 0"),
    (dict(concurrent=257), "concurrent must be <= total, got concurrent=257"),
    (dict(temperature=0.0), "temperature must be > 0, got 0.0"),
    (dict(temperature=np.array([1.0, -1.0])), "temperature must be > 0"),
    (dict(explore=0.0), r"explore must be in \(0, 1\], got 0.0"),
    (dict(explore="half"), r"explore must be in \(0, 1\], got 'half'"),
    (dict(decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
  ],
)
def test_wrong_configurations_are_refused(fields, match):
  with pytest.raises(ValueError, match=match):
    kd.Guided(**fields)


def test_a_stateless_schedule_it_is_not():
  with pytest.raises(ValueError, match="schedule must be .* got Guided"):
    kd.subnet_ids(0, _KEY, kd.Guided(), 8)  # pyright: ignore[reportArgumentType]


def test_a_state_survives_the_serialization_of_flax():
  schedule = kd.Guided(total=4, concurrent=2)
  key = jax.random.key(0)
  _, state = kd.guided.select(kd.guided.init(schedule), 3, key, schedule)
  data = serialization.to_bytes({"guided": state})
  again = serialization.from_bytes({"guided": kd.guided.init(schedule)}, data)
  for a, b in zip(jax.tree.leaves(again["guided"]), jax.tree.leaves(state)):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(ValueError, match="the state of State must hold"):
    serialization.from_state_dict(state, {"loss": 0})


def test_a_sweep_must_be_mapped_over():
  schedule = kd.Guided(total=4, concurrent=2, explore=jnp.array([0.5, 1.0]))
  state = kd.guided.init(schedule)
  with pytest.raises(ValueError, match="explore must be a single number here"):
    kd.guided.select(state, 0, jax.random.key(0), schedule)
