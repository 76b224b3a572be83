"""Members and digests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax.training import state


def test_members_carry_their_schedules_data():
  members = state.stack_members(
    [3, 4], [0.1, 0.2], [kd.Pooled(5, m=2), kd.Pooled(9, m=2)]
  )
  assert members.schedule.pool_size.tolist() == [5, 9]
  assert members.schedule.m == 2
  assert members.num_members == 2
  keys = jax.vmap(lambda m: m.key)(members)
  assert keys[1] == jax.random.key(4)


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (([], [], []), "one entry a member, got 0, 0 and 0"),
    (([1], [0.1, 0.2], [None]), "got 1, 2 and 1"),
    (([-1], [0.1], [None]), r"seeds must lie in \[0, 2\*\*32\), got -1"),
    (
      ([1, 2], [0.1] * 2, [kd.Sequential(k=2, m=1), kd.Sequential(k=2, m=2)]),
      "may differ in their data alone .*k=2, m=1.*k=2, m=2",
    ),
    (([1, 2], [0.1] * 2, [None, kd.Standard()]), "alone .*, got"),
  ],
)
def test_members_that_do_not_fit_are_refused(args, message):
  with pytest.raises(ValueError, match=message):
    state.stack_members(*args)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_looks_at_every_leaf(bad):
  good = {"a": np.ones(3), "n": np.int32(4)}
  assert state.all_finite(good)
  assert not state.all_finite({**good, "b": np.array([0.0, bad])})
  assert not state.all_finite({"b": jnp.array([bad], jnp.bfloat16)})
