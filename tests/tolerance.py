"""How far two computations of the same float sums may lie apart."""

import jax
import numpy as np

SAFETY = 4
"""Over the expected error: for unlucky roundings and badly conditioned maps."""


def of_sums(dtype, length, magnitude, *, steps=1) -> float:
  """Returns the absolute error that two orders of summation explain.

  Each of `length` additions rounds its partial sum by at most eps / 2 of it,
  to either side: the roundings of one order add up to about sqrt(length) * eps
  * magnitude, and so does their difference from those of another order (other
  vector width, other threads, fused or not, float64 by numpy).

  Args:
    dtype: the floats that are added; with low precision and float32
      accumulators, `length` counts the roundings to the low precision alone.
    length: how many terms are added on the way to one element. Through several
      layers it is the sum over the layers of the length of each one's sums,
      there and, for a gradient, back again: independent errors add in squares.
    magnitude: the size of the partial sums. That is the largest element of the
      result, as a rule: a small element is a sum of large terms that cancel.
      Where all of them cancel (a gradient at an optimum, a difference) the
      terms' own size must be given.
    steps: updates by the optimizer. Their errors are independent, too, and
      add in squares: true of tens of steps, which amplify none of them much.
  """
  epsilon = float(jax.numpy.finfo(dtype).eps)
  return SAFETY * epsilon * (length * steps) ** 0.5 * magnitude


def assert_sums_close(actual, expected, length, *, magnitude=None, steps=1):
  """Asserts that trees of arrays differ by their order of summation alone.

  The dtype is that of `actual`; `magnitude` is by default the largest element
  of each expected leaf. See `of_sums`.
  """
  for a, b in _leaf_pairs(actual, expected):
    size = _largest(b) if magnitude is None else magnitude
    bound = of_sums(a.dtype, length, size, steps=steps)
    _check(np.abs(_wide(a) - _wide(b)), bound, a, b)


def assert_trained_close(actual, expected, length, *, steps, step_size=0.0):
  """Asserts that two trees of trained parameters differ by rounding alone.

  By norm, leaf by leaf. Plain and momentum SGD need no more than that. Adam,
  RMSProp and their kind divide a gradient by its own size: what is an error
  of eps * sqrt(length) in a typical gradient is one of as much divided by
  |gradient| in an update of size `step_size`, and the least of N gradients is
  about an N-th of a typical one. So the norm of the error is bounded by N
  times that of one element; no bound by element exists at all.

  Args:
    actual, expected: the trees, of one dtype.
    length: as in `of_sums`, there and back through the network.
    steps: the number of updates.
    step_size: the size of one update of one element by an optimizer that
      normalises (Adam: the learning rate); 0 for the others.
  """
  for a, b in _leaf_pairs(actual, expected):
    size = np.linalg.norm(_wide(b)) + step_size * b.size
    bound = of_sums(a.dtype, length, size, steps=steps)
    _check(np.linalg.norm(_wide(a) - _wide(b)), bound, a, b)


def _check(errors, bound, actual, expected):
  assert (errors <= bound).all(), (  # NaN fails.
    f"off by {np.max(errors):.3g}, of which rounding explains {bound:.3g}:\n"
    f"{actual}\nexpected\n{expected}"
  )


def _leaf_pairs(actual, expected):
  if hasattr(actual, "shape"):  # Not a tree: `expected` may be a list.
    actual, expected = [actual], [np.asarray(expected)]
  pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
  for a, b in pairs:
    assert np.shape(a) == np.shape(b), (np.shape(a), np.shape(b))
    yield np.asarray(a), np.asarray(b)


def _largest(x):
  return np.abs(_wide(x)).max(initial=0.0)


def _wide(x):
  return x.astype(np.float64)
