"""Bytes of masks: by hand, in saved arrays, in the compiled program."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from experiments.k_dropout import mask_memory

STAGE = mask_memory.Stage(width=64, depth=2, rows=16, in_flight=3, m=1)
SIZES = {"rows": 16, "width": 64, "depth": 2}
LAYERS = 64 * 2  # bytes of one row's, or one subnet's, masks


def test_alive_by_hand():
  # Standard dropout: S - s microbatches of 16 rows.
  alive = [mask_memory.alive(s, 4, **SIZES) for s in range(4)]
  assert alive == [
    4 * 16 * LAYERS,
    3 * 16 * LAYERS,
    2 * 16 * LAYERS,
    16 * LAYERS,
  ]
  # Two subnets, held for ten microbatches: four in flight meet two windows.
  assert mask_memory.alive(0, 4, **SIZES, m=2, k=10) == 2 * 2 * LAYERS
  assert mask_memory.alive(3, 4, **SIZES, m=2, k=10) == 2 * LAYERS
  # Fresh ones each time: four in flight, four windows; k = 2: three.
  assert mask_memory.alive(0, 4, **SIZES, m=2, k=1) == 4 * 2 * LAYERS
  assert mask_memory.alive(0, 4, **SIZES, m=2, k=2) == 3 * 2 * LAYERS


def test_as_many_fresh_subnets_as_rows_are_standard_dropout():
  for s in range(4):
    standard = mask_memory.alive(s, 4, **SIZES)
    assert mask_memory.alive(s, 4, **SIZES, m=16, k=1) == standard


def test_what_is_saved_is_the_masks_of_each_microbatch():
  saving = dataclasses.replace(STAGE, saves_masks=True)
  for m, masks in ((1, 1), (4, 4), (None, 16)):
    stage = dataclasses.replace(saving, m=m)
    assert mask_memory.saved_bytes(stage) == 3 * masks * LAYERS


def test_row_by_row_reuse_saves_nothing():
  row_by_row = {
    m: mask_memory.saved_bytes(dataclasses.replace(STAGE, m=m))
    for m in (1, None)
  }
  assert row_by_row[1] == row_by_row[None] >= 3 * 16 * LAYERS


def test_the_compiled_step_shares_masks_between_microbatches():
  def added(m, in_flight):
    stage = mask_memory.Stage(256, 2, 64, in_flight, m, saves_masks=True)
    return mask_memory.compiled_bytes(stage)["added"]

  # One subnet costs the same whatever is in flight.
  assert abs(added(1, 4) - added(1, 2)) < 64 * 256
  # Standard dropout holds four microbatches' masks, and what samples them.
  assert added(None, 4) >= 4 * 64 * 256 * 2
  assert added(1, 4) < added(None, 4) / 20
  # As many subnets as rows, but the same ones for all four microbatches.
  assert added(64, 4) < added(None, 4) / 2


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"stage": 4}, r"stage must be in \[0, 4\), got 4"),
    ({"stage": 0, "m": 0}, "m and k must be >= 1, got 0 and 1"),
    ({"stage": 0, "m": 1, "k": 0}, "m and k must be >= 1, got 1 and 0"),
  ],
)
def test_wrong_arguments(arguments, message):
  with pytest.raises(ValueError, match=message):
    mask_memory.alive(num_stages=4, **SIZES, **arguments)


def test_the_binary_writes_tables_json_and_figure(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "experiments.memory", "--scale=smoke"),
      f"--out={tmp_path}",
      f"--publish={tmp_path / 'published'}",
    ],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[3],
  )
  assert done.returncode == 0, done.stderr
  data = json.loads((tmp_path / "memory.json").read_text())
  # 1 depth, 2 in flight, standard and two m, saving rows or masks.
  assert len(data["measured"]) == 1 * 2 * 3 * 2
  assert [row["masks"] for row in data["by_stage"]] == [
    "standard",
    "m = 1, k = 1",
    "m = 1, k = 3",
    "m = 16, k = 1",
    "m = 16, k = 3",
  ]
  by_name = {row["masks"]: row["bytes"] for row in data["by_stage"]}
  assert by_name["standard"] == [3 * 16 * 64, 2 * 16 * 64, 16 * 64]
  assert by_name["m = 16, k = 1"] == by_name["standard"]
  assert (tmp_path / "memory.md").read_text().strip() in done.stdout
  assert (tmp_path / "memory.png").read_bytes()[1:4] == b"PNG"
  names = {path.name for path in (tmp_path / "published").iterdir()}
  assert names == {f"memory.{suffix}" for suffix in ("md", "json", "png")}
