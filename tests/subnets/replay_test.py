"""Catching up equals as many whole updates with zero gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kdropout_jax as kd
from kdropout_jax.subnets import replay
from tests.subnets import models

LAYOUT = kd.subnets.Layout({"w": {0: "h"}, "v": {0: "h"}})


def decay_matrices_only(params):
  return jax.tree.map(lambda x: x.ndim > 1, params)


def warm(optimizer):
  """Parameters and a state that has momentum."""
  rng = np.random.default_rng(1)
  params = {
    "w": jnp.asarray(rng.normal(size=(11, 7))),
    "v": jnp.asarray(rng.normal(size=11)),
    "free": jnp.asarray(rng.normal(size=3)),
  }
  state = optimizer.init(params)
  for _ in range(2):
    updates, state = optimizer.update(
      jax.tree.map(jnp.sin, params), state, params
    )
    params = optax.apply_updates(params, updates)
  return params, state


@pytest.mark.parametrize(
  "num_updates", [0, pytest.param(1, marks=pytest.mark.slow), 37]
)
@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20, "gpu"])
def test_catch_up_is_so_many_updates(monkeypatch, num_updates, chunk_bytes):
  if chunk_bytes == "gpu":
    models.as_on_a_gpu(monkeypatch)  # whole arrays, in one loop
  else:
    monkeypatch.setattr(replay, "_CHUNK_BYTES", chunk_bytes)  # ragged chunks
  with jax.enable_x64(True):
    optimizer = optax.adamw(
      optax.cosine_decay_schedule(1e-2, 30),
      weight_decay=0.1,
      mask=decay_matrices_only,
    )
    params, state = warm(optimizer)
    got = jax.jit(
      lambda p, s, n: kd.subnets.catch_up(optimizer, p, s, LAYOUT, n)
    )(params, state, num_updates)

    def update(_, carry):
      params, state = carry
      zeros = jax.tree.map(jnp.zeros_like, params)
      updates, state = optimizer.update(zeros, state, params)
      return optax.apply_updates(params, updates), state

    expected = jax.lax.fori_loop(0, num_updates, update, (params, state))
    for tree in (0, 1):
      paths, leaves, _ = kd.subnets.layouts.flatten(got[tree])
      others = jax.tree.leaves(expected[tree])
      for path, a, b in zip(paths, leaves, others):
        if path[-1] in ("w", "v"):
          np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(got[0]["free"], params["free"])
    assert (got[0]["w"] != params["w"]).any() == (num_updates > 0)


def test_one_program_serves_all_numbers_of_updates():
  optimizer = optax.sgd(0.1, momentum=0.9)
  params, state = warm(optimizer)
  traces = []

  @jax.jit
  def run(params, state, n):
    traces.append(n)
    return kd.subnets.catch_up(optimizer, params, state, LAYOUT, n)

  for n in (1, 5, 20):
    run(params, state, n)
  assert len(traces) == 1


def test_nothing_is_done_without_followed_parameters():
  optimizer = optax.sgd(0.1, momentum=0.9)
  params, state = warm(optimizer)
  got = kd.subnets.catch_up(optimizer, params, state, kd.subnets.Layout({}), 5)
  assert got[0] is params and got[1] is state
