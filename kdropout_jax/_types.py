"""Array and key aliases, the axis letters, and the library's own error.

Axis letters, used in every docstring and shape annotation:

  B  batch (rows of the global batch; always the leading axis)
  I  features in
  O  features out
  W  width of a masked layer, in units
  T  subnets that train in one step
  G  blocks of a layer, ``ceil(W / block_size)``
  N  length of a padded index table
  S  seeds trained in one program
"""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Int, Integer, UInt

Key: TypeAlias = jax.Array
"""A typed key (``jax.random.key``) or a legacy ``uint32`` one."""

Step: TypeAlias = int | np.integer | Int[Array, ""] | UInt[Array, ""]
"""The number of a training step, counted from 0; a Python or traced integer."""

NumRows: TypeAlias = Any
"""How many rows a batch has: an integer, or a symbol of `jax.export`."""

Ids: TypeAlias = Integer[Array, "T"]
"""The ids of the subnets that train in one step: uint32 where they are drawn,
any integers where a user gives them."""


class UnsupportedError(NotImplementedError):
  """A correct request that this implementation cannot serve here.

  The message says why, as a sentence. A wrong call is a `ValueError`
  instead: it would be wrong on every implementation.
  """
