"""Lists of cells: grouped, sharded, skipped, continued."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest

from experiments.cells import flags
from experiments.cells import sweeps
from experiments.k_dropout import grids
from experiments.k_dropout import sizes
from experiments.run import runner
from experiments.run import saving
from experiments.run import setup as setup_lib
from kdropout_jax.training import loop
from tests import tolerance


def cells_of(scale, **fields):
  """Four cells of two programs' worth of members: 2 windows x 2 seeds."""
  return [
    scale.config(method="sequential", m=8, k=k, seed=seed, **fields)
    for k in (10, 30)
    for seed in (0, 1)
  ]


def test_cells_share_a_program_where_only_members_differ(tiny):
  cells = cells_of(tiny) + [tiny.config(method="none")]
  found = sweeps.packs(cells, max_members=3)
  assert [len(pack) for pack in found] == [3, 1, 1]
  assert [cell for pack in found for cell in pack] == cells


def test_convolutions_train_alone_on_a_cpu(tiny, monkeypatch):
  cells = [
    tiny.config(model="lenet", init="glorot", method="none", seed=seed)
    for seed in range(3)
  ]
  assert [len(pack) for pack in sweeps.packs(cells, 3)] == [1, 1, 1]
  monkeypatch.setattr(sweeps.jax, "default_backend", lambda: "gpu")
  assert [len(pack) for pack in sweeps.packs(cells, 3)] == [3]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_are_a_partition(count):
  packs = sweeps.packs(grids.get("sequential", sizes.SMOKE), 3)
  shards = [sweeps.shard(packs, f"{i}/{count}") for i in range(count)]
  assert sorted(map(str, sum(shards, []))) == sorted(map(str, packs))


@pytest.mark.parametrize("which", ["", "1", "2/2", "-1/2", "a/b", "0/0"])
def test_a_wrong_shard_is_refused(which):
  with pytest.raises(ValueError, match="shard must be i/n with 0 <= i < n"):
    sweeps.shard([], which)


def test_wrong_cells_are_refused(tiny):
  many = dataclasses.replace(tiny.config(method="none"), seeds=2)
  with pytest.raises(
    ValueError, match="a cell must have one seed, got seeds=2"
  ):
    sweeps.packs([many], 2)
  with pytest.raises(ValueError, match="max_members must be >= 1, got 0"):
    sweeps.packs([], 0)


def test_two_shards_together_equal_one_run(tiny, store, tmp_path):
  cells = cells_of(tiny)
  whole = store.results(cells)
  for which in ("1/2", "0/2"):
    trained = sweeps.run(
      cells, tmp_path, max_members=2, which=which, progress=False
    )
    assert trained == 2
  parts = [sweeps.result(cell, tmp_path) for cell in cells]
  for name in ("params_sha256", "test_accuracy", "test_loss"):
    assert [p[name] for p in parts] == [w[name] for w in whole]
  assert len({w["params_sha256"] for w in whole}) == len(cells)


def test_finished_cells_are_skipped(tiny, store, monkeypatch):
  cells = cells_of(tiny)
  before = store.results(cells)

  def refuse(*args, **kwargs):
    raise AssertionError("a finished cell was trained again")

  monkeypatch.setattr(runner, "run", refuse)
  assert store.results(cells) == before
  with pytest.raises(AssertionError, match="trained again"):
    store.results([*cells, tiny.config(method="none", seed=9)])


def test_a_stopped_pack_continues_to_the_same_bits(
  tiny, store, tmp_path, monkeypatch
):
  cells = cells_of(tiny)[:2]
  whole = store.results(cells)

  @contextlib.contextmanager
  def at_once():
    yield lambda: True

  with monkeypatch.context() as patch:
    patch.setattr(loop, "stop_on_signals", at_once)
    with pytest.raises(loop.Stopped) as stopped:
      sweeps.run(cells, tmp_path, max_members=2, progress=False)
  assert 0 < stopped.value.step < tiny.num_steps
  assert sweeps.unfinished(cells, tmp_path) == tuple(cells)
  sweeps.run(cells, tmp_path, max_members=2, progress=False)
  found = [sweeps.result(cell, tmp_path) for cell in cells]
  assert [f["params_sha256"] for f in found] == [
    w["params_sha256"] for w in whole
  ]


def test_kept_hits_are_the_test_accuracy(tiny, store):
  cells = cells_of(tiny)
  for cell, result in zip(cells, store.results(cells)):
    hits = sweeps.hits(cell, store.folder)
    assert hits.dtype == bool and hits.shape == (297,)
    accuracy = np.float32(result["test_accuracy"][0])
    tolerance.assert_sums_close(accuracy, hits.mean(), 1)  # A count, over 297.


def test_a_curve_is_the_cells_own_and_ends_at_its_result(tiny, store):
  cells = cells_of(tiny, test_curve=True, eval_every=40)
  ends = []
  for cell, result in zip(cells, store.results(cells)):
    curve = sweeps.curve(cell, store.folder)
    assert [record["step"] for record in curve] == [40, 80, 120]
    assert curve[-1]["test_accuracy"] == result["test_accuracy"][0]
    ends.append(curve[-1]["test_loss"])
  assert len(set(ends)) == len(cells)


def test_a_cell_has_a_folder_named_by_its_digest(tiny, store):
  cells = cells_of(tiny)
  store.results(cells)
  folder = sweeps.cell_folder(cells[0], store.folder)
  assert folder.name == cells[0].digest()
  assert json.loads((folder / "config.json").read_text()) == cells[0].identity()


def test_a_cell_that_is_not_there_says_so(tiny, tmp_path):
  cell = tiny.config(method="none")
  assert sweeps.result(cell, tmp_path) is None
  with pytest.raises(ValueError, match="has not been trained in .*: run its"):
    sweeps.hits(cell, tmp_path)


def test_what_only_the_host_reads_compiles_nothing_new(tiny):
  one = tiny.config(method="none")
  other = dataclasses.replace(one, snapshot_steps=(3,), eval_every=7)
  programs = [setup_lib.make([config]).program for config in (one, other)]
  assert programs[0] is programs[1]
  wider = dataclasses.replace(one, hidden=16)
  assert setup_lib.make([wider]).program is not programs[0]


def test_cells_are_chosen_by_the_names_that_a_dry_run_prints():
  cells = grids.get("sequential", sizes.CPU)
  chosen = flags.chosen(cells, ["once sequential *m=1 *", "rows standard *"])
  assert {(c.shuffle, c.method) for c in chosen} == {
    ("once", "sequential"),
    ("rows", "standard"),
  }
  assert {c.m for c in chosen if c.method == "sequential"} == {1}
  assert flags.chosen(cells, None) == cells
  with pytest.raises(ValueError, match="name some of this list.*got 'none'"):
    flags.chosen(cells, ["none"])


def test_a_short_pack_leaves_no_checkpoint_and_a_long_one_does(
  tiny, tmp_path, monkeypatch
):
  saved = []
  save = saving.Save.__call__

  def counted(self, done, state, window):
    saved.append(done)
    save(self, done, state, window)

  monkeypatch.setattr(saving.Save, "__call__", counted)
  cells = [tiny.config(method="none", checkpoint_every=4)]
  sweeps.run(cells, tmp_path / "short", max_members=1, progress=False)
  assert saved == []
  monkeypatch.setattr(sweeps, "_SAVE_AFTER", 0.0)
  sweeps.run(cells, tmp_path / "long", max_members=1, progress=False)
  assert len(saved) > 1
