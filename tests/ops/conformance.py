"""The laws of the masked product, for every implementation.

A subclass names its implementation and what it can serve. Each product is
compared with a float64 oracle in numpy that shares no code with the library.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from kdropout_jax import blocks
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import matmul
from kdropout_jax.ops import problems
from tests import tolerance as tolerance_lib


@dataclasses.dataclass(frozen=True)
class Case:
  """One row of the table; `kept` counts blocks, None draws them at random."""

  rows: int
  inputs: int
  outputs: int
  groups: int
  in_block: int | None = 1  # None: no mask on this side.
  out_block: int | None = 1
  in_kept: int | None = None
  out_kept: int | None = None
  positions: int = 1
  dtype: str = "float32"

  @property
  def problem(self) -> problems.Problem:
    return problems.Problem(
      rows=self.rows,
      positions=self.positions,
      groups=self.groups,
      inputs=_side(self.inputs, self.in_block, self.in_kept),
      outputs=_side(self.outputs, self.out_block, self.out_kept),
      dtype=self.dtype,
    )


def _side(width, block, kept):
  if block is None:
    return problems.Side(width)
  return problems.Side(width, block, kept, masked=True)


CASES = {
  "plain": Case(8, 16, 24, 1, None, None),
  "even": Case(32, 64, 64, 4, 16, 16, 2, 2),
  "one_group": Case(32, 64, 96, 1, 16, 32, 2, 1),
  "inputs_only": Case(24, 48, 20, 3, 16, None, 1),
  "outputs_only": Case(24, 20, 48, 3, None, 16, None, 2),
  "single_units": Case(12, 18, 14, 2, 1, 1, 9, 7),
  "ragged": Case(13, 37, 41, 3, 8, 16, 3, 2),
  "block_less_one": Case(33, 31, 31, 2, 16, 16, 1, 1),
  "block_plus_one": Case(31, 33, 17, 2, 16, 16, 2, 1),
  "one_row": Case(1, 32, 32, 1, 16, 16, 1, 1),
  "one_unit": Case(5, 1, 1, 5, 1, 1, 1, 1),
  "group_a_row": Case(9, 32, 32, 9, 16, 16, 1, 1),
  "all_kept": Case(16, 32, 32, 2, 16, 16, 2, 2),
  "no_input_kept": Case(16, 32, 32, 2, 16, 16, 0, 1),
  "no_output_kept": Case(16, 32, 32, 2, 16, 16, 1, 0),
  "positions": Case(6, 32, 48, 3, 16, 16, 1, 1, positions=5),
  "ragged_positions": Case(7, 33, 20, 2, 16, 4, 2, 3, positions=3),
  "bfloat16": Case(32, 64, 64, 2, 16, 16, 2, 2, dtype="bfloat16"),
  "float16": Case(32, 64, 48, 2, 16, 16, 2, 2, dtype="float16"),
  "random_counts": Case(24, 48, 48, 4, 16, 16),
  "random_units": Case(24, 40, 24, 3, 1, 1),
}


def draw(case: Case, seed: int = 0):
  """Returns x, w, b, dy, in_keep and out_keep of a case, as numpy arrays."""
  rng = np.random.default_rng(seed)
  dtype = np.dtype(getattr(ml_dtypes, case.dtype, case.dtype))
  problem = case.problem
  shape = (case.rows, case.positions)
  x = rng.normal(size=(*shape, case.inputs)).astype(dtype)
  w = rng.normal(size=(case.inputs, case.outputs)).astype(dtype)
  b = rng.normal(size=(case.outputs,)).astype(dtype)
  dy = rng.normal(size=(*shape, case.outputs)).astype(dtype)
  keeps = [
    _draw_keep(rng, case.groups, s) for s in (problem.inputs, problem.outputs)
  ]
  return x, w, b, dy, *keeps


def _draw_keep(rng, groups, side):
  if not side.masked:
    return None
  order = rng.random((groups, side.num_blocks))
  if side.num_kept is None:
    return order < 0.5
  return order.argsort(axis=1).argsort(axis=1) < side.num_kept


def oracle(case: Case, product: str, x, w, b, dy, in_keep, out_keep):
  """Returns a product in float64, by the definition."""
  x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
  in_units = _row_units(case, in_keep, case.inputs, case.in_block)
  out_units = _row_units(case, out_keep, case.outputs, case.out_block)
  if product == "forward":
    y = np.einsum("bpi,io->bpo", np.where(in_units, x, 0), w)
    y = y if b is None else y + b.astype(np.float64)
    return np.where(out_units, y, 0)
  if product == "dx":
    return np.where(
      in_units, np.einsum("bpo,io->bpi", np.where(out_units, dy, 0), w), 0
    )
  return np.einsum(
    "bpi,bpo->io", np.where(in_units, x, 0), np.where(out_units, dy, 0)
  )


def _row_units(case, keep, width, block):
  """Returns bool [B, 1, W]: the units that the group of each row keeps."""
  if keep is None:
    return np.ones((case.rows, 1, width), bool)
  group = np.arange(case.rows) * case.groups // case.rows
  return np.repeat(keep, block, axis=1)[group][:, None, :width]


def tolerance(dtype: str, length: int) -> float:
  """Absolute error allowed in a sum of `length` products of normal draws.

  Rounding of the result (a sum of `length` terms is sqrt(length) large, four
  deviations at most here) and of the float32 sums, both growing with the root:
  kernels add in blocks, so that few of the roundings are of the whole sum.
  """
  epsilon = float(jnp.finfo(dtype).eps)
  return 8 * max(epsilon, 2.0**-20) * np.sqrt(length) + 1e-12


def arguments(product, x, w, b, dy, in_keep, out_keep):
  """Returns the arrays of a product in the order of its signature."""
  if product == "forward":
    return x, w, b, in_keep, out_keep
  if product == "dx":
    return dy, w, in_keep, out_keep
  return x, dy, in_keep, out_keep


def poisoned(case: Case, arrays):
  """Returns the arrays with NaN in every dropped unit of x and dy."""
  x, w, b, dy, in_keep, out_keep = arrays
  in_units = _row_units(case, in_keep, case.inputs, case.in_block)
  out_units = _row_units(case, out_keep, case.outputs, case.out_block)
  nan_x = np.where(in_units, x, np.nan).astype(x.dtype)
  nan_dy = np.where(out_units, dy, np.nan).astype(dy.dtype)
  return nan_x, w, b, nan_dy, in_keep, out_keep


def sum_length(case: Case, product: str) -> int:
  """Returns how many terms a product (and its bias) sums."""
  if product == "dw":
    return case.rows * case.positions
  return 1 + (case.inputs if product == "forward" else case.outputs)


class Conformance:
  """Subclass it, call the subclass Test..., and name the implementation."""

  implementation = "auto"
  exact_only = False
  blocks_only = False
  precision_slack = 1.0

  def serves(self, case: Case) -> bool:
    """Says whether the implementation takes this case at all."""
    sides = (case.problem.inputs, case.problem.outputs)
    return not self.exact_only or all(
      s.num_kept is not None or not s.masked for s in sides
    )

  def run(self, case, product, *arrays, bias=True):
    """Returns a product as the implementation computes it."""
    plan = dispatch.plan(case.problem, self.implementation)
    x, w, b, dy, in_keep, out_keep = arrays
    args = arguments(product, x, w, b if bias else None, dy, in_keep, out_keep)

    def run(*arrays):
      tables = dispatch.tables(plan, *arrays[-2:])
      return dispatch.call(product, plan, case.problem, tables, *arrays)

    return np.asarray(jax.jit(run)(*args))

  def check(self, case, product, got, arrays, bias=True):
    x, w, b, dy, in_keep, out_keep = arrays
    want = oracle(
      case, product, x, w, b if bias else None, dy, in_keep, out_keep
    )
    length = sum_length(case, product)
    assert got.shape == want.shape
    assert got.dtype == x.dtype
    np.testing.assert_allclose(
      got.astype(np.float64),
      want,
      rtol=0,
      atol=self.precision_slack * tolerance(case.dtype, length),
    )

  @pytest.mark.parametrize("product", dispatch.PRODUCTS)
  @pytest.mark.parametrize("name", CASES)
  def test_product_equals_oracle(self, name, product):
    case = CASES[name]
    arrays = draw(case)
    if not self.serves(case):
      with pytest.raises(NotImplementedError):
        self.run(case, product, *arrays)
      return
    self.check(case, product, self.run(case, product, *arrays), arrays)

  @pytest.mark.parametrize("product", dispatch.PRODUCTS)
  @pytest.mark.parametrize("name", ["ragged", "even"])
  def test_dropped_units_are_not_read(self, name, product):
    case = CASES[name]
    arrays = draw(case)
    nan = poisoned(case, arrays)
    assert np.isnan(nan[0]).any() and np.isnan(nan[3]).any()
    self.check(case, product, self.run(case, product, *nan), arrays)

  def _op(self, case, in_keep, out_keep, **options):
    """Returns the public op of x and w, with the case's masks bound."""
    sides = (case.problem.inputs, case.problem.outputs)
    in_mask, out_mask = (
      blocks.Masks(jnp.asarray(k), s.width, s.block_size, s.num_kept)
      for k, s in zip((in_keep, out_keep), sides)
    )
    return lambda x, w, *b: matmul.masked_dense(
      x,
      w,
      *b,
      in_mask=in_mask,
      out_mask=out_mask,
      implementation=self.implementation,
      **options,
    )

  def _values(self, name):
    case = CASES[name]
    x, w, b, dy, in_keep, out_keep = draw(case)
    return case, x[:, 0], w, b, dy[:, 0], in_keep, out_keep

  def _assert_close(self, got, want):
    """Compares values and gradients: sums there and back, and over the rows."""
    length = 64 + 64 + 32  # The case "even"; "ragged" has fewer.
    for a, e in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      bound = tolerance_lib.of_sums("float32", length, np.abs(e).max())
      atol = self.precision_slack * bound
      np.testing.assert_allclose(a, e, rtol=0, atol=atol)

  def test_bias_and_relu_with_gradients(self):
    case, x, w, b, dy, in_keep, out_keep = self._values("ragged")
    op = self._op(case, in_keep, out_keep, activation="relu")
    y, vjp = jax.vjp(op, x, w, b)
    units = _row_units(case, out_keep, case.outputs, case.out_block)[:, 0]
    full = draw(case)
    want = np.maximum(oracle(case, "forward", *full)[:, 0], 0)
    self._assert_close(y, want)
    assert (want > 0).any() and not y[~units].any()
    dx, dw, db = vjp(jnp.asarray(dy))
    live = (dy * (np.asarray(y) > 0))[:, None]
    self._assert_close(dx, oracle(case, "dx", *full[:3], live, *full[4:])[:, 0])
    self._assert_close(dw, oracle(case, "dw", *full[:3], live, *full[4:]))
    self._assert_close(db, live.sum((0, 1)))

  def test_bias_gradient_ignores_dropped_outputs(self):
    case, x, w, b, dy, in_keep, out_keep = self._values("even")
    _, vjp = jax.vjp(self._op(case, in_keep, out_keep), x, w, b)
    units = _row_units(case, out_keep, case.outputs, case.out_block)[:, 0]
    self._assert_close(vjp(jnp.asarray(dy))[2], (dy * units).sum(0))

  @pytest.mark.parametrize("batched", [(0, None), (None, 0), (0, 0)])
  def test_vmap_and_vmap_of_grad_equal_a_loop(self, batched):
    case, x, w, _, _, in_keep, out_keep = self._values("ragged")
    op = self._op(case, in_keep, out_keep)
    xs = np.stack([x, 2 * x]) if batched[0] == 0 else x
    ws = np.stack([w, w + 1]) if batched[1] == 0 else w

    def both(x, w):
      gradient = jax.grad(lambda x, w: jnp.sum(jnp.sin(op(x, w))), (0, 1))
      return op(x, w), gradient(x, w)

    got = jax.jit(jax.vmap(both, batched))(xs, ws)
    for i in range(2):
      want = both(
        xs if batched[0] is None else xs[i],
        ws if batched[1] is None else ws[i],
      )
      self._assert_close([a[i] for a in jax.tree.leaves(got)], want)

  def test_vmap_over_masks_equals_a_loop(self):
    case, x, w, _, _, in_keep, out_keep = self._values("even")

    def run(in_keep, out_keep):
      return self._op(case, in_keep, out_keep)(x, w)

    flipped = (in_keep[::-1], out_keep[::-1])
    got = jax.vmap(run)(
      np.stack([in_keep, flipped[0]]), np.stack([out_keep, flipped[1]])
    )
    self._assert_close(got[0], run(in_keep, out_keep))
    self._assert_close(got[1], run(*flipped))
    assert not np.allclose(got[0], got[1])

  def test_scan_remat_and_pmap_equal_a_call(self):
    case, x, w, _, _, in_keep, out_keep = self._values("even")
    op = self._op(case, in_keep, out_keep)
    gradient = jax.grad(lambda x, w: jnp.sum(op(x, w) ** 2), (0, 1))
    want = gradient(x, w)
    remat = jax.checkpoint(lambda x, w: jnp.sum(op(x, w) ** 2))
    self._assert_close(jax.jit(jax.grad(remat, (0, 1)))(x, w), want)
    _, scanned = jax.jit(
      lambda xs: jax.lax.scan(lambda c, x: (c, gradient(x, w)), 0, xs)
    )(np.stack([x, x]))
    self._assert_close(jax.tree.map(lambda a: a[1], scanned), want)
    devices = jax.local_devices()[:2]
    each = jax.pmap(op, in_axes=(0, None), devices=devices)(
      np.stack([x] * len(devices)), w
    )
    self._assert_close(each[-1], op(x, w))

  def test_forward_mode_and_second_derivatives_are_the_plain_product_s(self):
    case, x, w, b, dy, in_keep, out_keep = self._values("ragged")
    op = self._op(case, in_keep, out_keep, activation="relu")
    ins = _row_units(case, in_keep, case.inputs, case.in_block)[:, 0]
    outs = _row_units(case, out_keep, case.outputs, case.out_block)[:, 0]

    def plain(x, w, b):
      return jnp.where(outs, jax.nn.relu(jnp.where(ins, x, 0) @ w + b[None]), 0)

    def both(op):
      loss = lambda *given: jnp.sum(jnp.sin(op(*given)))  # noqa: E731
      gradient = jax.grad(loss, (0, 1, 2))
      tangents = (x[::-1], w[::-1], b[::-1])
      return jax.jvp(op, (x, w, b), tangents), jax.jvp(
        gradient, (x, w, b), tangents
      )

    got, want = jax.jit(lambda: both(op))(), jax.jit(lambda: both(plain))()
    for a, e in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      # Three products deep, and tangents of their own through all of them.
      bound = tolerance_lib.of_sums("float32", 6 * 41, np.abs(e).max())
      atol = self.precision_slack * bound
      np.testing.assert_allclose(a, e, rtol=0, atol=atol)

  def test_empty_batch(self):
    case, x, w, _, _, in_keep, out_keep = self._values("even")
    op = self._op(case, in_keep, out_keep)
    y = op(x[:0], w)
    assert y.shape == (0, case.outputs)
    dw = jax.grad(lambda w: jnp.sum(op(x[:0], w)))(w)
    np.testing.assert_array_equal(dw, np.zeros_like(w))

  def test_more_groups_than_rows(self):
    # Row r of 3 has group r * 5 // 3: 0, 1, 3; groups 2 and 4 have no rows.
    case = Case(5, 32, 32, 5, 4, 4, 4, 4)
    x, w, _, dy, in_keep, out_keep = draw(case)
    assert (in_keep[2] != in_keep[3]).any()
    got = self._op(case, in_keep, out_keep)(x[:3, 0], w)
    rows = np.array([0, 1, 3])
    small = Case(3, 32, 32, 3, 4, 4, 4, 4)
    want = oracle(
      small, "forward", x[:3], w, None, dy, in_keep[rows], out_keep[rows]
    )
    self._assert_close(got, want[:, 0])
