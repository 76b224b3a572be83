"""The choice of an implementation: static, honest, and what really ran."""

import dataclasses
import logging
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdropout_jax as kd
from kdropout_jax import blocks
from kdropout_jax.ops import batching
from kdropout_jax.ops import dense
from kdropout_jax.ops import dispatch
from kdropout_jax.ops import matmul
from kdropout_jax.ops import measured
from kdropout_jax.ops import problems
from kdropout_jax.ops import support
from kdropout_jax.ops.kernels import trial
from tests import tolerance
from tests.ops import conformance

WIDTH = 1024
EXACT = problems.Side(WIDTH, 32, WIDTH // 64, masked=True)
LARGE = problems.Problem(512, 1, 1, EXACT, EXACT)
RANDOM = dataclasses.replace(EXACT, num_kept=None)
BY_RANDOM = dataclasses.replace(LARGE, inputs=RANDOM)


def _masks(kept=None, groups=1, width=WIDTH, block=32):
  count = width // block
  kept = count // 2 if kept is None else kept
  keep = jnp.broadcast_to(jnp.arange(count)[None] < kept, (groups, count))
  return blocks.Masks(keep, width, block, kept)


def _ran(implementation, groups=1):
  """Names the implementations in the program of a step, read off its text."""
  masks = _masks(groups=groups)

  def loss(x, w):
    y = matmul.masked_matmul(
      x, w, in_mask=masks, out_mask=masks, implementation=implementation
    )
    return jnp.sum(y**2)

  shape = jax.ShapeDtypeStruct((512, WIDTH), jnp.float32)
  weights = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
  lowered = jax.jit(jax.grad(loss, (0, 1))).lower(shape, weights)
  text = lowered.as_text(debug_info=True)
  return {
    (product, name)
    for product in dispatch.PRODUCTS
    for name in dispatch.IMPLEMENTATIONS
    if f"kd_{product}_{name}" in text
  }


@pytest.mark.parametrize("name", ["dense", "compact"])
def test_the_named_implementation_ran_all_three_products(name):
  assert _ran(name) == {(product, name) for product in dispatch.PRODUCTS}


def test_auto_runs_compact_where_one_subnet_trains():
  assert ("forward", "compact") in _ran("auto")


def test_auto_runs_dense_where_every_row_has_a_subnet_of_its_own():
  assert _ran("auto", 512) == {(p, "dense") for p in dispatch.PRODUCTS}


# On both sides of the measured rule; docs/results/products.md has the timings.
@pytest.mark.parametrize(
  ("rows", "inputs", "outputs", "masks", "rate", "groups", "name"),
  [
    (512, 2048, 2048, "both", 0.5, 1, "compact"),
    (512, 2048, 2048, "both", 0.5, 4, "compact"),
    (512, 2048, 2048, "both", 0.5, 8, "dense"),  # 32 MB of copies
    (512, 1024, 1024, "both", 0.5, 8, "compact"),
    (512, 1024, 1024, "both", 0.5, 16, "dense"),  # 32 rows a subnet
    (512, 2048, 2048, "both", 0.1, 4, "dense"),  # little to spare
    (512, 3072, 2048, "out", 0.5, 4, "compact"),
    (512, 3072, 2048, "out", 0.5, 8, "dense"),  # 100 MB of copies
    (256, 1024, 1024, "in", 0.5, 4, "compact"),
    (256, 1024, 1024, "in", 0.1, 1, "dense"),
    (512, 2048, 10, "in", 0.5, 1, "dense"),  # gathers more than it spares
    (512, 10, 2048, "out", 0.5, 1, "dense"),
    (512, 1024, 1024, "both", 0.0, 1, "dense"),
  ],
)
def test_auto_takes_small_products_where_rows_repay_the_copies(
  rows, inputs, outputs, masks, rate, groups, name
):
  def side(width, masked):
    count = blocks.num_blocks(width, 2)
    kept = count - int(rate * count)
    return problems.Side(width, 2, kept, masked=masked)

  ins, outs = masks in ("in", "both"), masks in ("out", "both")
  problem = problems.Problem(
    rows, 1, groups, side(inputs, ins), side(outputs, outs)
  )
  plan = dispatch.plan(problem, "auto")
  cpu = {"cpu": "compact"} if name == "compact" else {}
  for product in dispatch.PRODUCTS:
    assert plan.of(product) == {**cpu, "default": "dense"}  # TPU: dense


def test_auto_counts_positions_as_rows():
  few = problems.Problem(16, 1, 1, EXACT, EXACT)
  many = dataclasses.replace(few, positions=32)
  small = ["cpu" in dispatch.plan(p, "auto").of("dx") for p in (few, many)]
  assert small == [False, True]


def test_auto_takes_dense_for_random_counts():
  plan = dispatch.plan(BY_RANDOM, "auto")
  assert all(plan.of(p) == {"default": "dense"} for p in dispatch.PRODUCTS)


BIG_SIDE = problems.Side(4096, 128, 16, masked=True)
BIG = problems.Problem(4096, 1, 8, BIG_SIDE, BIG_SIDE, "bfloat16")
WIDE = dataclasses.replace(BIG_SIDE, width=2048, num_kept=8)


def _on_cuda(problem, capability=90):
  with dispatch.cuda_target(capability):
    plan = dispatch.plan(problem, "auto")
  return [plan.of(p).get("cuda", "dense") for p in dispatch.PRODUCTS]


@pytest.mark.parametrize("groups", [1, 8])
def test_auto_gives_cuda_the_kernels_and_keeps_a_default(groups):
  problem = dataclasses.replace(BIG, groups=groups)
  assert _on_cuda(problem) == ["triton"] * 3
  with dispatch.cuda_target(90):
    plan = dispatch.plan(problem, "auto")
  assert all(plan.of(p)["default"] == "dense" for p in dispatch.PRODUCTS)


def test_auto_chooses_by_product_where_dw_cannot_skip():
  side = problems.Side(4096, 32, 64, masked=True)
  small = dataclasses.replace(BIG, inputs=side, outputs=side)
  assert _on_cuda(small) == ["triton", "triton", "dense"]


@pytest.mark.parametrize(
  "changed",
  [
    dict(dtype="float32"),
    dict(dtype="float16"),
    dict(groups=16),
    dict(rows=2048),
    dict(inputs=WIDE),
    dict(inputs=problems.Side(4096, 16, 128, masked=True), groups=1),
    dict(inputs=dataclasses.replace(BIG_SIDE, num_kept=None)),
    dict(outputs=dataclasses.replace(BIG_SIDE, num_kept=17)),
    dict(outputs=problems.Side(4096)),
    dict(inputs=problems.Side(4096), outputs=problems.Side(4096), groups=1),
  ],
)
def test_auto_is_dense_on_cuda_where_nothing_was_measured(changed):
  assert _on_cuda(dataclasses.replace(BIG, **changed)) == ["dense"] * 3


@pytest.mark.parametrize("capability", [80, 86, 100, 120])
def test_auto_is_dense_on_cards_that_were_not_measured(capability):
  assert _on_cuda(BIG, capability) == ["dense"] * 3


@pytest.mark.parametrize("region", measured.CUDA, ids=lambda r: r.name)
def test_every_region_cites_its_rows(region):
  path, section = region.source.split("#")
  root = pathlib.Path(__file__).resolve().parents[2]
  page = (root / path).read_text().lower()
  heading = f"## {section.replace('-', ' ')}\n"
  rows = page.split(heading, 1)[1].split("\n## ")[0]
  assert set(region.milliseconds) <= set(dispatch.PRODUCTS)
  for kernel, plain in region.milliseconds.values():
    assert kernel < plain
    for milliseconds in (kernel, plain):
      assert f"{milliseconds:.3f}".lstrip("0") in rows
  assert (root / measured.CPU.source).exists()


def test_auto_says_once_why_it_fell_back(caplog):
  side = problems.Side(4096, 96, 21, masked=True)
  odd = dataclasses.replace(BIG, groups=1, inputs=side)
  dispatch._say_once.cache_clear()
  with caplog.at_level(logging.INFO):
    assert [_on_cuda(odd) for _ in range(2)] == [["dense"] * 3] * 2
  assert caplog.text.count("power of two") == 1


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (dict(platform="cpu"), "dx: compact; two cores"),
    (dict(platform="cpu", rows=8), "dx: dense; small products win elsewhere"),
    (dict(platform="tpu"), "dx: dense; nothing was timed on tpu"),
    (dict(platform="cuda"), "misses: dtype float32"),
    (dict(platform="cuda", dtype=jnp.bfloat16), "dx: triton; one subnet"),
    (dict(platform="cuda", dtype=jnp.bfloat16, rows=512), "misses: 512 rows"),
  ],
)
def test_explain_says_what_auto_does_and_why(given, said):
  shape = (given.pop("rows", 4096), 4096)
  masks = _masks(width=4096, block=128)
  text = kd.explain(shape, (4096, 4096), in_mask=masks, out_mask=masks, **given)
  assert said in text
  assert [line.split(":")[0] for line in text.splitlines()] == list(
    dispatch.PRODUCTS
  )


def test_explain_refuses_what_the_op_would():
  with pytest.raises(ValueError, match=r"w must be \[8, outputs\]"):
    kd.explain((4, 8), (7, 3))
  with pytest.raises(ValueError, match="platform must be one of.*got 'metal'"):
    kd.explain((4, 8), (8, 3), platform="metal")


@pytest.mark.parametrize(
  "problem, capability, message",
  [
    (LARGE, None, "triton needs a CUDA device, but the backends here"),
    (LARGE, 75, "compute capability 8.0, the device has 7.5"),
    (
      dataclasses.replace(LARGE, dtype="float64"),
      90,
      "triton has no float64 product",
    ),
    (
      dataclasses.replace(
        LARGE, outputs=problems.Side(960, 48, 10, masked=True)
      ),
      90,
      "power of two, but out_mask has block_size=48",
    ),
  ],
)
def test_triton_says_why_it_cannot(problem, capability, message, monkeypatch):
  target = None if capability is None else support.Target(capability)
  monkeypatch.setattr(dispatch, "_local_target", lambda: target)
  with pytest.raises(kd.UnsupportedError, match=message):
    dispatch.plan(problem, "triton")


def test_triton_says_which_package_is_missing(monkeypatch):
  monkeypatch.setattr(support, "_installed", lambda name: name == "triton")
  with dispatch.cuda_target(90):
    with pytest.raises(kd.UnsupportedError, match="package jax_triton"):
      dispatch.plan(LARGE, "triton")
    dispatch._say_once.cache_clear()
    with pytest.warns(UserWarning, match="package jax_triton") as found:
      assert "cuda" not in dispatch.plan(BIG, "auto").of("forward")
      assert "cuda" not in dispatch.plan(BIG, "auto").of("forward")
  assert [w.filename for w in found] == [__file__]


def test_kernels_that_break_with_this_jax_are_left_out(monkeypatch):
  import jax_triton

  def triton_call(*arrays, out_type, **settings):
    raise TypeError("dce rule has the old signature")

  monkeypatch.setattr(jax_triton, "triton_call", triton_call)
  monkeypatch.setattr(trial, "failure", trial.failure.__wrapped__)
  dispatch._say_once.cache_clear()
  with pytest.warns(UserWarning, match=r"breaks with jax 0.*\(TypeError: dce"):
    assert _on_cuda(BIG) == ["dense"] * 3
  with dispatch.cuda_target(90):
    with pytest.raises(kd.UnsupportedError, match="jax_triton breaks with jax"):
      dispatch.plan(LARGE, "triton")


_BROKEN = """
import sys, warnings
import jax, jax.numpy as jnp, kdropout_jax as kd
from kdropout_jax.ops import dispatch

def step(x, w):
  ids = jnp.arange(1, dtype=jnp.uint32)
  masks = kd.subnet_masks(jax.random.key(0), ids, 4096, kd.Blocks(0.5, 128))
  return kd.masked_matmul(x, w, in_mask=masks, out_mask=masks)

x = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)
masks = kd.Masks(jnp.arange(32)[None] < 16, 4096, 128, 16)
with warnings.catch_warnings(record=True) as found, dispatch.cuda_target(90):
  warnings.simplefilter("always")
  for _ in range(2):
    jitted = jax.jit(lambda x, w: step(x, w))
    text = jitted.trace(x, x).lower(lowering_platforms=("cuda",)).as_text()
    assert "dot_general" in text and "custom_call" not in text, text
  print(kd.explain(x.shape, x.shape, in_mask=masks, out_mask=masks,
                   dtype=x.dtype, platform="cuda"))
print("warned", [str(w.message) for w in found])
"""


def test_a_jax_triton_that_cannot_be_imported_is_said_once(tmp_path):
  """In a process of its own, as what Python has imported stays."""
  (tmp_path / "jax_triton.py").write_text("raise ImportError('made for 1999')")
  root = str(pathlib.Path(__file__).resolve().parents[2])
  paths = os.pathsep.join([str(tmp_path), root])
  done = subprocess.run(
    [sys.executable, "-c", _BROKEN],
    env={**os.environ, "PYTHONPATH": paths},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  *lines, warned = done.stdout.splitlines()
  reason = "jax_triton cannot be imported (ImportError: made for 1999)"
  assert warned.count(reason) == warned.count("auto leaves") == 1, warned
  assert len(lines) == 3
  assert all("dense; triton cannot run here" in line for line in lines), lines


@pytest.mark.parametrize("side", ["in", "out"])
def test_compact_needs_exact_counts(side):
  with pytest.raises(kd.UnsupportedError, match=f"but {side}_mask has none"):
    matmul.masked_matmul(
      jnp.ones((4, 8)),
      jnp.ones((8, 8)),
      implementation="compact",
      **{f"{side}_mask": jnp.ones((1, 8), bool)},
    )


def test_a_named_implementation_does_not_fall_back_at_trace():
  with pytest.raises(kd.UnsupportedError, match="CUDA device"):
    _ran("triton")


def test_kept_share_is_the_work_that_is_left():
  assert LARGE.kept_share == 0.25
  assert BY_RANDOM.kept_share is None
  assert problems.Problem(1, 1, 1, problems.Side(3), EXACT).kept_share == 0.5


@pytest.mark.parametrize("product", dispatch.PRODUCTS)
@pytest.mark.parametrize("batched", ["rows", "weights", "masks", "nested"])
def test_a_kernel_is_batched_as_a_loop_would(product, batched):
  # A dense product stands for the kernel, whose rule needs no GPU.
  case = conformance.CASES["positions"]
  arrays = conformance.arguments(product, *conformance.draw(case))
  run = getattr(dense, product)
  kernel = batching.batchable(run, product, case.problem)
  moved = {"rows": 0, "weights": 1, "masks": len(arrays) - 1, "nested": 0}
  axes = [0 if i == moved[batched] else None for i in range(len(arrays))]
  stacked = list(arrays)
  varied = arrays[moved[batched]]
  stacked[moved[batched]] = np.stack([varied, varied[::-1], varied])
  if batched == "nested":
    axes[1] = 1
    stacked[1] = np.stack([arrays[1]] * 3, axis=1)
    got = jax.vmap(jax.vmap(kernel, axes), (None, *[0] * (len(arrays) - 1)))(
      stacked[0], *(np.stack([a, a]) for a in stacked[1:])
    )[1]
  else:
    got = jax.vmap(kernel, axes)(*stacked)
  for i in range(3):
    one = [
      np.take(a, i, ax) if ax is not None else a for a, ax in zip(stacked, axes)
    ]
    want = run(case.problem, *one)
    terms = conformance.sum_length(case, product)
    tolerance.assert_sums_close(got[i], want, terms)
