"""What the older sources' experiments compute, on planted numbers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from experiments import models
from experiments.data import registry
from experiments.foundations import averaging
from experiments.foundations import batch_norm
from experiments.foundations import dropconnect
from experiments.foundations import effects
from experiments.foundations import features
from experiments.foundations import gradient_noise
from experiments.foundations import marginalised
from experiments.foundations import page
from experiments.foundations import paper
from experiments.foundations import regularizers
from experiments.foundations import sizes
from experiments.foundations import spatial
from experiments.foundations import variational
from experiments.foundations import wan_cnn
from experiments.report import page as report_page
from experiments.run import methods
from kdropout_jax.analysis import ensembles


def test_the_first_three_rows_of_table_9_are_closer_than_their_error():
  error = paper.binomial_error(paper.TABLE_9["l2"])
  assert round(error, 2) == 0.13
  first = list(paper.TABLE_9.values())[:3]
  assert max(first) - min(first) < error * 2**0.5


def test_steps_to_a_loss_are_interpolated_on_logarithms():
  steps, losses = (10, 20, 40), (2.0, 0.5, 0.125)
  # Twice the steps, a quarter of the loss: loss = 200 / step**2.
  found = gradient_noise.first_at(steps, losses, 1.0)
  np.testing.assert_allclose(found, 200**0.5)
  assert gradient_noise.first_at(steps, losses, 3.0) == 10.0
  assert gradient_noise.first_at(steps, losses, 0.1) is None
  # The first time counts, also where it rises again.
  assert gradient_noise.first_at((1, 2, 4), (1.0, 0.5, 2.0), 0.5) == 2.0


@pytest.mark.parametrize("num_steps", [40, 900, 100_000])
def test_the_loss_is_read_in_the_middle_and_at_the_end(num_steps):
  points = gradient_noise.points(num_steps)
  assert {num_steps // 2, num_steps} <= set(points)
  ratios = np.array(points[1:]) / points[:-1]
  assert points[0] >= 1 and (ratios > 1).all() and ratios.max() < 1.6


def test_averages_are_those_of_the_library():
  random = np.random.default_rng(0)
  logits = random.normal(size=(10, 50, 4)).astype(np.float32)
  labels = random.integers(0, 4, 50)
  rows = averaging.averages(logits, labels, 7)
  oracles = {
    "arithmetic": lambda x: ensembles.average(x).argmax(-1),
    "geometric": lambda x: ensembles.geometric(x).argmax(-1),
    "vote": ensembles.vote,
  }
  assert {row["n"] for row in rows} == {1, 2, 3, 5, 10}
  for row in rows:
    said = np.asarray(oracles[row["predictor"]](logits[: row["n"]]))
    assert row["accuracy"] == pytest.approx(100 * np.mean(said == labels))


def test_the_six_rows_differ_in_what_they_say_alone():
  for scale in sizes.SCALES.values():
    cells = {
      name: scale.config(**regularizers._SGD, **fields)
      for name, fields in regularizers.ARMS.items()
    }
    assert list(cells) == list(paper.TABLE_9)
    assert len({cell.digest() for cell in cells.values()}) == 6
    dropped = {name for name, c in cells.items() if c.method != "none"}
    assert dropped == {"dropout_l2", "dropout_max_norm"}
    projected = {name for name, cell in cells.items() if cell.max_norm}
    assert projected == {"max_norm", "dropout_max_norm"}
    late = cells["l2_l1"]
    assert late.l1 > 0 and late.weight_decay == cells["l2"].weight_decay


def test_an_empty_folder_was_not_run(tmp_path):
  said = report_page.text(page.PAPER, tmp_path)
  lines = [x for x in said.splitlines() if x.startswith("| `experiments.")]
  assert len(lines) == len(page.EXPERIMENTS)
  assert all("not run" in line for line in lines)
  rows = [
    {"regularizer": "l2", "seed": seed, "accuracy": value}
    for seed, value in enumerate((98.0, 97.0))
  ]
  numbers = {"scale": "cpu", "numbers": {"rows": rows}, "verdicts": []}
  (tmp_path / "regularizers.json").write_text(json.dumps(numbers))
  said = report_page.text(page.PAPER, tmp_path)
  (line,) = [x for x in said.splitlines() if x.startswith("| L2  ")]
  assert [c.strip() for c in line.split("|")[2:4]] == ["1.62", "2.50"]


def test_units_that_are_off_count_as_sparse():
  pixels = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
  eye = np.eye(2, dtype=np.float32)
  params = {
    "hidden_0": {"kernel": 2 * eye, "bias": np.array([0.0, -2.0])},
    "logits": {"kernel": eye, "bias": np.zeros(2)},
  }
  hidden = features.activations(params, pixels)
  assert hidden.tolist() == [[2.0, 0.0], [0.0, 0.0]]
  found = features.sparsity(hidden)
  assert found["mean_activation"] == 0.5 and found["share_near_zero"] == 0.75
  # Reads back (2, 0) and (0, 0): errors 1, 0, 0, 1.
  assert features.squared_error(params, pixels) == 0.5


def test_filters_lie_side_by_side_each_at_its_own_scale():
  kernel = np.stack([np.full(4, 3.0), np.array([0, -2.0, 0, 1])], axis=1)
  image = features.tiles(kernel, 4)
  assert image.shape == (5, 5)
  np.testing.assert_array_equal(image[:2, :2], 1.0)
  np.testing.assert_array_equal(image[:2, 3:], [[0, -1], [0, 0.5]])


def test_the_width_varies_and_what_is_kept_does_not():
  for scale in sizes.SCALES.values():
    found = effects.settings(scale)["width"]
    kept = {n * (1 - f.get("rate", 0)) for n, f in found.items()}
    np.testing.assert_allclose(list(kept), scale.widths[0])
    for by in effects.settings(scale).values():
      for fields in by.values():
        scale.config(**fields, epochs=30, num_steps=8)


def test_rate_one_half_is_held_against_the_best_on_average():
  values = {0.2: (90.0, 92.0), 0.5: (95.0, 90.0), 0.8: (99.0, 70.0)}
  rows = [
    {"part": "rate", "x": x, "seed": seed, "accuracy": value}
    for x, own in values.items()
    for seed, value in enumerate(own)
  ]
  found = effects.best_rate(rows)
  # .5 is best on average, at 92.5.
  assert [r["accuracy_minus_the_best_rate"] for r in found] == [0.0, 0.0]
  rows[0]["accuracy"] = 98.0
  found = effects.best_rate(rows)
  assert [r["accuracy_minus_the_best_rate"] for r in found] == [-3.0, -2.0]


@pytest.mark.parametrize("name", sizes.SCALES)
@pytest.mark.parametrize(
  ("module", "scales"), [(dropconnect, sizes.SCALES), (wan_cnn, sizes.WAN)]
)
def test_arms_of_drop_connect_are_runs_of_their_own(module, scales, name):
  scale = scales[name]
  cells = {
    (network, *arm): scale.config(**(own | fields))
    for network, own in module.NETWORKS[name].items()
    for arm, fields in module.arms(scale).items()
  }
  assert len({cell.digest() for cell in cells.values()}) == len(cells)
  weights = {arm[1] for arm, c in cells.items() if methods.connections(c)}
  assert weights == {"drop_connect"}


def test_a_pair_is_two_digits_and_a_seed_another_choice_of_images():
  scale = sizes.SMOKE
  first, again, other = (
    marginalised.load(scale, None, (3, 5), seed) for seed in (0, 0, 1)
  )
  assert first.train_x.shape == (scale.pair_images, 64)
  for labels in (first.train_labels, first.test_labels):
    assert set(labels.tolist()) == {0, 1}
  np.testing.assert_array_equal(first.train_x, again.train_x)
  assert (first.train_x != other.train_x).any()
  np.testing.assert_array_equal(first.test_x, other.test_x)


def test_the_closed_loss_is_what_sampled_ones_are_on_average():
  """At weights that neither was trained for."""
  pair = marginalised.load(sizes.SMOKE, None, (4, 9), 0)
  random = np.random.default_rng(0)
  weights = jnp.asarray(random.normal(size=64) / 4, jnp.float32)
  params = {"weights": weights, "bias": jnp.float32(0.1)}
  x, labels = jnp.asarray(pair.train_x), jnp.asarray(pair.train_labels)
  key, ids = jax.random.key(0), jnp.arange(400 * 40).reshape(400, 40)
  for losses, far in zip(marginalised.LOSSES.values(), (0.0, 0.05)):

    def sampled(own, losses=losses):
      return losses["sampled"](params, (key, own), x, labels)

    values = np.asarray(jax.jit(jax.vmap(sampled))(ids))
    error = 5 * values.std() / np.sqrt(len(values))
    closed, none = (
      losses[name](params, (), x, labels) for name in ("closed", "none")
    )
    assert abs(values.mean() - closed) < error + far
    assert abs(values.mean() - none) > error


@pytest.mark.parametrize("name", sizes.SCALES)
@pytest.mark.parametrize(
  ("module", "scales"), [(spatial, sizes.SPATIAL), (variational, sizes.TEXT)]
)
def test_arms_of_maps_and_texts_are_runs_of_their_own(module, scales, name):
  scale = scales[name]
  arms = module.settings(scale)
  cells = {key: scale.config(**fields) for key, fields in arms.items()}
  assert len({cell.digest() for cell in cells.values()}) == len(cells)
  for cell in cells.values():
    dataset = registry.get(cell.dataset)
    assert cell.mean_pool == 1 or dataset.task == "image"
    assert 8 <= cell.batch_size <= cell.num_train < dataset.rows[0]
    # Windows of a run as long as its epochs are.
    assert scale.num_steps == cell.steps(cell.num_train)


def test_bits_are_losses_of_two_equally_likely_characters():
  found = variational.bits({"test_loss": [np.log(2)], "train_loss": [0.0]})
  assert found == {"bits": 1.0, "train_bits": 0.0}


def norm_variables(model, x, key):
  """Parameters at random, and statistics of training calls on `x`."""
  variables = model.init(key, x, train=False)

  @jax.jit
  def train(variables, step):
    _, updated = model.apply(
      variables,
      x,
      train=True,
      subnets=step * len(x) + jnp.arange(len(x)),
      rngs={"subnets": key},
      mutable=["batch_stats"],
    )
    return variables | updated

  for step in range(60):  # Of what was there at first .9**60 is left.
    variables = train(variables, step)
  return variables


@pytest.mark.parametrize(
  ("place", "shifted"),
  [("before", {0, 1}), ("after", {1}), ("last", set())],
)
def test_variances_shift_behind_dropout_and_nowhere_else(place, shifted, key):
  """On the very images that the statistics are of: no other shift is there."""
  x = jax.random.normal(key, (200, 20))
  model = models.build(
    f"mlp_norm_{place}",
    models.Options(3, functools.partial(kd.linen.Dropout, 0.5), hidden=64),
  )
  variables = norm_variables(model, x, key)
  inputs = batch_norm.normalised(model, variables, x)
  for layer in range(2):
    own = variables["batch_stats"][f"norm_{layer}"]
    found = batch_norm.ratios(inputs[f"norm_{layer}"], np.asarray(own["var"]))
    if layer in shifted:
      assert found.mean() < 0.8
    else:
      # What .9**60 leaves of 1, the statistics at the start; means of squares.
      np.testing.assert_allclose(found, 1.0, atol=0.03)


def test_a_dropped_input_of_a_norm_has_the_variance_that_theory_says():
  """Halved and doubled it has 2 E x^2 - (E x)^2, at test E x^2 - (E x)^2."""
  x = np.maximum(np.random.default_rng(0).normal(size=(100_000, 1)), 0)
  dropped = 2 * x * (np.random.default_rng(1).random(x.shape) < 0.5)
  (ratio,) = batch_norm.ratios(x, dropped.var(axis=0))
  second, first = 0.5, 1 / np.sqrt(2 * np.pi)
  expected = (second - first**2) / (2 * second - first**2)
  assert abs(ratio - expected) < 0.02
