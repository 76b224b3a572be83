"""Groups of axes that hold the same units, by one rule an operation.

Two axes are joined where an operation maps index i of one to index i of the
other. Index i of an axis is unit ``i % width``, so that the last of axes that
are flattened into one belongs to it as well. An axis that an operation reads
as a whole, or in an order of its own, is pinned.
"""

import math
from collections.abc import Callable
from typing import Any

from kdropout_jax.subnets.structure import programs

__all__ = ()

Axis = tuple[int, int]
"""(place of a value, axis)."""

MIXED = "mixed"  # the operation is known to read the axis as a whole
UNKNOWN = "unknown"  # nothing is known of the operation


class Groups:
  """The groups of all axes of a program, and what must hold of them.

  Attributes:
    sums: (axes summed over, values multiplied before): units that are dropped
      must be zero in one of the values.
  """

  def __init__(self, program: programs.Program):
    self.shapes = program.shapes
    self.sums: list[tuple[Axis, tuple[Any, ...]]] = []
    self._parent: dict[Axis, Axis] = {}
    self._pins: dict[Axis, str] = {}
    for place in program.fixed + program.outputs:
      self.pin(place, MIXED)
    for a, b in program.same:
      self.join_all(a, b)
    for operation in program.operations:
      rule = _RULES.get(operation.name, _opaque)
      rule(self, operation)

  def find(self, axis: Axis) -> Axis:
    """Returns the axis that stands for the group of `axis`."""
    root = axis
    while root in self._parent:
      root = self._parent[root]
    while axis != root:
      self._parent[axis], axis = root, self._parent[axis]
    return root

  def pinned(self, axis: Axis) -> str | None:
    """Returns why a group cannot be cut, if an operation says so."""
    return self._pins.get(self.find(axis))

  def join(self, a: Axis, b: Axis) -> None:
    """Joins two axes."""
    a, b = self.find(a), self.find(b)
    if a == b:
      return
    pin = self._pins.pop(a, None)
    self._parent[a] = b
    if pin is not None:
      self._pin_root(b, pin)

  def join_all(self, a: int, b: int) -> None:
    """Joins the axes of two values of equal rank; those of size 1 are free."""
    if not isinstance(a, int) or not isinstance(b, int):
      return
    for axis, (m, n) in enumerate(zip(self.shapes[a], self.shapes[b])):
      if m == n:
        self.join((a, axis), (b, axis))

  def pin(self, place: int | programs.Constant, why: str, axes=None) -> None:
    """Pins axes of a value, all by default; a constant has none."""
    if not isinstance(place, int):
      return
    for axis in range(len(self.shapes[place])) if axes is None else axes:
      self._pin_root(self.find((place, axis)), why)

  def _pin_root(self, root: Axis, why: str) -> None:
    if self._pins.get(root) != UNKNOWN:
      self._pins[root] = why


def _opaque(groups: Groups, op) -> None:
  for place in (*op.operands, *op.results):
    groups.pin(place, UNKNOWN)


def _site(groups: Groups, op) -> None:
  (x,), (y,) = op.operands, op.results
  for axis in range(len(groups.shapes[x]) - 1):
    groups.join((x, axis), (y, axis))


def _elementwise(groups: Groups, op) -> None:
  for y in op.results:
    for x in op.operands:
      if isinstance(x, int) and len(groups.shapes[x]) == len(groups.shapes[y]):
        groups.join_all(x, y)


def _each(groups: Groups, op) -> None:
  for x, y in zip(op.operands, op.results):
    groups.join_all(x, y)


def _source(groups: Groups, op) -> None:
  for y in op.results:
    groups.pin(y, MIXED)


def _broadcast(groups: Groups, op) -> None:
  (x, *_), (y,) = op.operands, op.results
  if not isinstance(x, int):
    return
  for axis, to in enumerate(op.params["broadcast_dimensions"]):
    if groups.shapes[x][axis] == groups.shapes[y][to]:
      groups.join((x, axis), (y, to))


def _transpose(groups: Groups, op) -> None:
  (x,), (y,) = op.operands, op.results
  for to, axis in enumerate(op.params["permutation"]):
    groups.join((x, axis), (y, to))


def _without(groups: Groups, op, axes) -> None:
  """Joins all axes but `axes`, which the result does not have."""
  x = op.operands[0]
  left = [i for i in range(len(groups.shapes[x])) if i not in axes]
  for y in op.results:
    for to, axis in enumerate(left):
      groups.join((x, axis), (y, to))


def _squeeze(groups: Groups, op) -> None:
  _without(groups, op, op.params["dimensions"])


def _reduce(groups: Groups, op) -> None:
  _without(groups, op, op.params["axes"])
  groups.pin(op.operands[0], MIXED, op.params["axes"])


def _sum(groups: Groups, op) -> None:
  _without(groups, op, op.params["axes"])
  (x,) = op.operands
  groups.sums += [((x, axis), (x,)) for axis in op.params["axes"]]


def _product(groups: Groups, op) -> None:
  (x, w), (y,) = op.operands, op.results
  (x_sum, w_sum), (x_batch, w_batch) = op.params["dimension_numbers"]
  for a, b in (*zip(x_sum, w_sum), *zip(x_batch, w_batch)):
    groups.join((x, a), (w, b))
  groups.sums += [((x, axis), (x, w)) for axis in x_sum]
  left = [(x, axis) for axis in x_batch]
  for place, used in ((x, (*x_sum, *x_batch)), (w, (*w_sum, *w_batch))):
    rank = len(groups.shapes[place])
    left += [(place, axis) for axis in range(rank) if axis not in used]
  for to, axis in enumerate(left):
    groups.join(axis, (y, to))


def _convolution(groups: Groups, op) -> None:
  if (op.params["feature_group_count"], op.params["batch_group_count"]) != (
    1,
    1,
  ):
    return _opaque(groups, op)
  (x, w), (y,) = op.operands, op.results
  numbers = op.params["dimension_numbers"]
  x_axes, w_axes, y_axes = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
  groups.join((x, x_axes[0]), (y, y_axes[0]))
  groups.join((x, x_axes[1]), (w, w_axes[1]))
  groups.sums.append(((x, x_axes[1]), (x, w)))
  groups.join((w, w_axes[0]), (y, y_axes[1]))
  for place, axes in ((x, x_axes), (w, w_axes), (y, y_axes)):
    groups.pin(place, MIXED, axes[2:])
  return None


def _window(groups: Groups, op) -> None:
  (x, *_), (y,) = op.operands, op.results
  parts = ("window_dimensions", "window_strides", "base_dilation")
  parts = [op.params[name] for name in parts]
  for axis, sizes in enumerate(zip(*parts)):
    if set(sizes) == {1} and op.params["padding"][axis] == (0, 0):
      groups.join((x, axis), (y, axis))
    else:
      groups.pin(x, MIXED, [axis])
      groups.pin(y, MIXED, [axis])


def _where_whole(groups: Groups, op) -> None:
  """Joins axes whose size stays; others are taken in part."""
  x, (y,) = op.operands[0], op.results
  for axis, (m, n) in enumerate(zip(groups.shapes[x], groups.shapes[y])):
    is_moved = "padding_config" in op.params and any(
      op.params["padding_config"][axis]
    )
    if m == n and not is_moved:
      groups.join((x, axis), (y, axis))
    else:
      groups.pin(x, UNKNOWN, [axis])
      groups.pin(y, UNKNOWN, [axis])


def _concatenate(groups: Groups, op) -> None:
  (y,), joined = op.results, op.params["dimension"]
  for x in op.operands:
    for axis in range(len(groups.shapes[x])):
      if axis != joined:
        groups.join((x, axis), (y, axis))
    groups.pin(x, UNKNOWN, [joined])
  groups.pin(y, UNKNOWN, [joined])


def _reshape(groups: Groups, op) -> None:
  x, (y,) = op.operands[0], op.results
  if not isinstance(x, int):
    return None
  if op.params.get("dimensions") is not None or 0 in groups.shapes[x]:
    return _opaque(groups, op)
  for x_axes, y_axes in _runs(groups.shapes[x], groups.shapes[y]):
    if (
      len(x_axes) == len(y_axes) == 1
      or x_axes
      and y_axes
      and 1
      in (
        len(x_axes),
        len(y_axes),
      )
    ):
      # The last axis runs fastest: index i of the whole is i % size of it.
      groups.join((x, x_axes[-1]), (y, y_axes[-1]))
      x_axes, y_axes = x_axes[:-1], y_axes[:-1]
    groups.pin(x, UNKNOWN, x_axes)
    groups.pin(y, UNKNOWN, y_axes)
  return None


def _runs(a: tuple[int, ...], b: tuple[int, ...]):
  """Yields runs of axes of two shapes that hold the same elements.

  Axes of size 1 are left out: they hold no units, and pin nothing.
  """
  left = [i for i, n in enumerate(a) if n > 1]
  right = [i for i, n in enumerate(b) if n > 1]
  while left or right:
    x, y = [left.pop(0)], [right.pop(0)]
    while (m := math.prod(a[i] for i in x)) != (
      n := math.prod(b[i] for i in y)
    ):
      if m < n:
        x.append(left.pop(0))
      else:
        y.append(right.pop(0))
    yield x, y


_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp
convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp
exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt
max min mul ne neg nextafter not or pow reduce_precision rem round rsqrt
select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh
sqrt square stop_gradient sub tan tanh xor
""".split()

_RULES: dict[str, Callable[[Groups, Any], None]] = {
  **{name: _elementwise for name in _NAMES},
  programs.SITE.name: _site,
  "optimization_barrier": _each,
  "iota": _source,
  "broadcast_in_dim": _broadcast,
  "transpose": _transpose,
  "squeeze": _squeeze,
  "reduce_sum": _sum,
  "dot_general": _product,
  "conv_general_dilated": _convolution,
  "slice": _where_whole,
  "pad": _where_whole,
  "concatenate": _concatenate,
  "reshape": _reshape,
  **{f"reduce_{name}": _reduce for name in ("max", "min", "prod", "and", "or")},
  **{name: _reduce for name in ("argmax", "argmin")},
  **{f"reduce_window_{name}": _window for name in ("max", "min", "sum")},
}
