"""Table 1 by the paper's own numbers; realised pools by numpy's set."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import kdropout_jax as kd
from experiments.k_dropout import subnet_tables

PAPER = subnet_tables.Run(num_train=50_000, batch_size=512, epochs=300)
SMALL = subnet_tables.Run(num_train=640, batch_size=64, epochs=4)

TABLE_1 = [  # k, epochs per subnet, subnets at m = 1
  (1, 0.01, 29100),
  (5, 0.05, 5820),
  (15, 0.15, 1940),
  (50, 0.52, 582),
  (97, 1, 300),
  (485, 5, 60),
  (970, 10, 30),
  (2425, 25, 12),
  (4850, 50, 6),
  (9700, 100, 3),
  (29100, 300, 1),
]


@pytest.mark.parametrize(("k", "epochs", "subnets"), TABLE_1)
def test_table_1_is_the_papers(k, epochs, subnets):
  row = subnet_tables.sequential_row(PAPER, k, 1)
  assert row["epochs_per_subnet"] == pytest.approx(epochs, abs=0.006)
  assert row["subnets"] == subnets == round(row["formula"])


def test_subnets_grow_with_m_and_a_short_window_counts():
  assert subnet_tables.sequential_row(PAPER, 485, 8)["subnets"] == 480
  row = subnet_tables.sequential_row(SMALL, 15, 2)  # 40 steps: 15, 15, 10
  assert row["subnets"] == 6 and row["formula"] == pytest.approx(80 / 15)
  assert row["fewer_than_standard"] == pytest.approx(40 * 64 / 6)


def test_60_subnets_are_248000_times_fewer():
  row = subnet_tables.sequential_row(PAPER, 485, 1)
  assert row["fewer_than_standard"] == pytest.approx(248_320)


@pytest.mark.parametrize(("pool_size", "m"), [(1, 1), (10, 8), (1000, 8)])
def test_realised_pools_are_counted_over_the_run(pool_size, m):
  row = subnet_tables.pooled_row(SMALL, pool_size, m, seed=3)
  key, schedule = jax.random.key(3), kd.Pooled(pool_size=pool_size, m=m)
  steps = [
    set(np.asarray(kd.subnet_ids(step, key, schedule, 64)).tolist())
    for step in range(40)
  ]
  assert row["realised"] == len(set().union(*steps))
  total = sum(len(ids) for ids in steps)
  assert row["realised_steps"] == pytest.approx(total / pool_size)
  assert row["realised"] <= row["at_most"] == min(pool_size, 40 * m)


def test_expected_counts_agree_with_simulation():
  random = np.random.default_rng(0)
  draws = random.integers(300, size=(400, 200))
  simulated = np.mean([len(set(row)) for row in draws])
  expected = subnet_tables.expected_distinct(300, 200)
  assert expected == pytest.approx(simulated, rel=0.01)
  assert subnet_tables.expected_distinct(1, 5) == 1.0
  # A million at m = 1 over 29,100 steps: hardly a subnet is drawn twice.
  assert subnet_tables.expected_distinct(10**6, 29_100) < 29_100


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: subnet_tables.Run(640, 64, 0), "epochs must be >= 1, got 0"),
    (lambda: subnet_tables.Run(64, 65, 1), "<= num_train, got 65 > 64"),
    (lambda: subnet_tables.sequential_row(SMALL, 0, 1), "k must be >= 1"),
    (lambda: subnet_tables.sequential_row(SMALL, 41, 1), "<= 40 steps.*got 41"),
  ],
)
def test_wrong_arguments(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_lists_of_flags():
  assert subnet_tables.parse("k", ["1", "8"], (2,)) == [1, 8]
  assert subnet_tables.parse("k", None, (2,)) == [2]
  with pytest.raises(ValueError, match="k must be a list of integers, got 1,x"):
    subnet_tables.parse("k", ["1", "x"], ())
  with pytest.raises(ValueError, match="m must be >= 1, got 0"):
    subnet_tables.parse("m", ["8", "0"], ())


def test_the_binary_writes_table_json_and_figure(tmp_path):
  arguments = ["--scale=smoke", "--k=1,40", f"--workdir={tmp_path}"]
  done = subprocess.run(
    [sys.executable, "-m", "experiments.subnet_counts", *arguments],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[3],
  )
  assert done.returncode == 0, done.stderr
  data = json.loads((tmp_path / "subnet_counts.json").read_text())
  assert data["run"]["num_steps"] == 40
  assert [(r["k"], r["m"], r["subnets"]) for r in data["sequential"]] == [
    (1, 1, 40),
    (40, 1, 1),
    (1, 8, 320),
    (40, 8, 8),
  ]
  assert len(data["pooled"]) == 6 and "jax" in data["versions"]
  assert (tmp_path / "subnet_counts.md").read_text().strip() in done.stdout
  assert (tmp_path / "subnet_counts.png").read_bytes()[1:4] == b"PNG"
