"""The benchmarks of products and steps, at sizes that prove they run."""

import json
import pathlib

import pytest
from absl.testing import flagsaver

from experiments import gpu_suite
from experiments import throughput
from experiments.shared import op_bench
from experiments.shared import step_bench
from experiments.shared import throughput_report
from kdropout_jax.ops import problems


@pytest.fixture(autouse=True)
def restored_flags():
  saved = [
    (binary.FLAGS, flagsaver.save_flag_values(binary.FLAGS))
    for binary in (throughput, gpu_suite)
  ]
  yield
  for values, old in saved:
    flagsaver.restore_flag_values(old, values)


SHAPE = problems.Shape("small", 16, 64, 96)


@pytest.mark.parametrize("direction", op_bench.DIRECTIONS)
def test_op_cell_times_every_candidate_that_runs_here(direction):
  case = op_bench.Case(SHAPE, 0.5, 2, 32, direction)
  rows = op_bench.measure(case, rounds=1, flops_per_call=1e6)
  names = [row["candidate"] for row in rows]
  assert names == ["x @ w", "flax dropout", "dense", "compact", "auto"]
  assert all(row["ms"] > 0 for row in rows)
  assert rows[0]["over_matmul"] == (1, 1, 1)
  # Keeps 1 of 2 input blocks and 2 of 3 output blocks: 1/3 of the work.
  assert rows[0]["ideal"] == pytest.approx(3)


def test_star_varies_one_thing_at_a_time():
  shape = problems.Shape("wide", 16, 128, 128)
  cells = list(op_bench.star([shape], (0.5, 0.9), (1, 4), (1, 32), "float32"))
  found = {(c.rate, c.groups, c.block_size) for c in cells}
  assert found == {(0.5, 1, 32), (0.9, 1, 32), (0.5, 4, 32), (0.5, 1, 1)}
  full = list(
    op_bench.star([shape], (0.5, 0.9), (1, 4), (1, 32), "float32", True)
  )
  assert len(full) == 16  # 2 * 2 * 2 cells, two directions.


def test_ideal_step_ratio_by_hand():
  net = step_bench.Network("n", 20, 2, True, inputs=30)
  # Whole: 2 * 30 * 20 + 3 * 20 * 20 + 3 * 20 * 10 = 3000. Half of the units:
  # 2 * 30 * 10 + 3 * 10 * 10 + 3 * 10 * 10 = 1200.
  assert step_bench.ideal_ratio(net, 10) == pytest.approx(2.5)
  assert step_bench.ideal_ratio(net, None) is None


def test_step_candidates_run_and_train(tmp_path):
  net = step_bench.Network("tiny", 32, 2, True, inputs=16, batch_size=16)
  names = [
    "gyro T=8",
    "sequential T=1",
    "extracted T=1 k=97 caught_up",
  ]
  rows = step_bench.measure(net, names, num_steps=2, rounds=1)
  assert [row["candidate"] for row in rows] == [step_bench.BASELINE, *names]
  assert rows[0]["over_conventional"] == (1, 1, 1)
  text = throughput_report.markdown(
    {
      "device": "a",
      "versions": {"jax": "b"},
      "rounds": 1,
      "tunables": "",
      "rows": rows,
    }
  )
  assert "sequential T=1" in text


def test_throughput_command_writes_its_files(tmp_path):
  arguments = ["--smoke", "--part=op", "--rounds=1", f"--out={tmp_path}"]
  throughput.FLAGS(["throughput", *arguments])
  throughput.main(["throughput"])
  result = json.loads((tmp_path / "throughput.json").read_text())
  assert {row["part"] for row in result["rows"]} == {"op"}
  assert "auto against dense: worst median" in (
    (tmp_path / "throughput.md").read_text()
  )


JUNIT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure/></testcase>
<testcase name="c"><skipped/></testcase><testcase name="d"><error/></testcase>
</testsuite></testsuites>"""


def test_gpu_suite_counts_what_executed(tmp_path: pathlib.Path):
  report = tmp_path / "junit.xml"
  report.write_text(JUNIT)
  counts = gpu_suite.count_tests(report)
  assert counts == {"executed": 3, "failed": 2, "skipped": 1}
  with pytest.raises(SystemExit, match="2 kernel tests failed"):
    gpu_suite.check_counts(counts)
  with pytest.raises(SystemExit, match="no kernel test executed"):
    gpu_suite.check_counts({"executed": 0, "failed": 0, "skipped": 9})


def test_gpu_suite_refuses_a_machine_without_a_gpu():
  gpu_suite.FLAGS(["gpu_suite"])
  with pytest.raises(SystemExit, match="needs a CUDA device"):
    gpu_suite.main(["gpu_suite"])


def test_unknown_shapes_are_named():
  throughput.FLAGS(["throughput", "--shapes=mlp-first,square"])
  with pytest.raises(throughput.app.UsageError, match="among .* got square"):
    throughput.time_op()


def test_gpu_suite_names_what_it_leaves_out():
  gpu_suite.FLAGS(["gpu_suite", "--smoke"])
  rows, left_out = gpu_suite.measure(deadline=0.0)
  assert rows == [] and len(left_out) == 3
