"""The op beneath JAX's transformations, sharded, exported, in odd dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import kdropout_jax as kd
from kdropout_jax import blocks
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import matmul
from tests import tolerance as tolerance_lib

ROWS, INPUTS, OUTPUTS = 8, 6, 4
IMPLEMENTATIONS = ("dense", "compact")


def masks(groups, width, seed=0):
  order = np.random.default_rng(seed).random((groups, width))
  keep = jnp.asarray(order.argsort(1).argsort(1) < width // 2)
  return blocks.Masks(keep, width, 1, width // 2)


def operands(dtype=jnp.float32, rows=ROWS):
  rng = np.random.default_rng(1)
  x = rng.normal(size=(rows, INPUTS))
  return jnp.asarray(x, dtype), jnp.asarray(
    rng.normal(size=(INPUTS, OUTPUTS)), dtype
  )


def op(x, w, groups=2, implementation="auto", **options):
  return matmul.masked_matmul(
    x,
    w,
    in_mask=masks(groups, INPUTS),
    out_mask=masks(groups, OUTPUTS, 1),
    implementation=implementation,
    **options,
  )


def plain(x, w, groups=2):
  ins, outs = (
    jnp.repeat(m.dense(), ROWS // groups, 0)
    for m in (masks(groups, INPUTS), masks(groups, OUTPUTS, 1))
  )
  return jnp.where(outs, jnp.where(ins, x, 0) @ w, 0)


def loss(f, x, w):
  return jnp.mean(f(x, w) ** 2)


def assert_close(got, want):
  """Compares values or gradients: sums there, back and over the rows."""
  length = INPUTS + OUTPUTS + ROWS
  tolerance_lib.assert_sums_close(got, want, length)


@pytest.fixture(name="mesh")
def mesh_fixture(request):
  if jax.local_device_count() < 2:
    pytest.skip("needs two devices")
  kind = jax.sharding.AxisType[request.param]
  return jax.make_mesh((2,), ("data",), axis_types=(kind,))


@pytest.mark.parametrize("mesh", ["Auto"], indirect=True)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradients_inside_shard_map_are_those_of_a_plain_product(
  mesh, implementation
):
  x, w = operands()

  def gradient(f):
    def run(w, x):
      each = jax.grad(lambda w, x: loss(f, x, w), (0, 1))(w, x)
      return each

    return jax.jit(
      jax.shard_map(
        run, mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), P("data"))
      )
    )(w, x)

  one = functools.partial(op, groups=1, implementation=implementation)

  def reference(x, w):
    ins, outs = masks(1, INPUTS).dense(), masks(1, OUTPUTS, 1).dense()
    return jnp.where(outs, jnp.where(ins, x, 0) @ w, 0)

  assert_close(gradient(one), gradient(reference))


@pytest.mark.parametrize("mesh", ["Explicit"], indirect=True)
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_explicit_sharding_comes_out_as_it_went_in(mesh, groups):
  x, w = operands()
  want = op(x, w, groups), jax.grad(lambda *a: loss(plain, *a), (0, 1))(x, w)
  with jax.set_mesh(mesh):
    x = jax.device_put(x, P("data", None))
    w = jax.device_put(w, P(None, None))

    @jax.jit
    def both(x, w):
      f = functools.partial(op, groups=groups)
      return f(x, w), jax.grad(lambda *a: loss(f, *a), (0, 1))(x, w)

    y, (dx, dw) = both(x, w)
    assert [jax.typeof(a).sharding.spec for a in (y, dx, dw)] == [
      P("data", None),
      P("data", None),
      P(None, None),
    ]
    assert_close(y, want[0])
    if groups == 2:
      assert_close((dx, dw), want[1])
    with pytest.raises(kd.UnsupportedError, match="explicit axes"):
      op(x, w, groups, "compact")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nothing_is_promoted_implicitly(implementation):
  x, w = operands(jnp.bfloat16)

  def f(x, w, b):
    return matmul.masked_dense(
      x,
      w,
      b,
      activation="relu",
      in_mask=masks(2, INPUTS),
      out_mask=masks(2, OUTPUTS),
      implementation=implementation,
    )

  with jax.numpy_dtype_promotion("strict"):
    y, vjp = jax.vjp(f, x, w, w[0])
    gradients = vjp(y)
    _, tangent = jax.jvp(f, (x, w, w[0]), (x, w, w[0]))
  assert {a.dtype for a in (y, tangent, *gradients)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nested_vmap_of_gradients_equals_loops(implementation):
  x, w = operands()
  xs, ws = jnp.stack([x, 2 * x, -x]), jnp.stack([w, w + 1])
  f = functools.partial(op, implementation=implementation)
  gradient = jax.grad(lambda *a: loss(f, *a), (0, 1))
  over_x = jax.vmap(gradient, (0, None))
  got = jax.jit(jax.vmap(over_x, (None, 0)))(xs, ws)
  wanted = jax.grad(lambda *a: loss(plain, *a), (0, 1))
  for i, j in np.ndindex(2, 3):
    assert_close([a[i, j] for a in got], wanted(xs[j], ws[i]))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_jacobians_of_both_modes_agree_under_vmap(implementation):
  x, w = operands()
  f = functools.partial(op, implementation=implementation)
  ws = jnp.stack([w, w + 1])
  forward, reverse, want = (
    jax.vmap(mode(lambda w, g=g: g(x, w)))(ws)
    for mode, g in (
      (jax.jacfwd, f),
      (jax.jacrev, f),
      (jax.jacrev, plain),
    )
  )
  assert_close((forward, reverse), (want, want))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_exported_program_runs(implementation):
  x, w = operands()
  f = jax.jit(
    jax.grad(
      lambda x, w: loss(
        functools.partial(op, implementation=implementation), x, w
      ),
      (0, 1),
    )
  )
  assert_close(jax.export.export(f)(x, w).call(x, w), f(x, w))


def test_auto_exports_where_it_takes_small_products():
  width = 1024
  f = jax.jit(
    lambda x, w, keep: matmul.masked_matmul(
      x, w, in_mask=blocks.Masks(keep, width, 1, width // 2)
    )
  )
  shapes = [((512, width), "float32"), ((width, width), "float32")]
  args = [jax.ShapeDtypeStruct(*s) for s in (*shapes, ((1, width), "bool"))]
  assert "kd_forward_compact" in f.lower(*args).as_text(debug_info=True)
  assert "LayoutConstraint" in f.lower(*args).as_text()
  assert jax.export.export(f)(*args).out_avals[0].shape == (512, width)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_float8_is_multiplied_in_float32_and_rounded_once(
  dtype, implementation
):
  x, w = operands(dtype)
  y, vjp = jax.vjp(functools.partial(op, implementation=implementation), x, w)
  want = plain(x.astype(jnp.float32), w.astype(jnp.float32)).astype(dtype)
  # Exact products of a few bits, few terms: the sums hardly round.
  np.testing.assert_array_equal(y.astype(jnp.float32), want.astype(jnp.float32))
  assert [a.dtype for a in vjp(y)] == [jnp.dtype(dtype)] * 2


def test_triton_refuses_float8():
  x, w = operands(jnp.float8_e4m3fn)
  with (
    dispatch.cuda_target(90),
    pytest.raises(kd.UnsupportedError, match="no float8_e4m3fn"),
  ):
    op(x, w, implementation="triton")


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_zero_rows_in_zero_rows_out(groups):
  x, w = operands(rows=0)
  mask = masks(max(groups, 1), INPUTS)
  mask = blocks.Masks(mask.keep[:groups], INPUTS, 1, INPUTS // 2)
  y, vjp = jax.vjp(lambda x, w: matmul.masked_matmul(x, w, in_mask=mask), x, w)
  assert y.shape == (0, OUTPUTS)
  dx, dw = vjp(y)
  assert dx.shape == (0, INPUTS)
  np.testing.assert_array_equal(dw, np.zeros_like(w))
