"""What programs for an H100 launch: the counter anywhere, the bars with it."""

import os
import subprocess
import sys

import pytest

from experiments.bench import h100
from experiments.bench import programs
from tests.experiments import binaries

_TEXT = """HloModule jit_run

%inner.1 (p: s32[]) -> s32[] {
  %sort.1 = (u32[8]{0}, s32[8]{0}) sort(%a, %b), dimensions={0}
  ROOT %input_reduce_fusion.7 = s32[] fusion(%p), kind=kInput, calls=%f
}

%step.2 (p: s32[]) -> s32[] {
  %loop_add_fusion.3.clone = f32[2]{0} fusion(%x), kind=kLoop, calls=%g
  %loop_add_fusion = f32[2]{0} fusion(%x), kind=kLoop, calls=%g
  %t.1 = f32[2]{0} get-tuple-element(%loop_add_fusion), index=0
  %w.1 = s32[] while(%p), condition=%c, body=%inner.1
  ROOT %c.1 = f32[] custom-call(%x), custom_call_target="__cublas$gemm"
}

%called.1 (p: s32[]) -> s32[] {
  ROOT %copy.2 = s32[] copy(%p)
}

ENTRY %main.3 (p: s32[]) -> s32[] {
  %p = s32[] parameter(0)
  %call.1 = s32[] call(%p), to_apply=%called.1
  ROOT %w.2 = s32[] while(%p), condition=%c, body=%step.2, backend_config={"known_trip_count":{"n":"50"}}
}
"""


def test_launches_are_counted_loop_by_loop():
  whole = h100.read(_TEXT)
  assert dict(whole.kernels) == {"copy": 1} and whole.copies() == 1
  (step,) = whole.loops
  assert step.trips == 50 and step.launches == 3
  assert dict(step.kernels) == {"loop_add_fusion": 2, "__cublas$gemm": 1}
  (inner,) = step.loops
  assert inner.trips is None
  assert dict(inner.kernels) == {"sort": 1, "input_reduce_fusion": 1}
  assert list(whole.nested()) == [step, inner]
  with pytest.raises(ValueError, match="with an ENTRY"):
    h100.read("no program")


def test_bars_are_seen_when_they_break():
  def row(part, launches, method="", loops=0):
    own = {"network": "n", "dtype": "d", "method": method}
    return {"part": part, "launches": launches, "loops": loops, **own}

  rows = {
    "mask 1 x 2": row("mask", 5),
    "step of n d: conventional": row("step", 32, "conventional"),
    "at the bar": row("step", 42, "gyro T=8"),
    "another way": row("step", 99, "sequential T=1 compact"),
  }
  assert programs.broken(rows) == []
  rows["mask 1 x 2"]["launches"] = 6
  rows["at the bar"] |= {"launches": 43, "loops": 1}
  assert programs.broken(rows) == [
    "mask 1 x 2: 6 launches, at most 5",
    "at the bar: 43 launches, at most 42",
    "at the bar: 1 loops inside of a step",
  ]
  rows["mask 1 x 2"]["temporaries"] = 2048
  page = programs.page(rows, {"command": "", "versions": {"jax": ""}})
  assert "43 launches" in page and "All bars" not in page


@pytest.mark.slow
@pytest.mark.skipif(h100.why_not() is not None, reason=str(h100.why_not()))
def test_masks_and_steps_keep_the_bars(tmp_path):
  """Every schedule on the k-dropout network, and exact masks of all sizes."""
  environment = dict(os.environ)
  environment.pop("JAX_PLATFORMS", None)  # Else the plugin is not asked.
  command = [sys.executable, "-m", "experiments.gpu_programs"]
  for only in ("mask ", "step of kdropout float32"):
    process = subprocess.run(
      [*command, f"--out={tmp_path}", f"--only={only}"],
      cwd=binaries.ROOT,
      env=environment,
      capture_output=True,
      text=True,
      timeout=1800,
    )
    assert process.returncode == 0, process.stderr[-3000:]
  assert "All bars are kept." in process.stdout
  assert process.stdout.count("\n| ") > len(programs.METHODS)
