"""Products of units in the order of their parts: slices, the same result."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax import _designs
from kdropout_jax.masks import grouped
from kdropout_jax.ops import arguments
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import measured
from kdropout_jax.ops import parts
from tests import tolerance

INPUTS, OUTPUTS, POSITIONS = 32, 48, 2
DESIGNS = {"halves": (2, 2), "quarters": (4, 4), "four": (2, 4), "six": (3, 6)}


def masks_of(name, width, block_size=1):
  return grouped.in_order(_designs.Design(*DESIGNS[name]), width, block_size)


def draw(masks, rows):
  random = np.random.default_rng(0)
  inputs, outputs = (m.width for m in masks)
  shapes = ((rows, POSITIONS, inputs), (inputs, outputs))
  arrays = [random.normal(size=s).astype(np.float32) for s in shapes]
  dy = random.normal(size=(rows, POSITIONS, outputs)).astype(np.float32)
  return *arrays, dy


def products(x, w, dy, ins, outs, implementation):
  y, vjp = jax.vjp(
    lambda x, w: kd.masked_matmul(
      x, w, in_mask=ins, out_mask=outs, implementation=implementation
    ),
    x,
    w,
  )
  return y, *vjp(dy)


def oracle(x, w, dy, ins, outs):
  """In numpy and float64: each row's own mask on either side."""
  x, w, dy = (a.astype(np.float64) for a in (x, w, dy))

  def rows_of(masks):
    if masks is None:
      return 1.0
    keep = np.asarray(masks.dense(), np.float64)
    return np.repeat(keep, len(x) // len(keep), axis=0)[:, None]

  x, dy = x * rows_of(ins), dy * rows_of(outs)
  y = (x @ w) * rows_of(outs)
  dx = (dy @ w.T) * rows_of(ins)
  return y, dx, np.einsum("bpi,bpo->io", x, dy)


@pytest.mark.parametrize("sides", ["both", "in", "out"])
@pytest.mark.parametrize("name", DESIGNS)
def test_products_are_those_of_the_oracle(name, sides):
  """With few rows a group, which repeats rows, and with as many as pay."""
  widths = {"six": (36, 54)}.get(name, (INPUTS, OUTPUTS))
  masks = [masks_of(name, width) for width in widths]
  ins, outs = masks[0] if sides != "out" else None, masks[1]
  outs = outs if sides != "in" else None
  size = DESIGNS[name][1]
  for rows in (2 * size, 26 * size):
    arrays = draw(masks, rows)
    problem = arguments.describe(*arrays[:2], ins, outs)
    assert parts.serves(problem)
    assert measured.CPU_IN_ORDER.copies_pay(problem) == (
      sides == "both" and rows > 2 * size
    )
    run = jax.jit(lambda *a, i=ins, o=outs: products(*a, i, o, "compact"))
    length = max(*widths, rows * POSITIONS)
    tolerance.assert_sums_close(
      run(*arrays), oracle(*arrays, ins, outs), length
    )


def test_blocks_of_units_and_two_designs_meet():
  """Halves before quarters of as many subnets; blocks of four units."""
  ins = masks_of("four", INPUTS, 4)
  outs = masks_of("quarters", OUTPUTS, 4)
  arrays = draw((ins, outs), 8)
  assert parts.serves(arguments.describe(*arrays[:2], ins, outs))
  got = products(*arrays, ins, outs, "compact")
  tolerance.assert_sums_close(got, oracle(*arrays, ins, outs), OUTPUTS)


@pytest.mark.parametrize("side", ["in", "out"])
def test_sums_over_parts_are_kept_wide(side):
  """In bfloat16 each sum over eight parts would round eight times."""
  masks = grouped.in_order(_designs.Design(2, 16), 64)
  x, w, dy = draw((masks, masks), 32)
  ins, outs = (masks, None) if side == "in" else (None, masks)
  small = [jnp.asarray(a, jnp.bfloat16) for a in (x, w, dy)]
  got = products(*small, ins, outs, "compact")
  want = oracle(*(np.asarray(a, np.float32) for a in small), ins, outs)
  # One rounding, of the result: the operands are what they are.
  summed = 0 if side == "in" else 1
  scale = np.abs(want[summed])
  error = np.abs(np.asarray(got[summed], np.float64) - want[summed])
  eps = float(jnp.finfo(jnp.bfloat16).eps)
  assert (error <= eps * scale + 1e-4 * scale.max()).all()


def test_no_index_is_read():
  """A gather would be one; the same masks in no order need them."""
  ins, outs = masks_of("four", INPUTS), masks_of("four", OUTPUTS)
  arrays = draw((ins, outs), 4 * 26)

  def gathers(ins, outs):
    run = jax.jit(lambda *a: products(*a, ins, outs, "compact"))
    text = run.lower(*arrays).compile().as_text()
    return len(re.findall(r" (?:gather|scatter)\(", text))

  plain = [
    kd.Masks(m.keep, m.width, m.block_size, m.num_kept) for m in (ins, outs)
  ]
  assert gathers(ins, outs) == 0 < gathers(*plain)


@pytest.mark.parametrize(
  ("change", "served"),
  [
    ({}, True),
    ({"rows": 10}, False),  # groups of three rows and of two
    ({"rows": 2}, False),  # more subnets than rows
    ({"design": False}, False),
    ({"in_order": False}, False),
  ],
)
def test_what_is_not_known_to_lie_in_order_is_left_to_others(change, served):
  outs = masks_of("four", OUTPUTS)
  if "in_order" in change:
    ids, key = jnp.arange(4, dtype=jnp.uint32), jax.random.key(0)
    outs = kd.subnet_masks(key, ids, OUTPUTS, kd.ExactCount(0.5, balanced=4))
  elif "design" in change:
    outs = outs.take(jnp.arange(4))
  arrays = draw((masks_of("four", INPUTS), outs), change.get("rows", 8))
  assert parts.serves(arguments.describe(*arrays[:2], None, outs)) == served
  got = products(*arrays, None, outs, "compact")
  keep = outs.dense()
  slots = np.arange(len(arrays[0])) * 4 // len(arrays[0])
  np.testing.assert_array_equal(
    np.asarray(got[0])[np.broadcast_to(~keep[slots][:, None], got[0].shape)], 0
  )


@pytest.mark.parametrize(
  ("rows", "width", "name", "expected"),
  [
    (512, 2048, "four", "compact"),
    (512, 128, "four", "dense"),  # rows repeated for parts of 32 units
    (512, 64, "halves", "dense"),
  ],
)
def test_auto_takes_them_where_they_won(rows, width, name, expected):
  outs = masks_of(name, width)
  x, w = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((rows, width),) * 2)
  w = jax.ShapeDtypeStruct((width, width), jnp.float32)
  problem = arguments.describe(x, w, None, outs)
  for product in dispatch.PRODUCTS:
    assert dispatch.choose(product, problem, "cpu", None)[0] == expected
    assert dispatch.choose(product, problem, "tpu", None)[0] == "dense"
