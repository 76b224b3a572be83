"""Dropouts of arrays that many devices share, and of exported functions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import kdropout_jax as kd

KEY = jax.random.key(3)
SCHEDULE = kd.Sequential(k=2, m=2)
IDS = jnp.arange(2, dtype=jnp.uint32)


def linen_call(module, x, **kwargs):
  rngs = {"dropout": KEY, "subnets": KEY}
  return module.apply({}, x, deterministic=False, rngs=rngs, **kwargs)


def retrofitted(x):
  drop = nnx.Dropout(0.5)
  return kd.nnx.retrofit(drop, schedule=SCHEDULE, key=KEY, first_row=0)(x)


def applied(x, **kwargs):
  model = nn.Dropout(0.5, deterministic=False)
  settings = dict(schedule=SCHEDULE, step=3, key=KEY) | kwargs
  return kd.linen.apply(model, {}, x, **settings)


def tiled(x):
  masks = kd.subnet_masks(KEY, jnp.arange(3), x.shape[-1], kd.Bernoulli(0.5))
  return kd.dropout(x, masks, rate=0.5, row_layout="tiled", rescale="realised")


FUNCTIONS = {
  "linen": lambda x: linen_call(kd.linen.Dropout(0.5), x),
  "nnx": lambda x: kd.nnx.Dropout(0.5, rngs=nnx.Rngs(0))(x),
  "subnets": lambda x: linen_call(kd.linen.Dropout(0.5), x, subnets=IDS),
  "blocks": lambda x: linen_call(
    kd.linen.Dropout(0.5, pattern=kd.Blocks(block_size=3)), x
  ),
  "spatial": lambda x: linen_call(kd.linen.SpatialDropout(0.5), x, subnets=IDS),
  "functional": tiled,
  "apply": applied,
  "retrofit": retrofitted,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_explicit_sharding_goes_in_and_comes_out_the_same(name):
  x = jax.random.normal(KEY, (8, 2, 6))
  expected = FUNCTIONS[name](x)
  mesh = jax.make_mesh((2, 2), ("data", "model"))
  with jax.set_mesh(mesh):
    placed = jax.device_put(x, jax.P("data", None, "model"))
    y = FUNCTIONS[name](placed)
    assert jax.typeof(y).sharding.spec == jax.P("data", None, "model")
  np.testing.assert_array_equal(np.asarray(y), np.asarray(expected))


def test_drop_connect_takes_sharded_rows():
  """Rows alone are sharded here, so every product is the same one."""
  x, w, b = jnp.ones((8, 6)), jax.random.normal(KEY, (6, 4)), jnp.ones(4)
  masks = kd.subnet_masks(KEY, IDS, 28, kd.Bernoulli(0.5))
  calls = [
    lambda x, layout=layout: kd.drop_connect(
      x, w, b, masks, rate=0.5, row_layout=layout
    )
    for layout in ("contiguous", "tiled")
  ]
  expected = [call(x) for call in calls]
  with jax.set_mesh(jax.make_mesh((2,), ("data",))):
    placed = jax.device_put(x, jax.P("data", None))
    for call, want in zip(calls, expected):
      y = call(placed)
      assert jax.typeof(y).sharding.spec == jax.P("data", None)
      # Six terms and a bias: eps * 7 * their size.
      atol = np.finfo(np.float32).eps * 7 * float(jnp.abs(want).max())
      np.testing.assert_allclose(
        np.asarray(y), np.asarray(want), rtol=0, atol=atol
      )


def test_each_device_of_shard_map_trains_the_subnets_of_its_rows():
  x = jnp.ones((8, 32))
  expected = applied(x)
  mesh = jax.make_mesh((4,), ("data",))
  rows = jax.P("data", None)

  def mapped(**kwargs):
    def call(x, step):
      return applied(x, step=step, **kwargs)

    specs = dict(mesh=mesh, in_specs=(rows, jax.P()), out_specs=rows)
    with jax.set_mesh(mesh):
      placed = jax.device_put(x, rows)
      return np.asarray(jax.jit(jax.shard_map(call, **specs))(placed, 3))

  np.testing.assert_array_equal(mapped(axis_name="data"), expected)
  with pytest.raises(ValueError, match="pass axis_name='data' where the rows"):
    mapped()
  same = mapped(first_row=0, batch_size=8)
  np.testing.assert_array_equal(same[2:4], same[:2])


def test_a_masked_function_survives_export():
  x = jnp.ones((8, 32))

  def call(x, step):
    return applied(x, step=step)

  platforms = ("cpu", "cuda", "tpu")
  exported = jax.export.export(jax.jit(call), platforms=platforms)(x, 3)
  assert exported.platforms == platforms
  np.testing.assert_array_equal(exported.call(x, 3), applied(x))


def test_an_exported_function_survives_its_bytes():
  pytest.importorskip("flatbuffers")
  x = jnp.ones((4, 8))
  call = jax.jit(lambda x, step: applied(x, step=step))
  data = jax.export.export(call)(x, 3).serialize()
  again = jax.export.deserialize(data)
  np.testing.assert_array_equal(again.call(x, 3), applied(x))


def masked_product(x, num_subnets):
  ids = jnp.arange(num_subnets, dtype=jnp.uint32)
  masks = kd.subnet_masks(KEY, ids, 8, kd.ExactCount(0.5))
  return kd.masked_matmul(x, jnp.ones((8, 8)), in_mask=masks)


OF_SYMBOLS = {
  "linen": lambda x, step: FUNCTIONS["linen"](x),
  "exact": lambda x, step: linen_call(
    kd.linen.Dropout(0.5, pattern=kd.ExactCount), x
  ),
  "apply": lambda x, step: applied(x, step=step),
  "standard": lambda x, step: applied(x, step=step, schedule=kd.Standard()),
  "functional": lambda x, step: tiled(x),
  "product": lambda x, step: masked_product(x, 1),
}


def export_of_any_rows(call):
  rows = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 8"), jnp.float32)
  return jax.export.export(jax.jit(call))(rows, 3)


@pytest.mark.parametrize("name", OF_SYMBOLS)
def test_the_number_of_rows_may_be_a_symbol(name):
  call = OF_SYMBOLS[name]
  x = jax.random.normal(KEY, (6, 8))
  got = export_of_any_rows(call).call(x, 3)
  np.testing.assert_array_equal(got, call(x, 3))


def test_what_a_symbol_hides_is_refused():
  with pytest.raises(kd.UnsupportedError, match="b rows, a symbol of jax"):
    export_of_any_rows(lambda x, step: masked_product(x, 2))
  layer = kd.linen.Dropout(0.5, batch_size=8)
  with pytest.raises(kd.UnsupportedError, match="b rows of a batch with"):
    export_of_any_rows(lambda x, step: linen_call(layer, x, subnets=IDS))


def test_pmap_without_a_name_is_told_to_take_one():
  call = jax.pmap(lambda x, step: applied(x, step=step), in_axes=(0, None))
  with pytest.raises(ValueError, match="pass axis_name='data' where the rows"):
    call(jnp.ones((2, 2, 8)), 0)
  named = jax.pmap(
    lambda x, step: applied(x, step=step, axis_name="data"),
    axis_name="data",
    in_axes=(0, None),
  )
  y = named(jnp.ones((2, 2, 8)), 3).reshape(4, 8)
  np.testing.assert_array_equal(y, applied(jnp.ones((4, 8))))


def test_analyses_that_go_one_after_the_other_run_in_shard_map():
  """Each carries a sum, which varies over devices as what it adds does."""
  analysis = kd.analysis
  x = jax.random.normal(KEY, (8, 3))
  labels = jnp.zeros(8, jnp.int32)

  def all_of(x, labels):
    noisy = lambda key: x * jax.random.bernoulli(key, 0.5, x.shape)  # noqa: E731
    found = analysis.mc_dropout.predict(noisy, KEY, 3)
    curve = analysis.ensembles.curve(jnp.stack([x, 2 * x, -x]), labels)
    loss = lambda w, row: jnp.sum(w * row**2)  # noqa: E731
    own = 1 + 0 * x[0]  # Else JAX sums gradients over devices.
    measured = analysis.interference.measure(loss, own, x)
    return found.log_probs, curve.nll[None], measured.mean_cosine[None]

  mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.P("d")
  mapped = jax.shard_map(
    all_of, mesh=mesh, in_specs=(rows, rows), out_specs=rows
  )
  log_probs, nll, cosine = jax.jit(mapped)(x, labels)
  halves = [all_of(x[i : i + 4], labels[:4]) for i in (0, 4)]
  eps = np.finfo(np.float32).eps * 16  # Sums of at most 12, and logarithms.
  for got, i in ((log_probs, 0), (nll, 1), (cosine, 2)):
    expected = np.concatenate([half[i] for half in halves])
    np.testing.assert_allclose(got, expected, rtol=eps, atol=eps)
