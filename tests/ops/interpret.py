"""Runs the kernels in Triton's interpreter; a process of its own.

`python -m tests.ops.interpret` with TRITON_INTERPRET=1 prints one JSON line a
check: its name and the largest error over the tolerance. Beside a compiled
kernel the interpreter breaks lowering, hence the process.
"""

import dataclasses
import json
import os
import sys

import ml_dtypes
import numpy as np
import triton.language as tl

from kdropout_jax import blocks
from kdropout_jax.ops import dispatch
from kdropout_jax.ops.kernels import tiles
from kdropout_jax.ops.kernels import triton_matmul
from tests.ops import conformance

_TYPES = {
  "float32": tl.float32,
  "float16": tl.float16,
  "bfloat16": tl.bfloat16,
  "int32": tl.int32,
}
# Small enough that every case has several tiles, and blocks of both kinds:
# larger than a tile and smaller.
SMALL = tiles.Tile(16, 16, 16, num_warps=4, num_stages=1, swizzle=2)
DEFAULT_CASES = ("ragged", "one_row", "one_unit", "float16")
WIDE_CASES = ("ragged", "one_group_units")
WIDE = tiles.Tile(32, 64, 32, num_warps=4, num_stages=1, swizzle=3)

CASES = {
  **{n: c for n, c in conformance.CASES.items() if n != "plain"},
  "plain_ragged": conformance.Case(17, 33, 47, 1, None, None),
  "large_bfloat16": conformance.Case(
    40, 130, 70, 2, 64, 32, 2, 1, dtype="bfloat16"
  ),
  "one_group_units": conformance.Case(19, 50, 70, 1, 1, 1, 25, 31),
  "one_group_ragged": conformance.Case(19, 50, 70, 1, 8, 32, 5, 2),
  "one_group_random": conformance.Case(19, 64, 64, 1, 8, 4),
}


class Buffer:
  """A numpy array with the few tensor methods that the interpreter calls."""

  def __init__(self, array):
    self.array = np.ascontiguousarray(array)
    self.dtype = _TYPES[self.array.dtype.name]

  def data_ptr(self):
    return self.array.ctypes.data

  def untyped_storage(self):
    return self

  def cpu(self):
    return self

  def new_empty(self, *args, **kwargs):
    return Buffer(self.array[:0])

  def set_(self, storage, offset, size, stride):
    self.array, self.dtype = storage.array, storage.dtype

  def size(self):
    return self.array.shape

  def stride(self):
    return ()

  def storage_offset(self):
    return 0

  def copy_(self, other):
    assert self.array is other.array  # It wrote in place.


def interpret(capability, launch, *arrays):
  """Takes the place of the jax-triton call; the output starts as NaN."""
  del capability
  name = np.dtype(launch.out.dtype).name
  out = np.full(launch.out.shape, np.nan, getattr(ml_dtypes, name, name))
  buffers = [Buffer(np.asarray(a)) for a in arrays]
  meta = {**launch.meta, "UPCAST": name == "bfloat16"}
  out = Buffer(out)
  kernel = triton_matmul.KERNELS[launch.kernel]
  kernel[(launch.grid,)](*buffers, out, **meta)
  return out.array


def check(name, case, product, tile, bias=True, poison=False):
  """Returns the error over the tolerance of one product of one case."""
  default = tiles.choose
  tiles.choose = default if tile is None else lambda *args: tile
  arrays = conformance.draw(case)
  if not bias:
    arrays = (*arrays[:2], None, *arrays[3:])
  given = conformance.poisoned(case, arrays) if poison else arrays
  try:
    args = conformance.arguments(product, *given)
    tables = blocks.index_tables(*args[-2:])
    got = getattr(triton_matmul, product)(90, case.problem, *args, tables)
  finally:
    tiles.choose = default
  want = conformance.oracle(case, product, *arrays)
  length = conformance.sum_length(case, product)
  error = np.max(np.abs(got.astype(np.float64) - want), initial=0.0)
  ratio = float(error / conformance.tolerance(case.dtype, length))
  return {"name": name, "ratio": ratio if np.isfinite(ratio) else 1e9}


def main():
  assert os.environ.get("TRITON_INTERPRET") == "1", "set TRITON_INTERPRET=1"
  triton_matmul._call = interpret
  for name, case in CASES.items():
    case = dataclasses.replace(case)
    for product in dispatch.PRODUCTS:
      for label, tile in (("default", None), ("small", SMALL), ("wide", WIDE)):
        if label == "default" and name not in DEFAULT_CASES:
          continue  # Small tiles show as much, sooner.
        if label == "wide" and name not in WIDE_CASES:
          continue
        for poison in (False, True) if name == "ragged" else (True,):
          full = f"{name}-{product}-{label}" + "-poisoned" * poison
          result = check(full, case, product, tile, poison=poison)
          print(json.dumps(result), flush=True)
  ragged = CASES["ragged"]
  print(json.dumps(check("no_bias", ragged, "forward", SMALL, bias=False)))


if __name__ == "__main__":
  sys.exit(main())
