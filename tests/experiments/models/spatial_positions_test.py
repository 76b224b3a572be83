"""Masks over positions: of a text, and of an image's channels."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import kdropout_jax as kd
from experiments import models

_TEXT = dict(hidden=32, num_hidden=1, vocabulary=20)


def build(name, rate=0.5, **options):
  dropout = functools.partial(kd.linen.Dropout, rate)
  return models.build(name, models.Options(20, dropout, **options))


def seen_at_sites(model, x, key, subnets):
  """Returns {site: (what goes in, what comes out)} of a training call."""
  variables = model.init(key, x, train=False)
  seen = {}

  def record(next_fun, args, kwargs, context):
    out = next_fun(*args, **kwargs)
    if isinstance(context.module, kd.linen.Dropout):
      seen[context.module.name] = (args[0], out)
    return out

  with nn.intercept_methods(record):
    model.apply(
      variables,
      x,
      train=True,
      subnets=subnets,
      rngs={"subnets": key, "dropout": key},
    )
  return {k: (np.asarray(a), np.asarray(b)) for k, (a, b) in seen.items()}


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@pytest.mark.parametrize("subnets", [None, np.arange(3)])
def test_a_variational_mask_is_constant_over_positions(kind, subnets, key):
  x = jax.random.randint(key, (3, 7), 0, 20)
  ids = None if subnets is None else jnp.asarray(subnets, jnp.uint32)
  for how in ("", "_variational"):
    model = build(f"char_{kind}{how}", **_TEXT)
    sites = seen_at_sites(model, x, key, ids)
    assert len(sites) == model.num_sites
    for name, (before, after) in sites.items():
      # A unit that was 0, or is hidden from attention, tells nothing.
      kept = np.ma.masked_array(after != 0, before == 0).astype(float)
      axis = 2 if name == "attention_dropout" else 1
      spread = np.ma.max(kept, axis) - np.ma.min(kept, axis)
      assert (spread.max() == 0) == bool(how), name
      assert 0 < kept.mean() < 1
    if ids is not None:
      _, after = sites[next(iter(sites))]
      assert ((after[0] == 0) != (after[1] == 0)).any()  # Rows have their own.


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_a_character_is_told_from_those_before_it_alone(kind, key):
  model = build(f"char_{kind}", **_TEXT)
  x = jax.random.randint(key, (2, 8), 0, 20)
  variables = model.init(key, x, train=False)
  apply = jax.jit(functools.partial(model.apply, train=False))
  whole, other = apply(variables, x), apply(variables, x.at[:, 5].add(1) % 20)
  np.testing.assert_array_equal(whole[:, :5], other[:, :5])
  assert (whole[:, 5:] != other[:, 5:]).any(axis=(0, 2)).all()


def test_a_state_mask_is_of_what_is_handed_on_and_not_of_what_is_put_out(key):
  """With the state dropped altogether, a position sees its own input alone."""
  x = jnp.array([[1, 2, 3], [3, 2, 1]])
  model = build("char_lstm", **_TEXT)
  variables = model.init(key, x, train=False)

  def none(next_fun, args, kwargs, context):
    out = next_fun(*args, **kwargs)
    is_site = isinstance(context.module, kd.linen.Dropout)
    if is_site and context.module.name == "state_dropout_0":
      return jnp.zeros_like(out)
    return out

  params: Any = variables["params"]
  without = {**params, "state_0": jnp.zeros_like(params["state_0"])}
  with nn.intercept_methods(none):
    got = model.apply(variables, x, train=False)
  expected = model.apply({"params": without}, x, train=False)
  np.testing.assert_array_equal(got, expected)
  assert np.any(got != model.apply(variables, x, train=False))


def test_channels_are_dropped_whole_as_spatial_dropout_drops_them(key):
  x = jax.random.normal(key, (2, 8, 8, 3))
  ids = jnp.arange(2, dtype=jnp.uint32)
  for name, whole in (("cnn_channels", True), ("cnn_units", False)):
    sites = seen_at_sites(build(name, channels=(6, 5)), x, key, ids)
    for before, after in sites.values():
      kept = np.ma.masked_array(after != 0, before == 0).astype(float)
      spread = np.ma.max(kept, (1, 2)) - np.ma.min(kept, (1, 2))
      assert (spread.max() == 0) == whole and 0 < kept.mean() < 1
  x = jnp.ones((2, 4, 4, 6))
  shared, spatial = (
    site.apply({}, x, False, subnets=ids, rngs={"subnets": key})
    for site in (
      kd.linen.Dropout(0.5, broadcast_dims=(1, 2)),
      kd.linen.SpatialDropout(0.5),
    )
  )
  np.testing.assert_array_equal(shared, spatial)


@pytest.mark.parametrize("name", ["char_lstm", "char_transformer"])
def test_what_is_no_text_is_refused(name, key):
  model = build(name, **_TEXT)
  for wrong in (jnp.ones((2, 3)), jnp.ones((2, 3, 4), int)):
    with pytest.raises(ValueError, match="inputs must be codes of characters"):
      model.init(key, wrong, train=False)
  with pytest.raises(ValueError, match="has no effect on model"):
    build(name, input_rate=0.2)
