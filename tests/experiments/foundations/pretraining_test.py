"""Machines learn what the data are, and layers keep what they learnt."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from experiments.foundations import boltzmann
from experiments.foundations import denoising
from experiments.foundations import finetuning
from experiments.foundations import rbm
from tests import tolerance


@pytest.fixture
def patterns():
  """Rows of one of four patterns of twelve units, each unit flipped at times."""
  random = np.random.default_rng(0)
  four = random.integers(0, 2, (4, 12))
  flips = random.random((200, 12)) < 0.05
  return np.asarray(four[np.arange(200) % 4] ^ flips, np.float32)


RECIPE = rbm.Recipe(num_steps=400, batch_size=20, learning_rate=0.1)
_SCHEDULES = {
  "whole": {},
  "standard": {"rate": 0.5},
  "sequential": {"rate": 0.5, "schedule": kd.Sequential(k=20, m=4)},
  "pooled": {"rate": 0.5, "schedule": kd.Pooled(pool_size=6, m=4)},
}


def test_free_energy_is_that_of_all_hidden_units_summed_out(key):
  machine = rbm.init(key, 4, 5)
  machine = machine._replace(
    weights=100 * machine.weights, hidden=jnp.arange(5.0)
  )
  v = jnp.array([[0.0, 1.0, 1.0, 0.0], [1.0, 0.3, 0.0, 1.0]])
  keep = jnp.array([[1.0, 0.0, 1.0, 1.0, 0.0]])
  states = [
    np.array(h) * np.asarray(keep[0])
    for h in itertools.product((0, 1), repeat=5)
    if not (np.array(h) * (1 - np.asarray(keep[0]))).any()
  ]
  exponents = np.stack(
    [
      np.asarray(v) @ np.asarray(machine.weights) @ h
      + np.asarray(v @ machine.visible)
      + np.asarray(machine.hidden) @ h
      for h in states
    ]
  )
  expected = -np.log(np.exp(exponents.astype(np.float64)).sum(axis=0))
  found = rbm.free_energy(machine, v, keep)
  tolerance.assert_sums_close(found, expected, 4 + 5 + len(states))


@pytest.mark.parametrize("name", list(_SCHEDULES))
def test_pretraining_lowers_the_free_energy_of_data_against_noise(
  name, patterns, key
):
  recipe = RECIPE._replace(**_SCHEDULES[name])
  noise = np.random.default_rng(1).integers(0, 2, (200, 12))

  def gap(machine):
    data, other = (
      rbm.free_energy(machine, jnp.asarray(x, jnp.float32)).mean()
      for x in (patterns, noise)
    )
    return float(data - other)

  before = rbm.init(key, 12, 16)
  assert abs(gap(before)) < 0.5
  assert gap(rbm.train(patterns, 16, key, recipe)) < -2.0


def test_masks_of_hidden_units_stand_for_k_steps(key):
  recipe = RECIPE._replace(rate=0.5, schedule=kd.Sequential(k=5, m=2))
  masks = [np.asarray(rbm.row_masks(s, key, recipe, 16)) for s in range(10)]
  for step, keep in enumerate(masks):
    assert set(np.unique(keep)) == {0.0, 1.0}
    assert len(np.unique(keep, axis=0)) == 2
    same = (keep == masks[step // 5 * 5]).all()
    assert same and (keep != masks[5 if step < 5 else 0]).any()


def test_a_hidden_unit_that_is_off_has_no_gradient(patterns, key):
  machine = rbm.init(key, 12, 6)
  keep = jnp.broadcast_to(jnp.array([1.0, 0, 1, 1, 0, 1]), (200, 6))
  gradient = jax.grad(rbm.contrast)(machine, jnp.asarray(patterns), key, keep)
  off = np.asarray(keep[0]) == 0
  assert (gradient.weights[:, off] == 0).all() and (
    gradient.hidden[off] == 0
  ).all()
  assert (gradient.weights[:, ~off] != 0).any(axis=0).all()


def test_denoising_lowers_the_error_of_reading_back(patterns, key):
  def error(coder):
    v = jnp.asarray(patterns)
    return float(denoising.error(coder, v, denoising.corrupt(v, key)))

  before = error(rbm.init(key, 12, 16))
  np.testing.assert_allclose(before, 12 * np.log(2), rtol=0.02)
  coder = denoising.train(patterns, 16, key, RECIPE)
  assert error(coder) < 0.6 * before
  with pytest.raises(ValueError, match="rate must be 0 for an autoencoder"):
    denoising.train(patterns, 16, key, RECIPE._replace(rate=0.5))


def test_a_deep_machine_reads_back_better_than_the_mean_image(patterns, key):
  machine = boltzmann.train(
    patterns, (16, 8), key, RECIPE._replace(learning_rate=0.01), RECIPE
  )
  v = jnp.asarray(patterns)
  error = jnp.mean((boltzmann.read_back(machine, v) - v) ** 2)
  assert error < 0.5 * jnp.mean((v.mean(axis=0)[None] - v) ** 2)


def test_mean_field_is_a_fixed_point(patterns, key):
  machine = boltzmann.init(key, (12, 6, 5))
  v = jnp.asarray(patterns[:3])
  units = boltzmann.mean_field(machine, v)
  lower = boltzmann.lower_means(machine, v, units.upper)
  tolerance.assert_sums_close(units.lower, lower, 12 + 6 + 5)
  upper = boltzmann.upper_means(machine, units.lower)
  tolerance.assert_sums_close(units.upper, upper, 6)


@pytest.mark.parametrize("train", [rbm.train, denoising.train, boltzmann.train])
@pytest.mark.parametrize(
  "data",
  [
    np.full((4, 3), 1.5, np.float32),
    np.full((4, 3), -0.1, np.float32),
    np.full((4, 3), np.nan, np.float32),
    np.ones((4, 3), int),
    np.ones(3, np.float32),
  ],
)
def test_data_outside_0_and_1_are_refused(train, data, key):
  args = (2, key, RECIPE)
  if train is boltzmann.train:
    args = ((2, 2), key, RECIPE, RECIPE)
  with pytest.raises(ValueError, match=r"must be floats \[N, V\] in \[0, 1\]"):
    train(data, *args)


def test_scaled_weights_give_a_unit_on_average_what_pretraining_gave(key):
  """Of its inputs, over all masks: what it sums up is that of the machine."""
  weights = jax.random.normal(key, (5, 3))
  given = finetuning.Pretrained(((weights, jnp.zeros(3)),))
  (scaled, _), *_ = given.scaled((0.4,), "at_test").layers
  x = jnp.array([0.2, 1.0, 0.5, 0.0, 0.9])
  expected = kd.analysis.marginalised.expectation(
    lambda mask: (mask * x) @ scaled, 5, 0.4
  )
  tolerance.assert_sums_close(x @ weights, expected, 5 + 32)


def test_the_first_layer_of_a_classifier_starts_where_pretraining_ended(key):
  model = finetuning.Classifier((4, 3), 2, rate=0.5, input_rate=0.2)
  layers = tuple(
    (jnp.full(shape, 0.5), jnp.full(shape[1], 0.1))
    for shape in ((6, 4), (4, 3))
  )
  scaled = finetuning.Pretrained(layers).scaled(model.rates, model.rescale)
  params = model.start(key, 6, scaled)
  np.testing.assert_allclose(params["hidden_0"]["kernel"], 0.5 / 0.8)
  np.testing.assert_allclose(params["hidden_1"]["kernel"], 0.5 / 0.5)
  # At test the weights count for what was kept: the pretrained network.
  x = jax.random.uniform(key, (2, 6))
  hidden = x
  for weights, biases in layers:
    hidden = jax.nn.sigmoid(hidden @ weights + biases[None])
  logits = 0.5 * hidden @ params["logits"]["kernel"]
  got = model.apply({"params": params}, x)
  tolerance.assert_sums_close(got, logits, 6 + 4 + 3)


def test_weights_are_scaled_once_and_for_scaling_at_the_test_alone():
  given = finetuning.Pretrained(((jnp.ones((2, 2)), jnp.zeros(2)),))
  with pytest.raises(
    ValueError, match="rescale must be 'at_test' .* 'expected"
  ):
    given.scaled((0.5,), "expected")
  once = given.scaled((0.5,), "at_test")
  with pytest.raises(ValueError, match="must be scaled once"):
    once.scaled((0.5,), "at_test")
  for rates in ((1.0,), (0.5, 0.5)):
    with pytest.raises(
      ValueError, match=r"rates must be 1 numbers in \[0, 1\)"
    ):
      given.scaled(rates, "at_test")
