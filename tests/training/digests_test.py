"""Digests of trees."""

import jax.numpy as jnp
import numpy as np

from kdropout_jax.training import digests


def test_a_digest_sees_one_bit_a_shape_a_dtype_and_a_name():
  base = {"w": np.zeros((2, 3), np.float32)}
  flipped = {"w": base["w"].copy()}
  flipped["w"].view(np.uint32)[1, 2] ^= 1
  others = [
    flipped,
    {"w": base["w"].reshape(3, 2)},
    {"w": base["w"].view(np.int32)},
    {"v": base["w"]},
  ]
  found = {digests.sha256(tree) for tree in [base, *others]}
  assert len(found) == 5
  assert digests.sha256({"w": jnp.zeros((2, 3))}) == digests.sha256(base)
