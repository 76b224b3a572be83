"""Masks that avoid each other, in the products: the same result, no sum."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from tests.ops import conformance

_KEY = jax.random.key(4)
_HALVES = functools.partial(kd.ExactCount, 0.5)
_PATTERNS = {
  "halves": (_HALVES(partition=True), 2),
  "quarters": (kd.ExactCount(0.75, partition=True), 4),
  "two_classes": (_HALVES(balanced=4), 4),
  "blocks": (kd.Blocks(0.5, block_size=8, partition=True), 2),
  "ragged_blocks": (kd.Blocks(0.5, block_size=9, partition=True), 2),
}
_WHOLE = jnp.arange(8, dtype=jnp.uint32)
# Of one group, in another order; and whole groups that begin in the middle.
_BROKEN = _WHOLE.at[1].set(0)


def masks_of(pattern, ids, width, name):
  key = jax.random.fold_in(_KEY, name)
  return kd.subnet_masks(key, ids, width, pattern)


def gradients(x, w, dy, ins, outs, implementation="compact"):
  y, vjp = jax.vjp(
    lambda x, w: kd.masked_matmul(
      x, w, in_mask=ins, out_mask=outs, implementation=implementation
    ),
    x,
    w,
  )
  return y, *vjp(dy)


@pytest.mark.parametrize("sides", ["both", "in", "out"])
@pytest.mark.parametrize("name", _PATTERNS)
def test_products_are_those_of_the_oracle(name, sides):
  """Whole groups and broken ones, in one program; rows that T may not divide."""
  pattern, size = _PATTERNS[name]
  case = conformance.Case(
    *(4 * size + (sides == "both"), 32, 48, size),
    in_block=pattern.block_size if sides != "out" else None,
    out_block=pattern.block_size if sides != "in" else None,
    positions=2,
  )
  x, w, _, dy, *_ = conformance.draw(case)

  @jax.jit
  def run(ids):
    ins = masks_of(pattern, ids, 32, 0) if sides != "out" else None
    outs = masks_of(pattern, ids, 48, 1) if sides != "in" else None
    keeps = [m if m is None else m.keep for m in (ins, outs)]
    return gradients(x, w, dy, ins, outs), keeps

  for ids in (_WHOLE[:size], _BROKEN[:size], _WHOLE[1 : size + 1]):
    results, keeps = run(ids)
    keeps = [k if k is None else np.asarray(k) for k in keeps]
    for product, got in zip(("forward", "dx", "dw"), results):
      expected = conformance.oracle(case, product, x, w, None, dy, *keeps)
      length = {"forward": 32, "dx": 48, "dw": 2 * case.rows}[product]
      np.testing.assert_allclose(
        got, expected, rtol=0, atol=conformance.tolerance("float32", length)
      )


def test_members_of_which_one_has_no_whole_group():
  """One condition for all members, and their gradients are their own."""
  pattern, size = _PATTERNS["quarters"]
  case = conformance.Case(8, 16, 24, size, positions=1)
  x, w, _, dy, *_ = conformance.draw(case)
  ids = jnp.stack([_WHOLE[:size], _BROKEN[:size]])

  def run(ids, implementation):
    ins, outs = (masks_of(pattern, ids, n, n) for n in (16, 24))
    return gradients(x, w, dy, ins, outs, implementation)

  for rows in (ids, ids[:1]):
    got, expected = (
      jax.jit(jax.vmap(functools.partial(run, implementation=name)))(rows)
      for name in ("compact", "dense")
    )
    for a, b in zip(got, expected):
      atol = 2 * conformance.tolerance("float32", 24)
      np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_a_partition_adds_nothing_up():
  """Where groups are whole, dw takes one row a unit; others sum over T."""
  pattern, size = _PATTERNS["quarters"]
  x, w, dy = jnp.ones((8, 1, 32)), jnp.ones((32, 48)), jnp.ones((8, 1, 48))

  def text(is_known):
    ins, outs = (masks_of(pattern, _WHOLE[:size], n, n) for n in (32, 48))
    if not is_known:
      ins, outs = (dataclasses.replace(m, design=None) for m in (ins, outs))

    def dw(w, ins, outs):
      return gradients(x, w, dy, ins, outs)[2]

    return jax.jit(dw).lower(w, ins, outs).as_text()

  known, unknown = text(True), text(False)
  assert known.count("stablehlo.case") == unknown.count("stablehlo.case") + 1
  # Of four groups three sums: the branch of broken groups has them, too.
  sums = r"stablehlo.add .*tensor<32x48xf32>"
  assert [len(re.findall(sums, t)) for t in (unknown, known)] == [3, 3]


def test_masks_that_were_taken_in_any_order_are_no_group():
  masks = masks_of(_PATTERNS["halves"][0], _WHOLE, 16, 0)
  assert masks.design is not None
  assert masks.take(jnp.array([1, 0])).design is None
