"""Our gradients are XLA's, and in its loops of the layout that is fast."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models import convolution
from tests import tolerance

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def xlas(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT
  )


def ours(x, kernel):
  return convolution.conv_general_dilated(x, kernel, (1, 1), "SAME")


def vjps(functions, arguments, grad, has_members=False):
  """Returns each function's value and gradients, in one small program."""

  def one(function, *given):
    out, pull = jax.vjp(function, *given[:-1])
    return out, pull(given[-1])

  @functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
  )
  def all_of_them(*given):
    found = [functools.partial(one, function) for function in functions]
    return [(jax.vmap(f) if has_members else f)(*given) for f in found]

  return all_of_them(*arguments, grad)


@pytest.mark.parametrize(
  ("size", "has_members"), [((5, 3), False), ((3, 3), True)]
)
def test_a_convolution_and_its_gradients_are_xlas(size, has_members):
  random = np.random.default_rng(0)
  lead = (2,) if has_members else ()
  x = random.normal(size=(*lead, 3, 7, 6, 2)).astype(np.float32)
  kernel = random.normal(size=(*lead, *size, 2, 4)).astype(np.float32)
  grad = random.normal(size=(*lead, 3, 7, 6, 4)).astype(np.float32)
  found, expected = vjps((ours, xlas), (x, kernel), grad, has_members)
  # The longest sum: a weight's gradient, over rows and places.
  tolerance.assert_sums_close(found, expected, 3 * 7 * 6)


@pytest.mark.parametrize("shape", [(4, 6), (5, 3)])
def test_a_pooling_and_its_gradient_are_flaxs(shape):
  random = np.random.default_rng(0)
  # Few values, so that most squares have equal maxima.
  x = random.integers(0, 3, (3, *shape, 2)).astype(np.float32)
  flaxs = functools.partial(
    nn.max_pool, window_shape=(2, 2), strides=(2, 2), padding="SAME"
  )
  grad = random.normal(size=(3, -(-shape[0] // 2), -(-shape[1] // 2), 2))
  grad = grad.astype(np.float32)
  found, expected = vjps((convolution.max_pool, flaxs), (x,), grad)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(("function", "is_fast"), [(ours, True), (xlas, False)])
def test_in_a_loop_all_convolutions_have_the_fast_layout(function, is_fast):
  """XLA's own are there to show that the test can fail."""

  def loss(x, kernel):
    return jnp.sum(function(x, kernel) ** 2)

  @jax.jit
  def loop(x, kernel, count):
    def body(_, carry):
      grads = jax.grad(loss, (0, 1))(*carry)
      return jax.tree.map(lambda a, b: a - 0.1 * b, carry, grads)

    return jax.lax.fori_loop(0, count, body, (x, kernel))

  x, kernel = jnp.ones((4, 6, 6, 2)), jnp.ones((3, 3, 2, 5))
  text = loop.lower(x, kernel, 3).compile().as_text()
  layouts = re.findall(r"= \S+ convolution\(.*dim_labels=([^,\s]+)", text)
  assert len(layouts) == 3
  assert (set(layouts) == {"b01f_01io->b01f"}) == is_fast


def test_what_it_cannot_do_is_refused():
  x = jnp.ones((1, 4, 4, 1))
  for kernel, strides, padding in (
    ((3, 3), (2, 2), "SAME"),
    ((3, 3), (1, 1), "VALID"),
    ((2, 3), (1, 1), "SAME"),
  ):
    with pytest.raises(ValueError, match="must"):
      convolution.conv_general_dilated(
        x, jnp.ones((*kernel, 1, 1)), strides, padding
      )
