"""Many subnets at once: the same as one by one, small or masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import kdropout_jax as kd
from kdropout_jax.analysis import subnet_accuracy
from tests import tolerance

T, W = 5, 16
LENGTH = 4 + W + W


class Net(nn.Module):
  """Two hidden layers."""

  @nn.compact
  def __call__(self, x, train=False):
    for i in range(2):
      x = nn.relu(nn.Dense(W, name=f"dense_{i}")(x))
      x = kd.linen.Dropout(0.5, name=f"drop_{i}")(x, deterministic=not train)
    return nn.Dense(3, name="logits")(x)


LAYOUT = kd.subnets.Layout(
  {
    "dense_0/kernel": {1: "drop_0"},
    "dense_0/bias": {0: "drop_0"},
    "dense_1/kernel": {0: "drop_0", 1: "drop_1"},
    "dense_1/bias": {0: "drop_1"},
    "logits/kernel": {0: "drop_1"},
  }
)


def apply_fn(params, x):
  return Net().apply({"params": params}, x)


@pytest.fixture
def problem(key):
  init_key, x_key, mask_key, label_key = jax.random.split(key, 4)
  x = jax.random.normal(x_key, (10, 4))
  params = Net().init(init_key, x)["params"]
  labels = jax.random.randint(label_key, (10,), 0, 3)
  return params, x, labels, mask_key


def masks_of(key, pattern):
  keys = jax.random.split(key)
  return {
    f"drop_{i}": kd.subnet_masks(keys[i], jnp.arange(T), W, pattern)
    for i in range(2)
  }


def by_hand(params, masks, x):
  """Each subnet in numpy."""
  params = jax.tree.map(np.asarray, params)
  found = []
  for t in range(T):
    h = np.asarray(x)
    for i in range(2):
      layer = params[f"dense_{i}"]
      h = np.maximum(h @ layer["kernel"] + layer["bias"], 0.0)
      h = h * np.asarray(masks[f"drop_{i}"].dense()[t]) * 2.0
    found.append(h @ params["logits"]["kernel"] + params["logits"]["bias"])
  return np.stack(found)


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["masked", "small"])
@pytest.mark.parametrize("pattern", [kd.Bernoulli(0.5), kd.ExactCount(0.5)])
def test_subnets_are_what_numpy_says(problem, layout, pattern):
  params, x, labels, key = problem
  masks = masks_of(key, pattern)
  expected = by_hand(params, masks, x)
  got = subnet_accuracy.logits(apply_fn, params, masks, x, layout=layout)
  tolerance.assert_sums_close(got, expected, LENGTH)
  hits = (expected.argmax(-1) == np.asarray(labels)).mean(axis=1)
  assert len(set(hits)) > 1
  accuracies = subnet_accuracy.accuracies(
    apply_fn, params, masks, x, labels, layout=layout
  )
  tolerance.assert_sums_close(accuracies, hits, 1)  # Counts, over ten.


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["masked", "small"])
def test_chunks_of_subnets_and_of_rows_change_nothing(problem, layout):
  params, x, _, key = problem
  masks = masks_of(key, kd.ExactCount(0.5))
  run = lambda **kw: subnet_accuracy.logits(  # noqa: E731
    apply_fn, params, masks, x, layout=layout, **kw
  )
  whole = run()
  for options in ({"byte_budget": 1}, {"rows_at_once": 4}, {"rows_at_once": 5}):
    tolerance.assert_sums_close(run(**options), whole, LENGTH)


def test_fewer_bytes_run_fewer_subnets_side_by_side(problem):
  params, x, _, key = problem
  masks = masks_of(key, kd.ExactCount(0.5))

  def scan_lengths(byte_budget):
    run = lambda p: subnet_accuracy.logits(  # noqa: E731
      apply_fn, p, masks, x, byte_budget=byte_budget
    )
    eqns = jax.make_jaxpr(run)(params).jaxpr.eqns
    return [e.params["length"] for e in eqns if e.primitive.name == "scan"]

  assert scan_lengths(1) == [T]
  assert scan_lengths(1 << 30) == [1]


def test_masks_that_keep_all_scale_the_whole_network(problem):
  params, x, _, _ = problem
  ones = kd.Masks(jnp.ones((1, W), bool), W)
  masks = {"drop_0": ones, "drop_1": ones}
  got = subnet_accuracy.logits(apply_fn, params, masks, x)[0]
  scaled = jax.tree.map(lambda p: p, params)
  for name in ("dense_1", "logits"):
    scaled[name] = dict(params[name], kernel=2.0 * params[name]["kernel"])
  tolerance.assert_sums_close(got, apply_fn(scaled, x), LENGTH)


def test_wrong_arguments(problem):
  params, x, labels, key = problem
  masks = masks_of(key, kd.ExactCount(0.5))
  run = subnet_accuracy.logits
  with pytest.raises(ValueError, match="masks must name at least one layer"):
    run(apply_fn, params, {}, x)
  fewer = dict(masks, drop_0=masks["drop_0"].take(jnp.arange(2)))
  with pytest.raises(ValueError, match="have the same T >= 1 in each"):
    run(apply_fn, params, fewer, x)
  renamed = {"drop_0": masks["drop_0"], "drop_2": masks["drop_1"]}
  for layout in (None, LAYOUT):
    with pytest.raises(ValueError, match="the dropout layers of the model"):
      run(apply_fn, params, renamed, x, layout=layout)
  with pytest.raises(ValueError, match="byte_budget must be >= 1, got 0"):
    run(apply_fn, params, masks, x, byte_budget=0)
  with pytest.raises(ValueError, match="rows_at_once must be >= 1, got 0"):
    run(apply_fn, params, masks, x, rows_at_once=0)
  with pytest.raises(ValueError, match="sizes has no effect without a layout"):
    run(apply_fn, params, masks, x, sizes={"drop_0": 8})
  with pytest.raises(ValueError, match="each of the 10 rows"):
    subnet_accuracy.accuracies(apply_fn, params, masks, x, labels[:3])
