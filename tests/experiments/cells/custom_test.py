"""A sweep of a user's own, from its command line to its page."""

import json

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import sweep
from experiments.cells import custom
from experiments.run import config as config_lib
from kdropout_jax.training import loop

_SMALL = ("--num_steps=4", "--hidden=8", "--batch_size=32", "--noprogress")


def call(*argv):
  with flagsaver.flagsaver():
    flags.FLAGS(["sweep", "--grid=custom", *_SMALL, *argv])
    sweep.main([])


def pages(folder):
  return {path.name for path in folder.glob("custom-*.md")}


def test_one_command_trains_a_product_in_one_program_and_says_so(tmp_path):
  where = f"--workdir={tmp_path}"
  call("--vary=k=1,2", "--vary=learning_rate=1e-3,1e-2", "--seeds=2", where)
  # The method follows from k; k and the learning rate are data of a program.
  assert len(list((tmp_path / "packs").iterdir())) == 1
  (page,) = pages(tmp_path)
  numbers = json.loads((tmp_path / page).with_suffix(".json").read_text())
  rows = numbers["numbers"]["rows"]
  assert [(r["k"], r["learning_rate"], r["seed"]) for r in rows] == [
    (k, rate, seed) for k in (1, 2) for rate in (1e-3, 1e-2) for seed in (0, 1)
  ]
  assert {r["method"] for r in rows} == {"sequential"}
  assert numbers["numbers"]["varied"] == {
    "k": [1, 2],
    "learning_rate": [1e-3, 1e-2],
  }
  table = [
    line for line in (tmp_path / page).read_text().split("\n") if "seq" in line
  ]
  assert len(table) == 4 and all("+-" in line for line in table)
  assert (tmp_path / page).with_suffix(".png").read_bytes()[1:4] == b"PNG"
  # One more value: what is there stays, and the page is another.
  results = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}
  call("--vary=k=2,4", "--vary=learning_rate=1e-3", "--seeds=2", where)
  assert len(pages(tmp_path)) == 2
  assert all(p.stat().st_mtime_ns == then for p, then in results.items())
  assert len(list((tmp_path / "cells").iterdir())) == 8 + 2


def test_a_run_that_diverges_takes_no_other_with_it(tmp_path):
  argv = ["--vary=learning_rate=1e-3,1e30", "--optimizer=sgd"]
  with pytest.raises(loop.NonFiniteLoss, match="cells without a result"):
    call(*argv, f"--workdir={tmp_path}")
  (page,) = pages(tmp_path)
  assert "0.001" in (tmp_path / page).read_text()
  assert len(list(tmp_path.rglob("result.json"))) == 2  # its pack's, its own


def test_a_field_is_left_out_where_it_has_no_effect():
  varied = {"method": ("none", "standard", "sequential"), "k": (1, 2)}
  base = {**config_lib.DEFAULTS, "rate": 0.3}
  found = custom.settings(varied, lambda **own: {**base, **own})
  defaults = {name: config_lib.DEFAULTS[name] for name in ("k", "rate")}
  assert [(f["method"], f["k"], f.get("rate", 0.3)) for f in found] == [
    ("none", defaults["k"], defaults["rate"]),
    ("standard", defaults["k"], 0.3),
    ("sequential", 1, 0.3),
    ("sequential", 2, 0.3),
  ]
  made = custom.cells(
    found, lambda **own: config_lib.RunConfig(**own), range(3, 5)
  )
  assert len(made) == 8 and {cell.seed for cell in made} == {3, 4}


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["--vary=kk=1"], "vary must be one of .*, got 'kk'; did you mean k"),
    (["--vary=k"], "vary must be field=value,value, got 'k'"),
    (["--vary=k=1,x"], "k=x: invalid literal"),
    (["--vary=k=0"], "k must be >= 1, got 0"),
    (["--vary=method=polled"], "method must be .*did you mean pooled"),
    (["--vary=k=1", "--vary=k=2"], "must name a field once, got k twice"),
    (["--vary=seeds=2"], "vary must not name seeds: --seed is the first"),
    (["--vary=m=1,8"], "m are of sequential and pooled"),
    (["--vary=total=4", "--vary=k=4"], "total, k are of no one method"),
    (["--vary=total=4", "--method=standard"], "total=4 has no effect here"),
    (["--vary=k=1", "--k=3"], "k must be varied or given, not both"),
    (["--vary=k=1", "--scale=smoke"], "scale has no effect here"),
    ([], "vary must name at least one field"),
    (["--grid=rate", "--vary=k=1"], "vary has no effect here: it is for grid"),
    (["--grid=rate"], "num_steps has no effect here|hidden has no effect"),
  ],
  ids=str,
)
def test_what_cannot_be_is_refused(argv, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    call(*argv, f"--workdir={tmp_path}")
  assert not list(tmp_path.iterdir())


def test_lists_and_nothing_can_be_varied():
  flags.FLAGS.mark_as_parsed()
  found = custom.parse(
    ["channels=8+16,32+64", "max_norm=none,3"], sweep.flags.read
  )
  assert found == {"channels": ((8, 16), (32, 64)), "max_norm": (None, 3.0)}


def test_the_figure_has_the_longest_numbers_on_x():
  rows = [
    dict(k=k, m=m, accuracy=50.0 + k, seed=0) for k in (1, 10) for m in (1, 8)
  ]
  rows.append(dict(k=None, m=None, accuracy=40.0, seed=0))
  panel = custom.panel({"k": (1, 10), "m": (1,)}, rows)
  assert panel.x_label == "k" and panel.log_x
  assert set(panel.lines) == {"m=1", "m=8"} and panel.levels == {"mean": 40.0}
  words = custom.panel({"method": ("none",)}, [dict(rows[0], method="none")])
  assert words.dots == {"method=none": [51.0]}
