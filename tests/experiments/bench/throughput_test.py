"""The benchmarks of products and steps, at sizes that prove they run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver

from experiments.bench import block_work
from experiments.bench import figure_7
from experiments.bench import iterations
from experiments.bench import products
from experiments.bench import report as bench_report
from experiments.bench import shapes as named
from experiments.bench import steps
from experiments.bench import throughput
from experiments.gyro import paper


@pytest.fixture(autouse=True)
def restored_flags():
  saved = [
    (binary.FLAGS, flagsaver.save_flag_values(binary.FLAGS))
    for binary in (throughput,)
  ]
  yield
  for values, old in saved:
    flagsaver.restore_flag_values(old, values)


SHAPE = named.Shape("small", 16, 64, 96)


@pytest.mark.parametrize("direction", products.DIRECTIONS)
def test_op_cell_times_every_candidate_that_runs_here(direction):
  case = products.Case(SHAPE, 0.5, 2, 32, direction)
  rows = products.measure(case, rounds=1, flops_per_call=1e6)
  names = [row["candidate"] for row in rows]
  assert names == ["x @ w", "flax dropout", "dense", "compact", "auto"]
  assert all(row["ms"] > 0 for row in rows)
  assert rows[0]["over_matmul"] == (1, 1, 1)
  # Keeps 1 of 2 input blocks and 2 of 3 output blocks: 1/3 of the work.
  assert rows[0]["ideal"] == pytest.approx(3)


def test_star_varies_one_thing_at_a_time():
  shape = named.Shape("wide", 16, 128, 128)
  cells = list(products.star([shape], (0.5, 0.9), (1, 4), (1, 32), "float32"))
  found = {(c.rate, c.groups, c.block_size) for c in cells}
  assert found == {(0.5, 1, 32), (0.9, 1, 32), (0.5, 4, 32), (0.5, 1, 1)}
  full = list(
    products.star([shape], (0.5, 0.9), (1, 4), (1, 32), "float32", True)
  )
  assert len(full) == 16  # 2 * 2 * 2 cells, two directions.


def test_ideal_step_ratio_by_hand():
  net = steps.Network("n", 20, 2, True, inputs=30)
  # Whole: 2 * 30 * 20 + 3 * 20 * 20 + 3 * 20 * 10 = 3000. Half of the units:
  # 2 * 30 * 10 + 3 * 10 * 10 + 3 * 10 * 10 = 1200.
  assert steps.ideal_ratio(net, 10) == pytest.approx(2.5)
  assert steps.ideal_ratio(net, None) is None


def test_step_candidates_run_and_train(tmp_path):
  net = steps.Network("tiny", 32, 2, True, inputs=16, batch_size=16)
  names = [
    "gyro T=8",
    "sequential T=1",
    "extracted T=1 k=97 caught_up",
  ]
  rows = steps.measure(net, names, num_steps=2, rounds=1)
  assert [row["candidate"] for row in rows] == [steps.BASELINE, *names]
  assert rows[0]["over_conventional"] == (1, 1, 1)
  text = bench_report.markdown(
    {"rows": rows} | bench_report.facts(rounds=1, seconds=90.0)
  )
  assert "sequential T=1" in text and "2 minutes" in text


def test_throughput_command_writes_its_files(tmp_path):
  arguments = ["--smoke", "--part=op", "--rounds=1", f"--out={tmp_path}"]
  throughput.FLAGS(["throughput", *arguments])
  throughput.main(["throughput"])
  result = json.loads((tmp_path / "throughput.json").read_text())
  assert {row["part"] for row in result["rows"]} == {"op"}
  assert "Where auto runs dense, the same program twice" in (
    (tmp_path / "throughput.md").read_text()
  )


def test_dense_layers_alone_are_those_of_the_whole_network():
  for name in ("lenet", "alexnet"):
    whole, alone = (iterations.NETWORKS[name + s] for s in ("", "_fc"))
    # The shapes only: nothing of this size is computed.
    shapes = []
    for net in (whole, alone):
      x = jax.ShapeDtypeStruct((2, *net.inputs), np.float32)
      model = iterations.build(net, "conventional")
      params = jax.eval_shape(
        lambda key, x, model=model: model.init(key, x, train=False),
        jax.random.key(0),
        x,
      )["params"]
      dense = {n: v for n, v in params.items() if not n.startswith("conv")}
      shapes.append(jax.tree.map(lambda leaf: leaf.shape, dense))
    assert shapes[0] == shapes[1]
    assert shapes[0]["hidden_0"]["kernel"] == (*alone.inputs, 1024)


def masks_of(net, method, step):
  """Returns which units a batch keeps: all are positive before dropout."""
  model = iterations.build(net, method)
  x = jnp.ones((net.batch_size, *net.inputs))
  variables = model.init(jax.random.key(0), x[:1], train=False)
  _, found = model.apply(
    jax.tree.map(jnp.abs, variables),
    x,
    **iterations.arguments(net, method, step),
    capture_intermediates=lambda module, _: module.name == "dropout_0",
  )
  return np.asarray(found["intermediates"]["dropout_0"]["__call__"][0]) != 0


def test_methods_drop_what_they_say():
  net = iterations.shrunk(iterations.NETWORKS["lenet_fc"])
  every, gyro, blocks = (
    masks_of(net, method, 3) for method in iterations.METHODS
  )
  assert len(np.unique(every, axis=0)) == 32
  # tau = 16 subnets take two neighbours of 32 rows each.
  np.testing.assert_array_equal(gyro[::2], gyro[1::2])
  assert len(np.unique(gyro, axis=0)) == 16
  # Two subnets of 16 rows, each with one of two blocks of 32 units.
  first = np.arange(64) < 32
  for half in (blocks[:16], blocks[16:]):
    assert (half == first).all() or (half == ~first).all()
  later = masks_of(net, "conventional", 4)
  assert (later != every).any()
  np.testing.assert_array_equal(masks_of(net, "gyro", 4), gyro)


def test_an_iteration_trains_and_gives_the_gradient_of_features():
  net = iterations.shrunk(iterations.NETWORKS["lenet_fc"])
  train = iterations.program(net, "blockwise", "iteration", 40)
  losses = []
  for _ in range(3):
    (_, _, x, _), (loss, dx) = train()
    losses.append(float(loss))
  assert losses[2] < losses[0]
  assert dx.shape == x.shape and float(abs(dx).max()) > 0


def timed_rows(model, part, percent):
  """Rounds of a network: block-wise `percent` faster, gyro as fast."""
  rows = []
  for seed in range(6):
    for phase in iterations.PHASES:
      for method, own in (
        ("conventional", 0.0),
        ("gyro", 0.1 * (-1) ** seed),
        ("blockwise", percent + 0.1 * seed),
      ):
        rows.append(
          {
            "model": model,
            "part": part,
            "method": method,
            "phase": phase,
            "seed": seed,
            "batch_size": 256,
            "ms": 1.0,
            "speedup_percent": own,
          }
        )
  return rows


def test_verdicts_on_speed_read_the_rounds():
  rows = timed_rows("mlp1", "mlp", 20.0) + timed_rows("lenet", "cnn", -3.0)
  said = {v.claim.name: v for v in figure_7.judge(rows)}
  assert said["gyro_is_as_fast"].outcome == "holds"
  assert set(said["gyro_is_as_fast"].findings) == {
    "model=lenet part=cnn",
    "model=mlp1 part=mlp",
  }
  assert said["blockwise_is_faster"].outcome == "holds"
  assert said["blockwise_is_faster_on_cnns"].outcome == "does not hold"
  # Forward and backward are told of MLPs alone.
  assert list(said["blockwise_forward_is_faster"].findings) == ["model=mlp1"]
  assert said["blockwise_is_faster_on_fc_layers"].reason == "not run"
  text = "\n".join(figure_7.iterations(rows, "cpu: x 1"))
  assert "a CPU, and say nothing about that GPU" in text
  assert "+20.2 [+20.0, +20.5]" in text


def by_hand(keep, rows, outputs):
  """Walks CUTLASS's tiles one after another."""
  slots = [r * len(keep) // rows for r in range(rows)]
  flops = loads = shared = 0
  for top in range(0, rows, 128):
    tile = [keep[slots[r]] for r in range(top, min(top + 128, rows))]
    for _ in range(0, outputs, 128):
      for i in range(keep.shape[1]):
        if any(row[i] for row in tile):
          loads += 128  # a row of w's tile
          shared += 32 * (32 + 16)  # each of 32 warp tiles
        for warp in range(0, 128, 32):
          if any(row[i] for row in tile[warp : warp + 32]):
            flops += 2 * 32 * 128
      for line in range(0, keep.shape[1], 32):
        if any(row[line : line + 32].any() for row in tile):
          loads += 128 * 32  # of x
  return block_work.Work(flops, loads, shared)


@pytest.mark.parametrize(
  ("groups", "rows", "outputs"), [(2, 256, 256), (8, 256, 128), (3, 200, 100)]
)
def test_work_is_that_of_a_walk_over_tiles(groups, rows, outputs):
  keep = np.random.default_rng(groups).random((groups, 96)) < 0.15
  assert block_work.count(keep, rows, outputs) == by_hand(keep, rows, outputs)
  with pytest.raises(ValueError, match="multiples of the warp's"):
    block_work.Tiling(rows=100)


def test_table_7_counts_are_near_the_papers_profile():
  counts = figure_7.count_table_7(shapes=[(128, 32)])
  counts += figure_7.count_table_7((0.5,), [(32, 128)])
  ours = {(r["rows"], r["rate"]): r for r in counts}
  for rate, (_, flops, loads, shared) in paper.TABLE_7.items():
    row = ours[128, rate]
    # Rate .1: 29 of 32 blocks stay here, 28 there.
    slack = 3.2 if rate == 0.1 else 0.1
    assert row["flops"] == pytest.approx(flops, abs=slack)
    # Our tiles load nothing but operands; a profile counts some 6 % more.
    assert row["global_loads"] == pytest.approx(loads, abs=slack + 1.2)
    assert row["shared_loads"] == pytest.approx(shared, abs=slack + 3.8)
  # Four masks meet in a tile: its warps skip as much, its loads do not.
  wide = ours[32, 0.5]
  assert wide["flops"] == pytest.approx(50) and wide["shared_loads"] > 80
  text = "\n".join(figure_7.table_7(counts, []))
  assert "25.00 (25.07)" in text


def test_figure_7_command_writes_tables_verdicts_and_figure(
  tmp_path, monkeypatch
):
  # Two methods, and no product timed: each program takes long to compile.
  monkeypatch.setattr(iterations, "METHODS", ("conventional", "blockwise"))
  timed = []

  def measure(case, rounds, flops_per_call):
    timed.append((case.groups, case.block_size, case.rate, rounds))
    own = {"rate": case.rate, "over_matmul": (1.25, 1.0, 1.5)}
    return [{"candidate": name, **own} for name in ("dense", "auto")]

  monkeypatch.setattr(products, "measure", measure)
  arguments = ["--smoke", "--part=iteration", "--part=table7", "--rounds=1"]
  arguments += ["--networks=lenet_fc", f"--out={tmp_path}"]
  throughput.FLAGS(["throughput", *arguments])
  throughput.main(["throughput"])
  result = json.loads((tmp_path / "throughput.json").read_text())
  assert {row["model"] for row in result["iterations"]} == {"lenet_fc"}
  assert len(result["iterations"]) == 6  # 2 methods, 3 phases, 1 round
  assert len(result["verdicts"]) == 7
  assert timed == [(2, 32, 0.5, 1)]
  page = (tmp_path / "throughput.md").read_text()
  for words in (
    "figure 7",
    "table 7",
    "No verdicts: one needs 5 paired seeds",
    "lenet_fc",
  ):
    assert words in page
  assert page.count("1.25 [1.00, 1.50]") == 1
  assert (tmp_path / "figure7.png").read_bytes()[1:4] == b"PNG"


def test_unknown_networks_are_named():
  throughput.FLAGS(["throughput", "--networks=lenet,resnet"])
  with pytest.raises(ValueError, match="among .* got resnet"):
    throughput.main(["throughput"])


def test_unknown_shapes_are_named():
  throughput.FLAGS(["throughput", "--shapes=mlp-first,square"])
  with pytest.raises(ValueError, match="among .* got square"):
    throughput.time_op()
