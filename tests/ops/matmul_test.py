"""Wrong calls of the masked product: each message names the rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

import kdropout_jax as kd
from kdropout_jax import blocks
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import matmul

X = jnp.ones((4, 6))
W = jnp.ones((6, 8))
KEEP_IN = jnp.ones((2, 6), bool)
KEEP_OUT = jnp.ones((2, 8), bool)

WRONG = {
  "integer_x": (dict(x=X.astype(int)), "x must be floating point, got int"),
  "integer_w": (dict(w=W.astype(int)), "w must be floating point, got int"),
  "integer_b": (dict(b=jnp.ones(8, int)), "b must be floating point"),
  "complex_x": (dict(x=X + 0j), "x must be floating point, got complex64"),
  "vector_x": (dict(x=X[0]), r"x must be \[rows, ..., inputs\], got shape"),
  "no_inputs": (dict(x=X[:, :0]), "x must have at least one input"),
  "other_w": (dict(w=W[:5]), r"w must be \[6, outputs\].*got shape \(5, 8\)"),
  "vector_w": (dict(w=W[:, 0]), r"w must be \[6, outputs\]"),
  "other_b": (dict(b=jnp.ones(6)), r"b must have shape \[8\], got \(6,\)"),
  "width_in": (
    dict(in_mask=KEEP_OUT),
    "in_mask: masks have width 8, expected 6",
  ),
  "width_out": (
    dict(out_mask=KEEP_IN),
    "out_mask: masks have width 6, expected 8",
  ),
  "dtype": (
    dict(in_mask=KEEP_IN.astype(jnp.float32)),
    "in_mask: masks must be bool, got float32",
  ),
  "rank": (dict(in_mask=KEEP_IN[0]), "in_mask: masks must be Masks or bool"),
  "groups": (
    dict(in_mask=KEEP_IN, out_mask=KEEP_OUT[:1]),
    "equally many masks, got 2 and 1",
  ),
  "no_groups": (dict(in_mask=KEEP_IN[:0]), "at least one mask, got 0"),
  "implementation": (
    dict(implementation="cuda"),
    "implementation must be 'auto' or one of 'dense'.*got 'cuda'",
  ),
  "activation": (
    dict(activation="tanh"),
    "activation must be 'relu' or None, got 'tanh'",
  ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_call(name):
  changed, message = WRONG[name]
  given = {"x": X, "w": W, "b": None, **changed}
  with pytest.raises(ValueError, match=message):
    matmul.masked_dense(given.pop("x"), given.pop("w"), given.pop("b"), **given)


def test_groups_must_agree_although_both_outnumber_the_rows():
  with pytest.raises(ValueError, match="equally many masks, got 9 and 8"):
    matmul.masked_matmul(
      X, W, in_mask=jnp.ones((9, 6), bool), out_mask=jnp.ones((8, 8), bool)
    )


def test_operands_take_their_common_dtype():
  y = matmul.masked_matmul(X.astype(jnp.bfloat16), W, in_mask=KEEP_IN)
  assert y.dtype == jnp.float32


def test_gradients_keep_the_operands_dtypes():
  x, w = X.astype(jnp.bfloat16), W
  dx, dw = jax.grad(
    lambda x, w: matmul.masked_matmul(x, w, in_mask=KEEP_IN).sum(), (0, 1)
  )(x, w)
  assert (dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.float32)


def test_gradients_against_finite_differences(key):
  keys = jax.random.split(key, 4)
  x, w = jax.random.normal(keys[0], (5, 6)), jax.random.normal(keys[1], (6, 8))
  in_mask = jax.random.bernoulli(keys[2], 0.5, (2, 6))
  out_mask = jax.random.bernoulli(keys[3], 0.5, (2, 8))

  def f(x, w):
    y = matmul.masked_matmul(x, w, in_mask=in_mask, out_mask=out_mask)
    return jnp.sin(y)

  # Of finite differences in float32, not of sums: about eps ** (1 / 3).
  test_util.check_grads(f, (x, w), order=1, modes=("rev",), atol=1e-2)


def test_hand_worked_numbers():
  # Rows 0, 1 train subnet 0 (inputs 0, 1; output 0); rows 2, 3 subnet 1
  # (input 2; output 1). x = 1, w[i, o] = 10 i + o.
  w = jnp.array([[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]])
  in_mask = jnp.array([[True, True, False], [False, False, True]])
  out_mask = jnp.array([[True, False], [False, True]])

  def f(x, w):
    return matmul.masked_matmul(x, w, in_mask=in_mask, out_mask=out_mask)

  y, vjp = jax.vjp(f, jnp.ones((4, 3)), w)
  np.testing.assert_array_equal(y, [[10, 0], [10, 0], [0, 21], [0, 21]])
  dx, dw = vjp(jnp.ones((4, 2)))
  # dx = kept w; dw counts the rows that use a weight.
  np.testing.assert_array_equal(dx, [[0, 10, 0]] * 2 + [[0, 0, 21]] * 2)
  np.testing.assert_array_equal(dw, [[2, 0], [2, 0], [0, 2]])


def test_one_trace_for_all_masks(key):
  traces = []

  @jax.jit
  def f(keep):
    traces.append(0)
    masks = blocks.Masks(keep, 6, num_kept=3)
    return matmul.masked_matmul(X, W, in_mask=masks, implementation="compact")

  order = jnp.arange(6)
  a = f((order < 3)[None])
  b = f((order >= 3)[None])
  assert len(traces) == 1
  np.testing.assert_array_equal(a, b)  # Ones: any three inputs sum to 3.
  np.testing.assert_array_equal(a, 3 * np.ones((4, 8)))


def test_public_name():
  assert kd.masked_matmul is matmul.masked_matmul


@pytest.mark.parametrize("implementation", ["dense", "compact"])
def test_precision_reaches_all_three_products(implementation):
  mask = blocks.Masks(KEEP_IN, 6, num_kept=6)

  def lowered(precision):
    def loss(x, w):
      y = matmul.masked_matmul(
        x,
        w,
        in_mask=mask,
        implementation=implementation,
        precision=precision,
      )
      return jnp.sum(y**2)

    text = jax.jit(jax.grad(loss, (0, 1))).lower(X, W).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]

  highest = lowered("highest")
  assert len(highest) == 3 and all("HIGHEST" in line for line in highest)
  assert not any("HIGHEST" in line for line in lowered(None))


@pytest.mark.parametrize("implementation", ["dense", "compact"])
def test_preferred_element_type_is_that_of_jnp_matmul(implementation, key):
  keys = jax.random.split(key, 2)
  x = jax.random.normal(keys[0], (4, 6), jnp.bfloat16)
  w = jax.random.normal(keys[1], (6, 8), jnp.bfloat16)
  mask = blocks.Masks(KEEP_IN, 6, num_kept=6)  # Keeps all.

  def op(x, w):
    return matmul.masked_matmul(
      x,
      w,
      in_mask=mask,
      implementation=implementation,
      preferred_element_type=jnp.float32,
    )

  y, vjp = jax.vjp(op, x, w)
  want = jnp.matmul(x, w, preferred_element_type=jnp.float32)
  assert y.dtype == want.dtype == jnp.float32
  # Six exact products summed in float32, in any order.
  np.testing.assert_allclose(y, want, rtol=0, atol=6 * 2.0**-23 * 16)
  assert (y != y.astype(jnp.bfloat16)).any()
  assert [g.dtype for g in vjp(y)] == [jnp.bfloat16] * 2
  empty = op(x[:0], w)
  assert (empty.shape, empty.dtype) == ((0, 8), jnp.float32)


@pytest.mark.parametrize(
  ("options", "error", "message"),
  [
    (dict(precision="exact"), ValueError, "precision must be one.*'exact'"),
    (
      dict(preferred_element_type=jnp.int32),
      ValueError,
      "preferred_element_type must be floating point, got int32",
    ),
    (
      dict(preferred_element_type=jnp.float16, implementation="triton"),
      kd.UnsupportedError,
      "triton stores float32, but .* is float16",
    ),
    (
      dict(precision=("high", "highest"), implementation="triton"),
      kd.UnsupportedError,
      "triton has no product of precision",
    ),
  ],
)
def test_wrong_precision(options, error, message):
  with dispatch.cuda_target(90), pytest.raises(error, match=message):
    matmul.masked_matmul(X, W, in_mask=KEEP_IN, **options)
