"""Schedules of a user's own, everywhere that a schedule is taken."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import kdropout_jax as kd
from kdropout_jax import testing
from kdropout_jax.training import small
from kdropout_jax.training import state
from kdropout_jax.training import step
from kdropout_jax.training import windows
from tests.training import windows_test as shared

KEY = jax.random.key(3)
POOLED = kd.Pooled(pool_size=5, m=2)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["pool_size"],
  meta_fields=["per_layer"],
)
@dataclasses.dataclass(frozen=True)
class Wrapped:
  """Says what `kd.Pooled` says, as a schedule of one's own."""

  pool_size: Any = 5
  per_layer: bool = False

  def subnet_ids(self, step, key, batch_size, layer):
    inner = kd.Pooled(self.pool_size, m=2, per_layer=self.per_layer)
    return kd.subnet_ids(step, key, inner, batch_size, layer)

  def num_concurrent(self, batch_size):
    return 2


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Shifted(kd.Sequential):
  """A subclass whose override counts: ids begin at 100."""

  def subnet_ids(self, step, key, batch_size, layer):
    del key, batch_size, layer
    return 100 + step + jnp.arange(self.m, dtype=jnp.uint32)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Wider(kd.Sequential):
  """A subclass whose override would be ignored."""

  def num_concurrent(self, batch_size):
    return 2 * self.m


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Renamed(kd.Sequential):
  """A subclass that changes nothing."""


class NoTree(Wrapped):
  """Not registered, so that JAX takes it for a leaf."""


def by_windows(step, key):
  return jax.random.randint(jax.random.fold_in(key, step // 2), (2,), 0, 9)


CUSTOM = kd.CustomSchedule(by_windows, 2)


@pytest.mark.parametrize(
  "schedule",
  [Wrapped(), Wrapped(per_layer=True), Shifted(m=2), Renamed(k=3), CUSTOM,
   kd.CustomSchedule(by_windows, 2, per_layer=True), kd.Standard(),
   kd.Gyro(10, 4, num_steps=8)],
  ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_laws_hold(schedule):
  kd.testing.check_schedule(schedule, num_steps=6, key=KEY)


@pytest.mark.parametrize("per_layer", [False, True])
def test_ids_and_masks_are_those_of_the_schedule_within(per_layer):
  own, inner = Wrapped(per_layer=per_layer), kd.Pooled(5, 2, True, per_layer)
  widths, pattern = {"a": 8, "b": 8}, kd.Bernoulli()
  configs = [kd.MaskConfig(s, pattern, widths, 8) for s in (own, inner)]
  got, want = (kd.layer_masks(4, KEY, config) for config in configs)
  jax.tree.map(np.testing.assert_array_equal, got, want)
  got = jax.jit(kd.masks_for_steps, static_argnums=1)(3, 4, KEY, configs[0])
  want = kd.masks_for_steps(3, 4, KEY, configs[1])
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_no_window_of_its_base_is_taken_for_its_own():
  config = kd.MaskConfig(Shifted(k=3, m=1), kd.Bernoulli(), {"h": 32}, 8)
  got = kd.masks_for_steps(0, 4, KEY, config)["h"].keep
  want = [kd.layer_masks(i, KEY, config)["h"].keep for i in range(4)]
  np.testing.assert_array_equal(got, want)
  assert bool((got[0] != got[1]).any())


def test_leaves_of_ones_own_are_swept_over():
  sizes = jnp.array([1, 5, 9])
  got = jax.vmap(lambda n: kd.subnet_ids(7, KEY, Wrapped(n), 8))(sizes)
  want = [kd.subnet_ids(7, KEY, kd.Pooled(n, m=2), 8) for n in (1, 5, 9)]
  np.testing.assert_array_equal(got, want)
  mapped = jax.vmap(lambda s: kd.subnet_ids(7, KEY, s, 8))(Wrapped(sizes))
  np.testing.assert_array_equal(mapped, want)


def test_the_short_form_gives_each_layer_a_key_of_its_own():
  both = [
    kd.subnet_ids(2, KEY, dataclasses.replace(CUSTOM, per_layer=True), 8, layer)
    for layer in (0, 1)
  ]
  assert both[0].tolist() != both[1].tolist()
  want = by_windows(jnp.uint32(2), jax.random.fold_in(KEY, 1))
  np.testing.assert_array_equal(both[1], want)
  assert hash(CUSTOM) == hash(kd.CustomSchedule(by_windows, 2))


@pytest.mark.parametrize(
  ("schedule", "message"),
  [
    (Wider(), "must define subnet_ids where it overrides num_concurrent"),
    (NoTree(), "must be a pytree.*register_dataclass"),
    (Wrapped, "schedule must be Standard"),
    (kd.Guided(), "given as subnets="),
  ],
)
def test_what_would_be_ignored_is_refused(schedule, message):
  with pytest.raises(ValueError, match=message):
    kd.subnet_ids(0, KEY, schedule, 8)
  with pytest.raises(ValueError, match=message):
    kd.MaskConfig(schedule, kd.Bernoulli(), {"h": 4}, 8)


@pytest.mark.parametrize(
  ("fn", "message"),
  [
    (lambda step, key: jnp.arange(3), r"must return integers \[2\].*int32 \[3"),
    (lambda step, key: jnp.zeros(2), r"must return integers \[2\].*float32"),
  ],
)
def test_ids_of_a_wrong_form_are_refused(fn, message):
  with pytest.raises(ValueError, match=message):
    kd.subnet_ids(0, KEY, kd.CustomSchedule(fn, 2), 8)


def test_a_wrong_short_form_is_refused():
  with pytest.raises(ValueError, match="fn must be callable, got 3"):
    kd.CustomSchedule(3, 2)
  with pytest.raises(ValueError, match="concurrent must be >= 1, got 0"):
    kd.CustomSchedule(by_windows, 0)


def test_linen_models_follow_it():
  model = nn.Dropout(0.5, deterministic=False)
  x = jnp.ones((8, 16))

  @functools.partial(jax.jit, static_argnums=1)
  def run(step, schedule):
    return kd.linen.apply(model, {}, x, schedule=schedule, step=step, key=KEY)

  np.testing.assert_array_equal(run(3, Wrapped()), run(3, POOLED))
  ids = kd.subnet_ids(3, KEY, POOLED, 8)
  given = kd.linen.apply(model, {}, x, subnets=ids, step=3, key=KEY)
  np.testing.assert_array_equal(given, run(3, POOLED))
  with kd.linen.intercept(subnets=ids, step=3, key=KEY):
    np.testing.assert_array_equal(model.apply({}, x), given)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (dict(), "give schedule, or subnets="),
    (dict(schedule=POOLED, subnets=jnp.arange(2)), "give schedule, or subnets="),
    (dict(subnets=jnp.zeros(2)), "subnets must be the ids"),
  ],
)  # fmt: skip
def test_one_of_schedule_and_ids_is_needed(settings, message):
  model = nn.Dropout(0.5, deterministic=False)
  with pytest.raises(ValueError, match=message):
    kd.linen.apply(model, {}, jnp.ones((4, 2)), step=0, key=KEY, **settings)
  model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  with pytest.raises(ValueError, match=message):
    kd.nnx.retrofit(model, key=KEY, **settings)


def test_ids_that_would_be_compiled_in_are_refused():
  model, ids = nn.Dropout(0.5, deterministic=False), jnp.arange(2)

  @jax.jit
  def run(x, step):
    return kd.linen.apply(model, {}, x, subnets=ids, step=step, key=KEY)

  with pytest.raises(ValueError, match="subnets must be traced"):
    run(jnp.ones((4, 2)), 0)
  nnx_model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  kd.nnx.retrofit(nnx_model, subnets=ids, key=KEY)
  with pytest.raises(ValueError, match="subnets must be traced"):
    jax.jit(lambda x: nnx_model(x))(jnp.ones((4, 2)))


def test_nnx_models_follow_it_and_take_ids_at_each_step():
  def build(**settings):
    model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    return kd.nnx.retrofit(model, key=KEY, **settings)

  x, traces = jnp.ones((8, 16)), 0
  own, built_in = build(schedule=Wrapped()), build(schedule=POOLED)
  given = build(subnets=jnp.arange(2))

  @nnx.jit
  def run(model, ids):
    nonlocal traces
    traces += 1
    kd.nnx.set_subnets(model, ids)
    return model(x)

  for number in (0, 4):
    kd.nnx.set_step(own, number), kd.nnx.set_step(built_in, number)
    want = built_in(x)
    np.testing.assert_array_equal(own(x), want)
    got = run(given, kd.subnet_ids(number, KEY, POOLED, 8))
    np.testing.assert_array_equal(got, want)
  assert traces == 1
  with pytest.raises(ValueError, match="subnets must be 2 ids"):
    kd.nnx.set_subnets(given, jnp.arange(3))
  with pytest.raises(ValueError, match="with subnets= in place of schedule="):
    kd.nnx.set_subnets(own, jnp.arange(2))
  with pytest.raises(ValueError, match="Python integers"):
    build(schedule=Wrapped(jnp.array(3)))


def test_layers_that_nnx_stacks_take_ids():
  @nnx.split_rngs(splits=3)
  @nnx.vmap(in_axes=(0,), out_axes=0)
  def stack(rngs):
    return nnx.Sequential(nnx.Dropout(0.5, rngs=rngs))

  model = kd.nnx.retrofit(stack(nnx.Rngs(0)), subnets=jnp.arange(2), key=KEY)
  kd.nnx.set_subnets(model, jnp.array([4, 4]))
  run = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))
  y = run(model, jnp.ones((8, 16)))
  assert bool((y == y[:, :1]).all()) and bool((y[0] != y[1]).any())


def trained(schedule, run_steps=None):
  members = state.stack_members([0, 1], [1e-2, 2e-2], [schedule, schedule])
  task, data = shared.make_task(), shared.make_data()
  if run_steps is None:
    run_steps = small.plan(task, members, shared.batch_of(data), 4)
  return shared.train(task, members, data, run_steps, (0, 4), 1)


@pytest.mark.parametrize(
  "run_steps",
  [step.run_steps, pytest.param(None, marks=pytest.mark.slow)],
  ids=["masked", "on small networks"],
)
def test_training_follows_it(run_steps):
  got, want = (trained(s, run_steps) for s in (Wrapped(), POOLED))
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_small_networks_take_its_exact_masks_alone():
  members = state.stack_members([0], [1e-2], [Wrapped()])
  batch = shared.batch_of(shared.make_data())
  assert small.plan(shared.make_task(), members, batch, 4)
  with pytest.raises(kd.UnsupportedError, match="use an exact pattern"):
    small.plan(shared.make_task(kd.Bernoulli), members, batch, 4)


def test_training_refuses_what_would_be_ignored():
  with pytest.raises(ValueError, match="where it overrides num_concurrent"):
    state.stack_members([0], [0.1], [Wider()])
  task, data = shared.make_task(), shared.make_data()
  members = state.stack_members([0], [0.1], [Shifted(k=2, m=1)])
  with pytest.raises(kd.UnsupportedError, match="need sequential k-dropout"):
    windows.plan(task, members, shared.batch_of(data), 4)


class Counter:
  """Forgets that steps are asked for in any order."""

  seen = 0

  def __call__(self, step, key):
    type(self).seen += 1
    return jnp.arange(2, dtype=jnp.uint32) + self.seen


def branching(step, key):
  return jnp.arange(2) if int(step) % 2 else jnp.arange(2) + 2


@jax.tree_util.register_pytree_node_class
class Unequal(Wrapped):
  """Is rebuilt with a static part that equals no other."""

  def tree_flatten(self):
    return (), object()

  @classmethod
  def tree_unflatten(cls, aux, leaves):
    return cls()


def rounding(step, key):
  """Differs between a number and a traced array."""
  return jnp.arange(2) + int(isinstance(step, jax.core.Tracer))


@pytest.mark.parametrize(
  ("schedule", "message"),
  [
    (kd.CustomSchedule(Counter(), 2), "ids differ asked for in another order"),
    (kd.CustomSchedule(branching, 2), "ids cannot be mapped over steps"),
    (kd.CustomSchedule(rounding, 2), "ids differ mapped over steps"),
    (Unequal(), "one program must serve all steps, got 6 for 6"),
  ],
)
def test_broken_laws_are_told(schedule, message):
  with pytest.raises(AssertionError, match=message):
    testing.check_schedule(schedule, num_steps=6)
