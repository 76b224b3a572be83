"""The laws of the masked product, held by the compact implementation."""

import jax
import jax.numpy as jnp
import pytest

import kdropout_jax as kd
from kdropout_jax import blocks
from tests.ops import conformance


class TestCompact(conformance.Conformance):
  implementation = "compact"
  exact_only = True


@pytest.mark.parametrize("groups", [1, 2])
def test_no_product_is_given_a_transposed_gather(groups):
  """XLA runs such a product two or three times slower."""
  rows, inputs, outputs = 46, 96, 80
  ins, outs = (
    blocks.Masks(
      jnp.broadcast_to(jnp.arange(width) % 2 == 0, (groups, width)),
      width,
      1,
      width // 2,
    )
    for width in (inputs, outputs)
  )

  def products(x, w, dy):
    y, vjp = jax.vjp(
      lambda x, w: kd.masked_matmul(
        x, w, in_mask=ins, out_mask=outs, implementation="compact"
      ),
      x,
      w,
    )
    return y, *vjp(dy)

  shapes = [(rows, inputs), (inputs, outputs), (rows, outputs)]
  operands = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  text = jax.jit(products).lower(*operands).compile().as_text()
  lines = [line for line in text.splitlines() if " dot(" in line]
  for product in ("kd_forward", "kd_dx"):
    (line,) = (line for line in lines if product in line)
    last = 2 if groups > 1 else 1  # Rows are walked unit by unit.
    assert f"lhs_contracting_dims={{{last}}}" in line
