"""Designs: which parts of a layer the subnets of one group keep.

Subnets of a group share one random order of the units, cut into Q equal parts;
subnet j keeps a fixed union of parts. With Q = P and one part a subnet the
group is a partition. Larger groups are unions of classes: a class is P subnets
that partition the units, so that every unit is kept by exactly one subnet in P.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np

from kdropout_jax import _checks


@dataclasses.dataclass(frozen=True)
class Design:
  """A group of `size` subnets, of which each keeps one P-th of the units.

  Parts are numbered by q digits in base P, Q = P**q. A class belongs to a
  linear function of the digits modulo P, and its member j keeps the parts where
  the function is j. For P = 2 a class is a row of a Hadamard matrix and its
  complement.

  Attributes:
    parts: P, subnets of a class.
    size: T, subnets of a group; a multiple of P.
    in_order: whether the units lie in the order of their parts, and the masks
      are those of one whole group: known before the program runs.

  >>> Design(2, 4).table.astype(int).tolist()
  [[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
  """

  parts: int
  size: int
  in_order: bool = False

  @property
  def num_classes(self) -> int:
    """Classes of the group: how many of its subnets keep any one unit."""
    return self.size // self.parts

  @property
  def num_parts(self) -> int:
    """Q, the parts that the units are cut into."""
    return self.parts ** len(_functions(self)[0])

  @property
  def table(self) -> np.ndarray:
    """Which parts each subnet keeps, bool [T, Q]."""
    functions = np.array(_functions(self))
    digits = np.indices((self.parts,) * functions.shape[1])
    values = functions @ digits.reshape(functions.shape[1], -1) % self.parts
    members = np.arange(self.parts)[None, :, None]
    return (values[:, None, :] == members).reshape(self.size, -1)

  def starts(self, count: int) -> np.ndarray:
    """Returns where each part begins in the order of `count` units, int [Q]."""
    parts = np.arange(self.num_parts)
    return parts * (count // self.num_parts) + np.minimum(
      parts, count % self.num_parts
    )

  def num_kept(self, count: int) -> int | None:
    """Returns how many of `count` units each subnet keeps, None if it varies.

    Raises:
      ValueError: fewer units than parts.
    """
    if count < self.num_parts:
      raise ValueError(
        f"a layer must have at least as many units (or blocks) as the"
        f" {self.num_parts} parts of a pattern with P={self.parts} and groups"
        f" of {self.size} subnets, got {count}"
      )
    return None if count % self.num_parts else count // self.parts


def make(rate: float, partition: bool, balanced: int | None) -> Design | None:
  """Returns the design that a pattern's fields ask for, None without one.

  Raises:
    ValueError: a rate that is not 1 - 1/P, or a group that P does not divide.
  """
  _checks.check_flag("partition", partition)
  if balanced is None and not partition:
    return None
  name = "partition" if balanced is None else "balanced"
  if balanced is not None and partition:
    raise ValueError(
      "partition and balanced are two patterns: give one of them, got"
      f" partition=True, balanced={_checks.shown(balanced)}"
    )
  parts = round(1.0 / (1.0 - rate)) if rate < 1.0 else 0
  if parts < 2 or not math.isclose(1.0 - rate, 1.0 / parts, rel_tol=1e-6):
    raise ValueError(
      f"rate must be 1 - 1/P for an integer P >= 2 with {name}, such as .5 or"
      f" .75, got {rate}"
    )
  if balanced is None:
    return Design(parts, parts)
  _checks.check_positive("balanced", balanced)
  if balanced % parts:
    raise ValueError(
      f"balanced must be a multiple of P = 1 / (1 - rate) = {parts}, got"
      f" {balanced}"
    )
  return Design(parts, int(balanced))


@functools.cache
def _functions(design: Design) -> tuple[tuple[int, ...], ...]:
  """Returns the linear function of each class, as few digits as suffice.

  A function with coefficients that have no factor in common with P takes each
  value equally often; those whose first coefficient prime to P is 1 stand for
  their multiples, which have the same class. Fewest digits first: units.
  """
  digits = 0
  while True:
    digits += 1
    found = [
      vector
      for vector in itertools.product(range(design.parts), repeat=digits)
      if _stands_for_a_class(vector, design.parts)
    ]
    if len(found) >= design.num_classes:
      found.sort(key=lambda vector: (sum(map(bool, vector)), vector[::-1]))
      return tuple(found[: design.num_classes])


def _stands_for_a_class(vector: tuple[int, ...], parts: int) -> bool:
  if math.gcd(*vector, parts) != 1:
    return False
  multiples = [
    tuple(factor * v % parts for v in vector)
    for factor in range(1, parts)
    if math.gcd(factor, parts) == 1
  ]
  return vector == min(multiples)
