"""Max-norm against its definition; lazy updates against masked ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kdropout_jax as kd
from tests import tolerance


@pytest.mark.parametrize("shape", [(6, 4), (3, 3, 2, 5)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_incoming_weights_lie_within_the_ball(shape, dtype):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=shape) * np.linspace(0.01, 3, shape[-1])
  params = {"kernel": jnp.asarray(kernel, dtype), "bias": jnp.full(9, 50.0)}
  grads = jax.tree.map(lambda p: -0.1 * p, params)
  optimizer = optax.chain(optax.sgd(1.0), kd.optim.max_norm(1.0))
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  got = optax.apply_updates(params, updates)
  free = np.asarray(params["kernel"], np.float64) * 1.1
  norms = np.sqrt((free**2).sum(axis=tuple(range(len(shape) - 1))))
  assert (norms < 1).any() and (norms > 1).any()
  expected = free * np.minimum(1, 1 / norms)
  # In low precision the norm is a float32: the gradient, its update and the
  # projection's are rounded.
  terms = kernel[..., 0].size if dtype == jnp.float32 else 3
  tolerance.assert_sums_close(got["kernel"], expected, terms)
  tolerance.assert_sums_close(got["bias"], np.full(9, 55.0), 2)


def test_axes_are_chosen_and_missing_ones_leave_a_parameter_alone():
  project = kd.optim.max_norm(1.0, axes=2)
  params = {"a": jnp.full((2, 3, 4), 2.0), "b": jnp.full((2, 3), 9.0)}
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = project.update(zeros, project.init(params), params)
  new = optax.apply_updates(params, updates)
  np.testing.assert_array_equal(new["a"], 0.5)  # 4 * .5**2 = 1
  np.testing.assert_array_equal(new["b"], params["b"])


def test_a_zero_column_stays_finite_also_in_its_gradient():
  project = kd.optim.max_norm(1.0)

  def norm(kernel):
    updates, _ = project.update(kernel * 0, project.init(kernel), kernel)
    return jnp.sum(kernel + updates)

  assert jnp.isfinite(jax.grad(norm)(jnp.zeros((3, 2)))).all()


@pytest.mark.parametrize(
  ("limit", "axes", "match"),
  [
    (0, None, "limit must be a positive finite number, got 0"),
    (-1.0, None, "got -1.0"),
    (float("nan"), None, "got nan"),
    (float("inf"), None, "got inf"),
    ("3", None, "got '3'"),
    (1.0, (), r"axes must be integers, at least one, got \(\)"),
    (1.0, (0.5,), r"axes must be integers, at least one, got \(0.5,\)"),
  ],
)
def test_wrong_max_norms_are_refused(limit, axes, match):
  with pytest.raises(ValueError, match=match):
    kd.optim.max_norm(limit, axes)


def test_max_norm_needs_params():
  project = kd.optim.max_norm(1.0)
  with pytest.raises(ValueError, match="max_norm needs params"):
    project.update({"w": jnp.ones((2, 2))}, project.init({}))


LAYOUT = kd.subnets.Layout({"w": {0: "h", 1: "g"}, "b": {0: "g"}})


def lazy_case():
  rng = np.random.default_rng(0)
  params = {
    "w": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
    "b": jnp.asarray(rng.normal(size=3), jnp.float32),
    "free": jnp.ones(2),
  }
  # Subnet 0 keeps rows 0, 1 and column 0; subnet 1 row 3 and columns 1, 2.
  masks = {
    "h": kd.Masks(jnp.array([[1, 1, 0, 0], [0, 0, 0, 1]], bool), 4),
    "g": kd.Masks(jnp.array([[1, 0, 0], [0, 1, 1]], bool), 3),
  }
  kept = np.zeros((4, 3), bool)
  kept[:2, 0] = kept[3, 1:] = True
  return params, masks, kept


def test_weights_that_no_subnet_keeps_rest_with_their_moments():
  params, masks, kept = lazy_case()
  optimizer = kd.optim.kept_only(optax.adam(0.1), LAYOUT)
  warm = jax.tree.map(jnp.ones_like, params)
  everything = {
    name: kd.Masks(jnp.ones((1, mask.width), bool), mask.width)
    for name, mask in masks.items()
  }
  _, state = optimizer.update(
    warm, optimizer.init(params), params, masks=everything
  )
  update = jax.jit(optimizer.update)
  updates, new = update(warm, state, params, masks=masks)
  whole, whole_state = optax.adam(0.1).update(warm, state.inner, params)
  np.testing.assert_array_equal(updates["w"] != 0, kept)
  # Elementwise: roundings of Adam's formula alone.
  for name, where in (("w", kept), ("free", slice(None))):
    got, expected = updates[name][where], whole[name][where]
    tolerance.assert_sums_close(got, expected, 10)
  moved = new.inner[0].mu["w"] != state.inner[0].mu["w"]
  np.testing.assert_array_equal(moved, kept)
  assert new.inner[0].count == whole_state[0].count == 2


def test_wrong_lazy_updates_are_refused():
  params, masks, _ = lazy_case()
  optimizer = kd.optim.kept_only(optax.sgd(0.1), LAYOUT)
  with pytest.raises(ValueError, match="kept_only needs masks"):
    optimizer.update(params, optimizer.init(params), params)
  with pytest.raises(ValueError, match="names the layer 'g', but masks has"):
    optimizer.update(
      params, optimizer.init(params), params, masks={"h": masks["h"]}
    )
  with pytest.raises(ValueError, match="optimizer must be an optax"):
    kd.optim.kept_only("adam", LAYOUT)
  with pytest.raises(ValueError, match="layout must be a kd.subnets.Layout"):
    kd.optim.kept_only(optax.sgd(0.1), {})


PRUNED = {
  "momentum": optax.sgd(0.1, momentum=0.9),
  "adamw": optax.adamw(0.05, weight_decay=0.1),
  "rmsprop": optax.rmsprop(0.1, eps=1.0, initial_scale=1.0, momentum=0.9),
  "clipped": optax.chain(
    optax.add_decayed_weights(0.1), optax.clip_by_global_norm(0.3), optax.sgd(1)
  ),
}


@pytest.mark.parametrize("name", PRUNED)
def test_a_pruned_network_trains_as_one_without_its_weights(name):
  """The oracle holds the kept weights alone, in a shorter vector."""
  optimizer, rng = PRUNED[name], np.random.default_rng(1)
  keep = np.array([True, False, True, True, False, False, True])
  start = rng.normal(size=7).astype(np.float32)
  target = rng.normal(size=7).astype(np.float32)
  whole = kd.optim.pruned(optimizer)
  params = {"w": jnp.asarray(start), "b": jnp.ones(2)}  # Not yet at zero.
  masks = {"w": jnp.asarray(keep), "b": jnp.ones(2, bool)}
  small = {"w": jnp.asarray(start[keep]), "b": jnp.ones(2)}
  state = whole.init(params)._replace(masks=masks)
  small_state = optimizer.init(small)
  for _ in range(12):
    # Where a weight is pruned the loss still pulls at it.
    grads = {"w": params["w"] - target, "b": params["b"]}
    updates, state = whole.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    small_grads = {"w": small["w"] - target[keep], "b": small["b"]}
    updates, small_state = optimizer.update(small_grads, small_state, small)
    small = optax.apply_updates(small, updates)
    np.testing.assert_array_equal(params["w"][~keep], 0.0)
    own = {"w": params["w"][keep], "b": params["b"]}
    # A norm over both leaves (clipped), elementwise formulas else.
    tolerance.assert_sums_close(own, small, 9, steps=12)
  assert np.abs(small["w"] - start[keep]).min() > 0


def test_nothing_pruned_is_the_optimizer_itself():
  optimizer = PRUNED["adamw"]
  wrapped = kd.optim.pruned(optimizer)
  params, grads = {"w": jnp.arange(3.0)}, {"w": jnp.array([1.0, -2.0, 0.5])}
  got, _ = wrapped.update(grads, wrapped.init(params), params)
  expected, _ = optimizer.update(grads, optimizer.init(params), params)
  np.testing.assert_array_equal(got["w"], expected["w"])
  with pytest.raises(ValueError, match="pruned needs params: optimizer.update"):
    wrapped.update(grads, wrapped.init(params))


def test_limits_are_scalars_of_any_kind_and_may_be_traced():
  params = {"w": jnp.full((4, 2), 3.0)}
  zeros = {"w": jnp.zeros((4, 2))}

  def project(limit):
    transform = kd.optim.max_norm(limit)
    return transform.update(zeros, transform.init(params), params)[0]["w"]

  expected = project(1.5)
  for limit in (np.float32(1.5), jnp.float32(1.5)):
    np.testing.assert_array_equal(project(limit), expected)
  np.testing.assert_array_equal(jax.jit(project)(1.5), expected)
  injected = optax.inject_hyperparams(kd.optim.max_norm)(limit=1.5)
  updates, _ = injected.update(zeros, injected.init(params), params)
  np.testing.assert_array_equal(updates["w"], expected)
  for wrong in (np.float32("nan"), jnp.float32(-1), np.True_):
    with pytest.raises(ValueError, match="limit must be a positive finite"):
      kd.optim.max_norm(wrong)


def test_max_norm_promotes_nothing_implicitly():
  params = {"w": jnp.full((4, 2), 3.0, jnp.bfloat16)}
  project = kd.optim.max_norm(jnp.float32(2.0), axes=np.int64(0))
  with jax.numpy_dtype_promotion("strict"):
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = project.update(zeros, project.init(params), params)
  assert updates["w"].dtype == jnp.bfloat16
  new = np.asarray(params["w"] + updates["w"], np.float64)
  # The factor and the weight are rounded to eight bits each.
  np.testing.assert_allclose(np.linalg.norm(new, axis=0), 2.0, rtol=2**-7)


def test_late_l1_adds_the_sign_of_weights_from_its_step_on():
  late = kd.optim.late_l1(0.25, start=2)
  params = {"kernel": jnp.array([[2.0, -3.0, 0.0]]), "bias": jnp.ones(3)}
  grads = jax.tree.map(jnp.ones_like, params)
  state, seen = late.init(params), []
  update = jax.jit(late.update)
  for _ in range(4):
    found, state = update(grads, state, params)
    np.testing.assert_array_equal(found["bias"], 1.0)
    seen.append(found["kernel"][0].tolist())
  assert seen == [[1.0, 1.0, 1.0]] * 2 + [[1.25, 0.75, 1.0]] * 2


@pytest.mark.parametrize(
  ("strength", "start", "match"),
  [
    (-0.1, 0, "strength must be a finite number >= 0, got -0.1"),
    (float("nan"), 0, "got nan"),
    (0.1, -1, "start must be >= 0, got -1"),
    (0.1, 0.5, "start must be an integer, got 0.5"),
  ],
)
def test_wrong_l1s_are_refused(strength, start, match):
  with pytest.raises(ValueError, match=match):
    kd.optim.late_l1(strength, start)
  with pytest.raises(ValueError, match="late_l1 needs params"):
    kd.optim.late_l1(0.1).update({}, kd.optim.late_l1(0.1).init({}))


def test_max_norm_keeps_directions_and_takes_a_radius_a_layer():
  """By `optax.masked`: each layer has a ball of its own."""
  radii = {"a": 1.0, "b": 3.0}
  project = optax.chain(
    *(
      optax.masked(kd.optim.max_norm(c), {k: k == name for k in radii})
      for name, c in radii.items()
    )
  )
  random = np.random.default_rng(0)
  params = {k: jnp.asarray(random.normal(size=(20, 4)) * 2) for k in radii}
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = project.update(zeros, project.init(params), params)
  new = optax.apply_updates(params, updates)
  for name, radius in radii.items():
    before, after = (np.asarray(t[name], np.float64) for t in (params, new))
    norms = np.linalg.norm(after, axis=0)
    bound = tolerance.of_sums(new[name].dtype, 20, radius)
    assert (norms <= radius + bound).all()
    cosines = (before * after).sum(0) / norms / np.linalg.norm(before, axis=0)
    # An angle of eps, whose cosine is 1 - eps**2 / 2.
    epsilon = float(jnp.finfo(new[name].dtype).eps)
    assert (1 - cosines < tolerance.SAFETY * 20 * epsilon**2).all()
