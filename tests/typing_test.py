"""The core's shape annotations are true: beartype checks them in use."""

import pathlib
import subprocess
import sys

_CODE = """
import jaxtyping
core = ["blocks", "masks", "functional", "ops.dense", "ops.compact"]
core = ["kdropout_jax." + name for name in core]
with jaxtyping.install_import_hook(core, "beartype.beartype"):
  import kdropout_jax as kd
  from kdropout_jax import blocks, functional
  from kdropout_jax.masks import diagnostics
import jax, jax.numpy as jnp

key = jax.random.key(0)
schedules = [
  kd.Standard(), kd.Sequential(3, 2), kd.Pooled(5, 3),
  kd.Pooled(5, 3, replacement=False), kd.Gyro(10, 4, num_steps=8),
  kd.Gyro(10, 4, num_steps=8, rows_per_subnet=4),
]
patterns = [
  kd.Bernoulli(), kd.ExactCount(), kd.Blocks(block_size=4),
  kd.CustomPattern(lambda k, w: jnp.ones((w,), bool), 0.0),
]
checked = 0
for schedule in schedules:
  for pattern in patterns:
    cfg = kd.MaskConfig(schedule, pattern, {"h": 10}, 8)
    for masks in kd.layer_masks(jnp.int32(2), key, cfg).values():
      kd.dropout(jnp.ones((8, 3, 10)), masks, rate=pattern.rate)
      diagnostics.density(masks), diagnostics.overlap(masks)
      blocks.index_table(masks.keep)
      checked += 1
kd.dropout(jnp.ones((4, 2)), jnp.ones((2, 2), bool), rate=0.5,
           assignment=jnp.array([0, 1, 1, 0]), rescale="realised")
guide = kd.Guided(total=5, concurrent=2)
state = kd.guided.init(guide)
ids, state = kd.guided.select(state, 0, key, guide)
kd.guided.weakness(kd.guided.update(state, ids, jnp.ones(2), guide))
try:
  blocks.index_table(jnp.ones((2, 2)))  # not bool
except jaxtyping.TypeCheckError:
  print("checked", checked)
"""


def test_shapes_are_as_annotated():
  out = subprocess.run(
    [sys.executable, "-c", _CODE],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).resolve().parents[1],
    check=False,
  )
  assert out.returncode == 0, out.stderr[-3000:]
  assert out.stdout.split() == ["checked", "24"]
