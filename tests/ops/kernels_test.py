"""The kernels: on a GPU where there is one, and three proofs without it."""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import optax
import pytest

from kdropout_jax import blocks
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import matmul
from kdropout_jax.ops.kernels import launches
from kdropout_jax.ops.kernels import tiles
from tests.ops import compiling
from tests.ops import conformance


@pytest.mark.gpu
class TestTriton(conformance.Conformance):
  implementation = "triton"

  @pytest.fixture(autouse=True)
  def exact_float32(self):
    with jax.default_matmul_precision("highest"):
      yield


def test_numerics_in_the_interpreter():
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  done = subprocess.run(
    [sys.executable, "-m", "tests.ops.interpret"],
    env={**os.environ, "TRITON_INTERPRET": "1"},
    cwd=root,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  results = [json.loads(line) for line in done.stdout.splitlines()]
  wrong = [r for r in results if not r["ratio"] <= 1]
  assert not wrong
  # Every case and product ran, and the comparison was no empty one.
  assert len(results) > 3 * len(conformance.CASES)
  assert max(r["ratio"] for r in results) > 1e-3


@pytest.mark.parametrize("capability", compiling.CAPABILITIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("product", dispatch.PRODUCTS)
def test_compiles_to_tensor_cores_without_spills(product, dtype, capability):
  problem = compiling.problem(dtype, groups=8)
  launch, got = compiling.compile_product(product, problem, capability)
  assert got.spills == 0
  assert got.registers <= 255
  assert got.shared <= tiles.shared_limit(capability)
  found = re.search(compiling.TENSOR_CORE[capability], got.ptx)
  assert found, "no tensor-core instruction"
  wanted = {"bfloat16": "bf16", "float32": "tf32"}[dtype]
  if capability >= 100:
    wanted = wanted.replace("bf16", "kind::f16")  # Both 16-bit types.
  line = got.ptx[found.start() : got.ptx.index("\n", found.start())]
  assert wanted in line
  # The loads run ahead: two steps' operands and more.
  step = launch.tile.shared_bytes(problem_bytes(dtype))
  assert got.shared >= 2 * step / launch.tile.num_stages


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("product, block", [("forward", 128), ("dx", 64)])
def test_the_loop_carries_its_index(product, block, capability):
  problem = compiling.problem("bfloat16", groups=8, block=block)
  launch, got = compiling.compile_product(product, problem, capability)
  loop = got.loop()
  copies = [line for line in loop if re.match(r"cp\.async\.c[ag]", line)]
  # Operands alone are copied ahead, sixteen bytes at a time.
  assert copies and all("cp.async.cg" in c and ", 0x10" in c for c in copies)
  assert any(re.search(compiling.TENSOR_CORE[capability], i) for i in loop)
  # Who loads the index in the step that uses it gives stages away for it.
  step = launch.tile.shared_bytes(2) // launch.tile.num_stages
  buffers = launch.tile.num_stages - (capability < 90)  # mma.sync waits.
  assert got.shared >= buffers * step
  (load,) = (i for i, line in enumerate(loop) if "ld.global" in line)
  loaded = re.search(r"\{ (%r\d+) \}", loop[load])[1]
  used = [
    i
    for i, line in enumerate(loop)
    if i != load and re.search(rf"{loaded}\b", line)
  ]
  # What is loaded in a pass is read in the next one only.
  assert used and max(used) < load


def problem_bytes(dtype):
  return jnp.dtype(dtype).itemsize


def test_precision_follows_jax():
  problem = compiling.problem("float32")
  assert launches.dw(90, problem).meta["PRECISION"] == "tf32"
  with jax.default_matmul_precision("highest"):
    assert launches.dw(90, problem).meta["PRECISION"] == "ieee"
  with jax.default_matmul_precision("high"):
    assert launches.dw(90, problem).meta["PRECISION"] == "tf32x3"


@pytest.mark.parametrize("product", dispatch.PRODUCTS)
@pytest.mark.parametrize("capability", [80, 86, 90, 100, 120])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows, groups", [(1, 1), (4096, 1), (64, 64)])
def test_tiles_fit_every_device(product, capability, dtype, rows, groups):
  problem = dataclasses.replace(
    compiling.problem(dtype), rows=rows, groups=groups
  )
  tile = tiles.choose(product, problem, capability)
  sizes = (tile.rows, tile.cols, tile.depth)
  assert all(16 <= s <= 256 and s & (s - 1) == 0 for s in sizes)
  used = tile.shared_bytes(problem_bytes(dtype))
  assert used <= tiles.shared_limit(capability)


@pytest.mark.parametrize(
  ("changed", "cols"),
  [
    ({}, 256),
    (dict(capability=80), 128),  # No memory for the stages.
    (dict(dtype="float32"), 128),  # Spills on 10.0.
    (dict(rows=512), 128),  # 32 programs for 132 processors.
    (dict(block=32), 128),  # Indexed by units, in the step that uses them.
  ],
)
def test_wide_tiles_where_there_is_room_and_work(changed, cols):
  given = {"dtype": "bfloat16", **changed}
  capability = given.pop("capability", 90)
  tile = tiles.choose("forward", compiling.problem(**given), capability)
  assert (tile.rows, tile.cols) == (128, cols)


WIDTHS = (256, 512, 512, 10)
GROUPS, ROWS, BLOCK = 2, 256, 64


def _loss(params, x, labels, keeps, implementation):
  masks = [
    None,
    *(blocks.Masks(k, 512, BLOCK, 512 // BLOCK // 2) for k in keeps),
    None,
  ]
  for layer, (w, b) in enumerate(params):
    x = matmul.masked_dense(
      x,
      w,
      b,
      activation="relu" if layer < 2 else None,
      in_mask=masks[layer],
      out_mask=masks[layer + 1],
      implementation=implementation,
    )
  return optax.softmax_cross_entropy_with_integer_labels(x, labels).mean()


@functools.lru_cache
def _lowered_step(platform, seeds=None, implementation="triton"):
  optimizer = optax.adam(1e-3)

  def step(params, state, x, labels, keeps):
    gradients = jax.grad(_loss)(params, x, labels, keeps, implementation)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  params = [
    (jnp.zeros((i, o)), jnp.zeros((o,))) for i, o in zip(WIDTHS, WIDTHS[1:])
  ]
  args = (
    params,
    optimizer.init(params),
    jnp.zeros((ROWS, WIDTHS[0])),
    jnp.zeros((ROWS,), jnp.int32),
    [jnp.ones((GROUPS, 512 // BLOCK), bool)] * 2,
  )
  if seeds:
    step = jax.vmap(step)
    args = jax.tree.map(lambda a: jnp.stack([a] * seeds), args)
  with dispatch.cuda_target(90):
    return jax.jit(step).trace(*args).lower(lowering_platforms=(platform,))


def _kernels(lowered):
  """Returns the kernel calls of a module, by the names in their payload."""
  names = []

  def visit(op):
    config = op.attributes.get("mhlo.backend_config")
    if config is not None and "triton_kernel" in str(
      op.attributes["call_target_name"]
    ):
      payload = zlib.decompress(config["opaque"].value_bytes)
      names.extend(
        n for n in ("kd_forward", "kd_dx", "kd_dw") if n.encode() in payload
      )
    return jax_ir.WalkResult.ADVANCE

  from jaxlib.mlir import ir as jax_ir

  lowered.compiler_ir().operation.walk(visit)
  return sorted(names)


def test_training_step_lowers_to_kernels_for_cuda():
  # The first layer's dx is not needed; the last has a side without a mask.
  want = ["kd_dw"] * 3 + ["kd_dx"] * 2 + ["kd_forward"] * 3
  assert _kernels(_lowered_step("cuda")) == want


def test_training_step_lowers_without_kernels_for_a_cpu():
  lowered = _lowered_step("cpu", implementation="auto")
  assert _kernels(lowered) == []
  assert "kd_dw_dense" in lowered.as_text(debug_info=True)


def test_vmapped_training_step_lowers_to_kernels_for_cuda():
  assert set(_kernels(_lowered_step("cuda", seeds=2))) == {
    "kd_forward",
    "kd_dx",
    "kd_dw",
  }


def _lowered_product(platform, implementation="auto", **changed):
  """Lowers the gradient of one product of 4096^3."""
  problem = compiling.problem("bfloat16", **changed)
  side = problem.inputs
  keep = jax.ShapeDtypeStruct((problem.groups, side.num_blocks), jnp.bool_)
  full = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)

  def loss(x, w, keep):
    masks = blocks.Masks(keep, 4096, side.block_size, side.num_kept)
    y = matmul.masked_matmul(
      x, w, in_mask=masks, out_mask=masks, implementation=implementation
    )
    return jnp.sum(y.astype(jnp.float32) ** 2)

  with dispatch.cuda_target(90):
    traced = jax.jit(jax.grad(loss, (0, 1))).trace(full, full, keep)
  return traced.lower(lowering_platforms=(platform,))


@pytest.mark.parametrize(
  ("changed", "names"),
  [
    (dict(groups=8, block=128), ["kd_dw", "kd_dx", "kd_forward"]),
    (dict(groups=8, block=32), ["kd_dx", "kd_forward"]),
    (dict(groups=16, block=128), []),
  ],
)
def test_auto_lowers_to_the_kernels_that_were_measured(changed, names):
  assert _kernels(_lowered_product("cuda", **changed)) == names
  assert _kernels(_lowered_product("cpu", **changed)) == []


@pytest.mark.parametrize("implementation", ["triton", "auto"])
def test_a_table_is_made_once_a_mask(implementation):
  lowered = _lowered_product("cuda", implementation, groups=8, block=128)
  assert lowered.as_text().count("call @argsort") == 2  # Two sides.


def test_named_triton_lowers_below_auto_s_sizes():
  def f(x, w):
    return matmul.masked_matmul(
      x, w, in_mask=jnp.ones((1, 8), bool), implementation="triton"
    )

  with dispatch.cuda_target(80):
    lowered = (
      jax.jit(f)
      .trace(jnp.zeros((4, 8)), jnp.zeros((8, 3)))
      .lower(lowering_platforms=("cuda",))
    )
  assert _kernels(lowered) == ["kd_forward"]
