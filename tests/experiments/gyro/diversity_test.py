"""Figure 5: which subnets are compared, and how, against loops in numpy."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from experiments.cells import networks
from experiments.gyro import analysed
from experiments.gyro import diversity
from experiments.gyro import subnet_diversity
from experiments.run import config
from tests import tolerance

SIZES = {
  "svhn_cropped": 73_257,
  "cifar10": 50_000,
  "cifar100": 50_000,
  "tiny_imagenet": 100_000,
  "nsl_kdd": 125_973,
  # Those of our own splits, rounded down.
  "kddcup99": 100_000,
  "unsw_nb15": 50_000,
}


def all_rows():
  for scale in analysed.SCALES.values():
    for label, row in scale.rows.items():
      yield pytest.param(row, id=f"{scale.name}-{label}")


@pytest.mark.parametrize("row", [*all_rows()])
def test_all_sigma_train_on_every_row(row):
  assert tuple(row.runs) == analysed.METHODS
  for method in ("gyro", "blockwise"):
    cell = config.RunConfig(**row.runs[method])
    steps = cell.steps(cell.num_train or SIZES[cell.dataset])
    schedule = cell.schedule(steps)
    assert schedule.num_subnets(steps, cell.batch_size) == cell.total
  assert row.runs["blockwise"]["pattern"] == "blocks"
  same = {"rows_per_subnet", "pattern", "block_size"}
  for name, value in row.runs["blockwise"].items():
    assert name in same or row.runs["gyro"][name] == value


def test_the_paper_counts_fourteen_rows():
  rows = analysed.SCALES["paper"].rows
  assert len(rows) * 3 == 42  # at 20, 10 and 5 %
  deep = [label for label, row in rows.items() if row.rewind_epochs]
  assert len(deep) == 4 and all("resnet18" in label for label in deep)
  assert {rows[label].scope for label in deep} == {"global"}


def test_cells_keep_their_end_and_where_tickets_rewind_to(tiny):
  cells = analysed.cells(tiny, "tiny", "gyro")
  assert [cell.seed for cell in cells] == [0, 1]
  assert {cell.snapshot_steps for cell in cells} == {(24,)}
  row = dataclasses.replace(tiny.rows["tiny"], rewind_epochs=1)
  deep = dataclasses.replace(tiny, rows={"tiny": row})
  cell = analysed.cells(deep, "tiny", "gyro")[0]
  assert cell.snapshot_steps == (4, 24)


NETS = {}


def nets_of(scale, method):
  """Returns the networks of a method, compiled once."""
  if method not in NETS:
    cell = analysed.cells(scale, "tiny", method)[0]
    NETS[method] = networks.Networks(cell)
  return NETS[method]


@pytest.mark.parametrize(
  ("method", "expected"),
  [
    # Steps 20 to 23 of 24: a fresh subnet for each of their 32 rows.
    ("conventional", range(20 * 32, 24 * 32)),
    ("gyro", range(4, 8)),  # all of the second window's
    ("blockwise", range(4, 8)),  # one a step, in turn
  ],
)
def test_subnets_of_the_last_epoch(tiny, method, expected):
  ids = subnet_diversity.of_last_epoch(nets_of(tiny, method), seed=1)
  assert ids.tolist() == list(expected)


def test_a_choice_of_subnets():
  ids = np.arange(100, 140)
  chosen = subnet_diversity.choose(ids, 10, seed=3)
  assert len(set(chosen)) == 10 and set(chosen) <= set(ids)
  assert chosen.tolist() == subnet_diversity.choose(ids, 10, seed=3).tolist()
  assert chosen.tolist() != subnet_diversity.choose(ids, 10, seed=4).tolist()
  assert (
    subnet_diversity.choose(ids[:3], 10, seed=3).tolist() == ids[:3].tolist()
  )


def by_loops(nets, params, seed, ids):
  """Runs each subnet by itself in numpy, and compares pairs one by one."""
  inputs, labels = nets.split("test")
  x = np.asarray(nets.task.preprocess(inputs), np.float64)
  masks = nets.masks(seed, ids)
  keep = [np.asarray(masks[f"dropout_{i}"].dense()) for i in range(2)]
  features, named = [], []
  for n in range(len(ids)):
    h = x.reshape(len(x), -1)
    for i in range(2):
      h = np.maximum(h @ np.asarray(params[f"hidden_{i}"]["kernel"]), 0)
      h = h * keep[i][n] / 0.5  # Half of all blocks is kept, too.
    features.append(h)
    named.append((h @ np.asarray(params["logits"]["kernel"])).argmax(-1))
  found = {name: [] for name in ("distance", "distance_of_all")}
  found |= {"disagreement": [], "error_correlation": []}
  for i, j in itertools.combinations(range(len(ids)), 2):
    a, b = features[i], features[j]
    for name, both in (
      ("distance", keep[1][i] & keep[1][j]),
      ("distance_of_all", np.ones(16, bool)),
    ):
      norm = (np.abs(a[:, both]).sum() + np.abs(b[:, both]).sum()) / 2
      if norm:
        found[name].append(np.abs(a - b)[:, both].sum() / norm)
    found["disagreement"].append(np.mean(named[i] != named[j]))
    errors = [named[n] != labels for n in (i, j)]
    found["error_correlation"].append(np.corrcoef(*errors)[0, 1])
  means = {name: np.mean(values) for name, values in found.items()}
  return means | {"accuracy": np.mean([n == labels for n in named])}


@pytest.mark.parametrize("method", ["gyro", "blockwise"])
def test_subnets_are_compared_as_loops_would(tiny, method, monkeypatch):
  monkeypatch.setattr(
    subnet_diversity, "_ROWS", 100
  )  # 297 images: three batches
  nets = nets_of(tiny, method)
  random = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: random.normal(size=x.shape).astype(np.float32), nets.like
  )
  ids = np.array([0, 5, 6, networks.RANDOM_IDS])
  found = dataclasses.asdict(
    subnet_diversity.Comparison(nets).of(params, 7, ids)
  )
  assert 0 <= found.pop("ensemble") <= 1
  expected = by_loops(nets, params, 7, ids)
  assert expected["distance"] > 0.1
  assert found.keys() == expected.keys()
  for name in found:
    ours = np.float32(found[name])
    length = 64 + 16 + 297 * 16  # To the features, and over all of them.
    tolerance.assert_sums_close(ours, expected[name], length, magnitude=1.0)


def test_gains_are_paired_by_seed_and_only_full_runs_are_claimed():
  def row(method, seed, distance, subnets="last epoch", all_trained=True):
    own = {"row": "r", "method": method, "seed": seed, "subnets": subnets}
    return own | {"distance": distance, "all_trained": all_trained}

  found = [row("conventional", seed, 1.0 + seed) for seed in (0, 1)]
  found += [row("conventional", 0, 5.0, "random")]
  found += [row("gyro", 0, 1.1), row("gyro", 1, 3.0, all_trained=False)]
  found += [row("gyro", 0, 4.0, "random")]
  rows = diversity.with_gains(found)
  gains = [r["gain"] for r in rows if r["method"] == "gyro"]
  assert gains == pytest.approx([10.0, 50.0, -20.0])
  silent = [row("conventional", 2, 0.0), row("gyro", 2, 1.0)]
  silent += [row("conventional", 3, 1.0), row("gyro", 3, float("nan"))]
  measure = "feature_distance_gain_percent"
  assert not any(measure in row for row in diversity.with_gains(silent)[1::2])
  assert [measure in r for r in rows if r["method"] == "gyro"] == [
    *(True, False, False)
  ]


def test_diversity_ends_with_its_report(call, workdir):
  call(diversity.main)
  found = json.loads((workdir / "diversity.json").read_text())
  rows = found["numbers"]["rows"]
  assert len(rows) == 3 * 2 * 2  # methods, groups, seeds
  for row in rows:
    assert (row["dataset"], row["model"]) == ("digits", "mlp2")
    assert row["distance"] > 0
    assert (row["gain"] == 0) == (row["method"] == "conventional")
  assert [v["claim"]["name"] for v in found["verdicts"]] == [*diversity.CLAIMS]
  (finding,) = found["verdicts"][0]["findings"].values()
  gains = [
    row["gain"]
    for row in rows
    if row["method"] == "gyro" and row["subnets"] == "last epoch"
  ]
  assert finding["mean"] == pytest.approx(np.mean(gains))
  assert (workdir / "diversity.png").exists()
  page = (workdir / "diversity.md").read_text()
  assert page.count("| tiny ") == 6


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (dict(depth=3), "depth must be left alone here"),
    (dict(rows=["tony"]), "rows must be one of .*did you mean tiny"),
    (dict(seeds=0), "seeds must be >= 1, got 0"),
    (dict(scale="huge"), "scale must be one of paper, cpu, smoke"),
  ],
)
def test_wrong_flags_are_refused(call, flags, message):
  with pytest.raises(ValueError, match=message):
    call(diversity.main, **flags)
